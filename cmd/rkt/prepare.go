package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rkt/stage0"
)

// prepareOptions are the flags of "rkt prepare" that stand before the first image.
type prepareOptions struct {
	podOptions
	quiet bool
}

func (o *prepareOptions) flags(fs *pflag.FlagSet) {
	o.podOptions.flags(fs)
	fs.BoolVarP(&o.quiet, "quiet", "q", false, "print the UUID and nothing else, on stderr either")
}

func newPrepareCommand(env *environment) *cobra.Command {
	var o prepareOptions
	return lineCommand(env, &cobra.Command{
		Use:        "prepare [pod flags] IMAGE [app flags] [-- args...] [--- IMAGE ...]",
		Short:      "Prepare a pod to be run later, and print its UUID",
		SuggestFor: []string{"create"},
		Long: `Prepare a pod to be run later by "rkt run-prepared", and print its UUID. What is
printed is on the disk. The grammar and the flags are those of "rkt run".`,
		Example: `  uuid=$(rkt prepare --quiet docker://docker.io/library/busybox -- echo hello)
  rkt run-prepared $uuid`,
	}, o.flags, func(ctx context.Context, apps []*appOptions) error { return prepare(ctx, env, &o, apps) })
}

func prepare(ctx context.Context, env *environment, o *prepareOptions, apps []*appOptions) error {
	if err := requireRoot("prepare"); err != nil {
		return err
	}
	if o.quiet {
		stderr := env.stderr
		env.stderr = io.Discard
		defer func() { env.stderr = stderr }() // errors are told
	}
	host, err := env.fullEnv()
	if err != nil {
		return err
	}
	prepared, err := prepareApps(ctx, env, host, &o.podOptions, apps, stage0.PrepareOptions{Durable: true})
	if err != nil {
		return err
	}
	fmt.Fprintln(env.stdout, prepared.UUID())
	return prepared.Pod.Close()
}
