package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// verb is a command of rkt.
type verb struct {
	name string
	make func(*environment) *cobra.Command
}

// verbs are all the commands of rkt, in the order of the help text.
func verbs() []verb {
	return []verb{
		{"run", newRunCommand},
		{"prepare", newPrepareCommand},
		{"run-prepared", newRunPreparedCommand},
		{"enter", newEnterCommand},
		{"list", newListCommand},
		{"status", newStatusCommand},
		{"logs", newLogsCommand},
		{"stop", newStopCommand},
		{"rm", newRmCommand},
		{"gc", newGCCommand},
		{"fsck", newFsckCommand},
		{"cat-manifest", newCatManifestCommand},
		{"fetch", newFetchCommand},
		{"image", newImageCommand},
		{"trust", newTrustCommand},
		{"volume", newVolumeCommand},
		{"quadlet", newQuadletCommand},
		{"net", newNetCommand},
		{"config", newConfigCommand},
		{"doctor", newDoctorCommand},
		{"version", newVersionCommand},
		{"completion", newCompletionCommand},
		{"announce", newAnnounceCommand},
	}
}

// chosen are the verbs that args need: the one that they name or, for the help
// text, for a mistake and for the shell, all.
func chosen(env *environment, args []string) []verb {
	flags := pflag.NewFlagSet("rkt", pflag.ContinueOnError)
	flags.SetInterspersed(false)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	env.flags(flags)
	all := verbs()
	if err := flags.Parse(args); err != nil || flags.NArg() == 0 {
		return all
	}
	for i, v := range all {
		if v.name == flags.Arg(0) {
			return all[i : i+1]
		}
	}
	return all
}

// becomesStage1 marks the verbs that end in the exec of a stage1.
const becomesStage1 = "becomes-stage1"

// newRootCommand returns the command tree with the arguments to run.
func newRootCommand(env *environment, args []string) *cobra.Command {
	root := &cobra.Command{
		Use:   "rkt",
		Short: "Run OCI images as pods, without a daemon",
		Long: `rkt fetches OCI images and runs them as pods, without a daemon: the rkt process
you start becomes the supervisor of the pod.

Exit status: that of the app; 125 when rkt itself fails, 126 when the command
cannot be executed, 127 when it is not found, 128+n when signal n ended it.`,
		Example: `  rkt run docker://docker.io/library/busybox -- echo hello
  rkt list`,
		Args: noSubcommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
		PersistentPreRun: func(c *cobra.Command, _ []string) {
			if c.Annotations[becomesStage1] == "" {
				env.catchSignals()
			}
		},
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetHelpCommand(newHelpCommand(env))
	env.flags(root.PersistentFlags())
	root.SetFlagErrorFunc(flagError)
	for _, v := range chosen(env, args) {
		root.AddCommand(v.make(env))
	}
	root.SetArgs(args)
	root.SetOut(env.stdout)
	root.SetErr(env.stderr)
	return root
}

// unknownCommand is the error of a word that is no command of parent, with those
// that may be meant: mistyped ones, and those that other programs call so.
func unknownCommand(parent *cobra.Command, word string) error {
	message := fmt.Sprintf("unknown command %q", word)
	if parent.HasParent() {
		message += " of " + parent.CommandPath()
	}
	parent.SuggestionsMinimumDistance = min(2, len(word)/2)
	if meant := parent.SuggestionsFor(word); len(meant) > 0 {
		message += "; did you mean " + strings.Join(meant, " or ") + "?"
	}
	return &usageError{message: message, help: parent.CommandPath() + " --help"}
}

// noSubcommand refuses a word where a command was expected.
func noSubcommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return unknownCommand(c, args[0])
}

// flagError makes one line with a pointer of what pflag says about a flag.
func flagError(c *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	return &usageError{message: strings.TrimPrefix(err.Error(), "pflag: "), help: c.CommandPath() + " --help"}
}

// exactArgs refuses any other number of arguments than n, naming what is expected.
func exactArgs(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == n {
			return nil
		}
		message := fmt.Sprintf("expected %s, got %d arguments", what, len(args))
		if n == 0 {
			message = fmt.Sprintf("unexpected argument %q", args[0])
		}
		return &usageError{message: message, help: c.CommandPath() + " --help"}
	}
}

// minimumArgs refuses fewer than n arguments, naming what is expected.
func minimumArgs(n int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) >= n {
			return nil
		}
		return &usageError{message: fmt.Sprintf("expected %s", what), help: c.CommandPath() + " --help"}
	}
}
