// Command rkt fetches OCI images and runs them as pods, without a daemon.
//
// One file per verb holds its options, its flags and its function; root.go
// lists the verbs, environment.go holds what they share, exit.go turns an error
// into what the user sees. Decisions live in the packages below, not here.
package main

import (
	"context"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"rkt/stage0"
	"rkt/stage0/pod"
)

func main() {
	unix.Umask(0o022) // modes on disk are ours, not the caller's

	ctx, cancel := context.WithCancel(context.Background())
	env := newEnvironment(os.Stdin, os.Stdout, os.Stderr)
	env.catchSignals = sync.OnceFunc(func() { env.catch(cancel) })
	env.handover = stage0.TakeHandover() // one of the files has the number of the lock
	err := pod.ReserveLockFD()           // before anything of ours gets that number
	if err == nil {
		err = newRootCommand(env, os.Args[1:]).ExecuteContext(ctx)
	}
	code := report(env.stderr, err)
	if code != 0 {
		env.dieOfCaught()
	}
	os.Exit(code)
}
