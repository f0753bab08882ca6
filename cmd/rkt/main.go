// Command rkt fetches OCI images and runs them as pods, without a daemon.
//
// One file per verb holds its options, its flags and its function; root.go
// lists the verbs, environment.go holds what they share, exit.go turns an error
// into what the user sees. Decisions live in the packages below, not here.
package main

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"rkt/stage0/pod"
)

func main() {
	unix.Umask(0o022) // modes on disk are ours, not the caller's

	reserveErr := pod.ReserveLockFD() // before anything of ours gets that number

	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()

	env := newEnvironment(os.Stdin, os.Stdout, os.Stderr)
	err := reserveErr
	if err == nil {
		err = newRootCommand(env, os.Args[1:]).ExecuteContext(ctx)
	}
	os.Exit(report(env.stderr, err))
}
