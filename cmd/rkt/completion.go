package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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

// completePods completes a pod by its name or, when it has none, its UUID.
func (e *environment) completePods(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	pods, err := e.pods()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	statuses, _ := listPods(pods, func(string, error) {}) // what cannot be read is not offered
	var words []string
	for _, s := range statuses {
		word := s.Name
		if word == "" {
			word = s.UUID.String()
		}
		words = append(words, word+"\t"+string(s.State))
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeOnePod completes the first argument as a pod, and leaves those after
// it to the shell.
func (e *environment) completeOnePod(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return e.completePods(c, args, word)
}

// completeFlags completes the flags of sets, and leaves other words to the shell.
func completeFlags(word string, sets ...*pflag.FlagSet) ([]string, cobra.ShellCompDirective) {
	if !strings.HasPrefix(word, "-") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var words []string
	for _, set := range sets {
		set.VisitAll(func(f *pflag.Flag) {
			if flag := "--" + f.Name; strings.HasPrefix(flag, word) {
				words = append(words, flag+"\t"+f.Usage)
			}
		})
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}
