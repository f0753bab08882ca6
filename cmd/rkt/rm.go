package main

import (
	"context"

	"github.com/spf13/cobra"

	"rkt/stage0"
	"rkt/stage0/pod"
)

func newRmCommand(env *environment) *cobra.Command {
	var o podSelection
	c := &cobra.Command{
		Use:        "rm POD...",
		Short:      "Remove pods that are not running",
		SuggestFor: []string{"remove"},
		Long: `Remove pods that are not running, with their files and everything they hold on
this host. What is alive without a supervisor is killed first.`,
		Example: `  rkt rm web
  rkt rm --uuid-file=/run/web.uuid`,
		ValidArgsFunction: env.completePods,
		RunE:              func(c *cobra.Command, args []string) error { return rm(c.Context(), env, o, args) },
	}
	o.flags(c.Flags())
	return c
}

func rm(ctx context.Context, env *environment, o podSelection, args []string) error {
	words, err := o.words(args, "rkt rm --help")
	if err != nil {
		return err
	}
	if err := requireRoot("rm"); err != nil {
		return err
	}
	on, err := env.podEnv()
	if err != nil {
		return err
	}
	return env.eachPod("rm", words, func(p *pod.Pod) error { return stage0.Remove(ctx, on, p) })
}
