package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newHelpCommand is cobra's, but for mistakes, which it answers with the help
// text of rkt, and for programs: they get it as data.
func newHelpCommand(env *environment) *cobra.Command {
	var o formatOption
	c := &cobra.Command{
		Use:   "help [command]",
		Short: "Help about any command",
		Example: `  rkt help image list
  rkt help --format=json run | jq -r '.flags[].flags[].name'`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.check("rkt help --help"); err != nil {
				return err
			}
			about, rest, err := c.Root().Traverse(args)
			if err != nil {
				return err
			}
			if len(rest) > 0 {
				return unknownCommand(about, rest[0])
			}
			about.InitDefaultHelpFlag()
			if o.json() {
				return o.writeJSON(env.stdout, describe(env, about))
			}
			return about.Help()
		},
	}
	o.flags(c.Flags())
	return c
}

// commandText is the help text of a command as data, of which dist/man makes the
// manual pages.
type commandText struct {
	Path     string        `json:"path"` // "rkt image list"
	Usage    string        `json:"usage"`
	Short    string        `json:"short"`
	Long     string        `json:"long,omitempty"`
	Example  string        `json:"example,omitempty"`
	Flags    []flagGroup   `json:"flags,omitempty"`
	Commands []commandText `json:"commands,omitempty"`
}

// flagGroup are flags that stand in the same place of a command line.
type flagGroup struct {
	Title string     `json:"title"`
	Flags []flagText `json:"flags"`
}

type flagText struct {
	Name      string `json:"name"`
	Shorthand string `json:"shorthand,omitempty"`
	Value     string `json:"value,omitempty"` // the word for it; "" = a switch
	Default   string `json:"default,omitempty"`
	Usage     string `json:"usage"`
}

// describe returns the help text of a command and of those below it.
func describe(env *environment, c *cobra.Command) commandText {
	t := commandText{Path: c.CommandPath(), Usage: c.UseLine(), Short: c.Short, Long: c.Long, Example: c.Example}
	group := func(title string, flags *pflag.FlagSet) {
		if g := (flagGroup{title, flagTexts(flags)}); len(g.Flags) > 0 {
			t.Flags = append(t.Flags, g)
		}
	}
	if podFlags, ok := env.lines[c]; ok {
		pods, apps := pflag.NewFlagSet("", 0), pflag.NewFlagSet("", 0)
		podFlags(pods)
		(&appOptions{}).flags(apps)
		t.Usage = fmt.Sprintf("%s %s", c.Root().Name(), c.Use)
		group("Pod flags", pods)
		group("App flags", apps)
	} else {
		group("Flags", c.LocalNonPersistentFlags())
	}
	if !c.HasParent() {
		group("Global flags", c.PersistentFlags())
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			t.Commands = append(t.Commands, describe(env, sub))
		}
	}
	return t
}

// flagTexts describes the flags of a set that are meant for users.
func flagTexts(set *pflag.FlagSet) []flagText {
	var texts []flagText
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		t := flagText{Name: f.Name, Shorthand: f.Shorthand, Value: value, Usage: usage}
		switch f.DefValue {
		case "", "0", "[]", "false", "0s":
		default:
			t.Default = f.DefValue
		}
		texts = append(texts, t)
	})
	return texts
}
