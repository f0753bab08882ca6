// Command rkt-fetch reads what strangers wrote, so that no privileged process
// has to: images from registries, layouts and archives. It is started by rkt
// with a spool folder and two pipes, see package wire, and is of no use by hand.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"rkt/fetch/ingest"
	"rkt/fetch/wire"
)

// Memory is for fixed buffers; what is garbage is collected early rather than
// kept.
const (
	gcPercent   = 50
	memoryLimit = 72 << 20 // bytes, from which on it is collected as often as needed
)

func main() {
	debug.SetGCPercent(gcPercent)
	debug.SetMemoryLimit(memoryLimit)
	unix.Umask(0o077)
	files, err := open()
	if err == nil {
		err = ingest.Serve(context.Background(), files)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "rkt-fetch:", err)
		os.Exit(1)
	}
}

// open takes the files that it was started with.
func open() (files ingest.Files, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("it is started by rkt, not by hand: %w", err)
		}
	}()
	if files.Spool, err = inherited(wire.SpoolFD, "spool"); err != nil {
		return files, err
	}
	report, err := inherited(wire.ReportFD, "report")
	if err != nil {
		return files, err
	}
	orders, err := inherited(wire.OrderFD, "orders")
	if err != nil {
		return files, err
	}
	files.Report, files.Orders = report, orders
	// Only the request tells whether there is one. Where there is none, the
	// number may be that of a file that the runtime has opened for itself.
	files.Source = func() (*os.File, error) { return inherited(wire.SourceFD, "source") }
	return files, nil
}

func inherited(fd int, name string) (*os.File, error) {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("no file descriptor %d (%s): %w", fd, name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}
