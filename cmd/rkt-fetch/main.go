// The runtime would keep a file of the host's cgroups open, for a limit that
// changes while a layer is read.
//go:debug containermaxprocs=0

// Command rkt-fetch reads what strangers wrote, so that no privileged process
// has to: images from registries, layouts and archives. It is started by rkt, in
// several processes, see packages confined and wire, and is of no use by hand.
package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"rkt/fetch/ingest"
)

// Memory is for fixed buffers; what is garbage is collected early rather than
// kept.
const (
	gcPercent   = 50
	memoryLimit = 72 << 20 // bytes, from which on it is collected as often as needed
	// processors is how many goroutines of one process have something to do at once.
	processors = 4
)

func main() {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	if runtime.GOMAXPROCS(0) > processors {
		runtime.GOMAXPROCS(processors)
	}
	unix.Umask(0o077)
	if err := ingest.Main(os.Args, ingest.Options{}); err != nil {
		fmt.Fprintln(os.Stderr, "rkt-fetch:", err)
		os.Exit(1)
	}
}
