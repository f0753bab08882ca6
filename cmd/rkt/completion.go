package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCompletionCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:       "completion bash|zsh|fish",
		Short:     "Print the completion script of a shell",
		Example:   "  rkt completion bash > /etc/bash_completion.d/rkt",
		Args:      exactArgs(1, "the name of a shell"),
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(c *cobra.Command, args []string) error {
			root := c.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(env.stdout, true)
			case "zsh":
				return root.GenZshCompletion(env.stdout)
			case "fish":
				return root.GenFishCompletion(env.stdout, true)
			}
			return &usageError{message: fmt.Sprintf("unknown shell %q", args[0]), help: "rkt completion --help"}
		},
	}
}
