package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rkt/stage0"
)

// defaultShell is what runs in a pod when no command is given.
const defaultShell = "/bin/sh"

// enterOptions are the flags of "rkt enter".
type enterOptions struct {
	app, user, workingDir string
	environment           []string
	terminal, stdin       bool
}

func (o *enterOptions) flags(fs *pflag.FlagSet) {
	fs.StringVar(&o.app, "app", "", "app to enter; not needed when the pod has one")
	fs.StringVar(&o.user, "user", "", "user[:group] by name or number (default the app's)")
	fs.StringVar(&o.workingDir, "working-dir", "", "folder to start in (default the app's)")
	fs.StringArrayVarP(&o.environment, "environment", "e", nil, "NAME=VALUE, or NAME for the caller's value")
	fs.BoolVarP(&o.terminal, "tty", "t", false, "give the command a terminal of its own, joined to this one")
	fs.BoolVarP(&o.stdin, "stdin", "i", true, "pass on stdin; it always is, but from a terminal only with --tty")
	fs.SetInterspersed(false)
}

func newEnterCommand(env *environment) *cobra.Command {
	var o enterOptions
	c := &cobra.Command{
		Use:        "enter [flags] POD [-- COMMAND [args...]]",
		Short:      "Run a command in an app of a running pod",
		SuggestFor: []string{"exec", "attach"},
		Long: `Run a command in an app of a running pod, confined exactly as the app is. Without
a command it is a shell, with a terminal of its own when this is run on one.`,
		Example: `  rkt enter web -- cat /etc/hosts
  rkt enter -it --app=redis 3f2a9c01`,
		Annotations:       map[string]string{becomesStage1: "yes"},
		Args:              minimumArgs(1, "the UUID or the name of a running pod"),
		ValidArgsFunction: env.completeOnePod,
		RunE:              func(c *cobra.Command, args []string) error { return enter(c.Context(), env, o, args[0], args[1:]) },
	}
	o.flags(c.Flags())
	return c
}

func enter(ctx context.Context, env *environment, o enterOptions, word string, command []string) error {
	if err := requireRoot("enter"); err != nil {
		return err
	}
	if len(command) > 0 && command[0] == argsBegin {
		command = command[1:]
	}
	terminal := isTerminal(env.stdin)
	if o.terminal && !terminal {
		return withHint(fmt.Errorf("--tty needs a terminal on stdin"), "enter without --tty")
	}
	if len(command) == 0 {
		command = []string{defaultShell}
		o.terminal = terminal
	}
	host, err := env.podEnv()
	if err != nil {
		return err
	}
	if o.user != "" { // names are resolved with the image's accounts
		if host, err = env.fullEnv(); err != nil {
			return err
		}
	}
	vars, err := variables(o.environment)
	if err != nil {
		return fmt.Errorf("--environment: %w", err)
	}
	p, err := env.findPod(word)
	if err != nil {
		return err
	}
	defer p.Close()
	return stage0.Enter(ctx, host, p, stage0.EnterOptions{
		App: o.app, Args: command, User: o.user, WorkingDir: o.workingDir, Environment: vars,
		Terminal: o.terminal, Term: os.Getenv("TERM"),
	})
}
