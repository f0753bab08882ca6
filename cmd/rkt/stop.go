package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rkt/stage0"
	"rkt/stage0/pod"
)

// stopOptions are the flags of "rkt stop".
type stopOptions struct {
	podSelection
	force bool
}

func (o *stopOptions) flags(fs *pflag.FlagSet) {
	o.podSelection.flags(fs)
	fs.BoolVar(&o.force, "force", false, "kill the apps at once, and a supervisor that does not answer")
}

func newStopCommand(env *environment) *cobra.Command {
	var o stopOptions
	c := &cobra.Command{
		Use:        "stop POD...",
		Short:      "Stop pods and wait until they have ended",
		SuggestFor: []string{"kill"},
		Long: `Stop pods and wait until they have ended. Each app gets its stop signal and,
after its grace, SIGKILL. What is alive without a supervisor is killed. Stopping
a pod that has ended is no error.`,
		Example: `  rkt stop web
  rkt stop --force 3f2a 9c11`,
		ValidArgsFunction: env.completePods,
		RunE:              func(c *cobra.Command, args []string) error { return stop(c.Context(), env, o, args) },
	}
	o.flags(c.Flags())
	return c
}

func stop(ctx context.Context, env *environment, o stopOptions, args []string) error {
	words, err := o.words(args, "rkt stop --help")
	if err != nil {
		return err
	}
	if err := requireRoot("stop"); err != nil {
		return err
	}
	return env.eachPod("stop", words, func(p *pod.Pod) error {
		stopped, err := stage0.Stop(ctx, p, stage0.StopOptions{Force: o.force})
		if err == nil && !stopped {
			fmt.Fprintf(env.stderr, "rkt: pod %s has ended already\n", p.UUID())
		}
		return err
	})
}
