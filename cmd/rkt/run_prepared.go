package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"rkt/stage0"
)

func newRunPreparedCommand(env *environment) *cobra.Command {
	var o unitOptions
	c := &cobra.Command{
		Use:               "run-prepared POD",
		Short:             "Run a pod that was prepared",
		SuggestFor:        []string{"start"},
		Example:           "  rkt run-prepared 3f2a9c01",
		Annotations:       map[string]string{becomesStage1: "yes"},
		Args:              exactArgs(1, "the UUID or the name of a prepared pod"),
		ValidArgsFunction: env.completeOnePod,
		RunE:              func(c *cobra.Command, args []string) error { return runPrepared(c.Context(), env, &o, args[0]) },
	}
	o.flags(c.Flags())
	return c
}

func runPrepared(ctx context.Context, env *environment, o *unitOptions, word string) error {
	if err := requireRoot("run-prepared"); err != nil {
		return err
	}
	host, err := env.fullEnv()
	if err != nil {
		return err
	}
	unit, err := o.find(ctx, env, false)
	if err != nil {
		return err
	}
	defer unit.close()
	p, err := env.findPod(word)
	if err != nil {
		return err
	}
	defer p.Close()
	prepared, err := stage0.OpenPrepared(p)
	if err != nil {
		return err
	}
	terminal := isTerminal(env.stdin)
	if prepared.Interactive() && !terminal {
		return withHint(errors.New("the pod was prepared with --interactive, which needs a terminal on stdin"), "run it from a terminal")
	}
	return stage0.Run(ctx, host, prepared, unit.runOptions(prepared, terminal))
}
