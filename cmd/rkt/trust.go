package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rkt/image/trust"
)

func newTrustCommand(env *environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "trust",
		Short: "Say which images may be used",
		Long: `Say which images may be used, by the beginning of their names.

The rule with the longest PREFIX decides; "*" is about all names. An image that no
rule is about is asked about on a terminal and refused elsewhere. Images from
local files need no rule.`,
		Example: "  rkt trust add --accept docker.io/library",
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
		Args:    noSubcommand,
	}
	c.AddCommand(newTrustAddCommand(env), newTrustListCommand(env), newTrustRemoveCommand(env))
	return c
}

// trustAddOptions are the flags of "rkt trust add", one of which is needed.
type trustAddOptions struct {
	accept, pinned, reject, ask bool
}

func (o *trustAddOptions) flags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.accept, "accept", false, "use these images")
	fs.BoolVar(&o.pinned, "pinned", false, "use these images when the digest is given: NAME@sha256:...")
	fs.BoolVar(&o.reject, "reject", false, "never use these images")
	fs.BoolVar(&o.ask, "ask", false, "ask about these images, as without a rule")
}

// action returns the one that was chosen.
func (o *trustAddOptions) action() (trust.Action, error) {
	var chosen []trust.Action
	for action, on := range map[trust.Action]bool{
		trust.Accept: o.accept, trust.Pinned: o.pinned, trust.Reject: o.reject, trust.Ask: o.ask,
	} {
		if on {
			chosen = append(chosen, action)
		}
	}
	if len(chosen) != 1 {
		return "", &usageError{message: "expected one of --accept, --pinned, --reject and --ask", help: "rkt trust add --help"}
	}
	return chosen[0], nil
}

func newTrustAddCommand(env *environment) *cobra.Command {
	var o trustAddOptions
	c := &cobra.Command{
		Use:   "add --accept|--pinned|--reject|--ask PREFIX...",
		Short: "Write a rule for the images below a prefix",
		Example: `  rkt trust add --accept docker.io/library/nginx
  rkt trust add --reject quay.io`,
		Args: minimumArgs(1, "a prefix of image names"),
		RunE: func(_ *cobra.Command, args []string) error { return trustAdd(env, o, args) },
	}
	o.flags(c.Flags())
	return c
}

func trustAdd(env *environment, o trustAddOptions, prefixes []string) error {
	action, err := o.action()
	if err != nil {
		return err
	}
	var rules []trust.Rule
	for _, p := range prefixes {
		prefix, err := trust.ParsePrefix(p)
		if err != nil {
			return err
		}
		rules = append(rules, trust.Rule{Prefix: prefix, Action: action})
	}
	if err := requireRoot("trust add"); err != nil {
		return err
	}
	dirs, err := env.trustDirs()
	if err != nil {
		return err
	}
	for _, r := range rules {
		if err := trust.Add(dirs[len(dirs)-1], r); err != nil {
			return fmt.Errorf("add rule for %q: %w", r.Prefix, err)
		}
	}
	return nil
}

func newTrustRemoveCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "rm PREFIX...",
		Short:   "Take rules out of force",
		Example: "  rkt trust rm docker.io/library/nginx",
		Args:    minimumArgs(1, "the prefix of a rule"),
		RunE:    func(_ *cobra.Command, args []string) error { return trustRemove(env, args) },
	}
}

func trustRemove(env *environment, prefixes []string) error {
	if err := requireRoot("trust rm"); err != nil {
		return err
	}
	dirs, err := env.trustDirs()
	if err != nil {
		return err
	}
	last := len(dirs) - 1
	for _, p := range prefixes {
		prefix, err := trust.ParsePrefix(p)
		if err != nil {
			return err
		}
		err = trust.Remove(dirs[last], dirs[:last], prefix)
		if errors.Is(err, trust.ErrNoRule) {
			return withHint(fmt.Errorf("no rule for the prefix %q", prefix), "rkt trust list")
		}
		if err != nil {
			return fmt.Errorf("remove rule for %q: %w", prefix, err)
		}
	}
	return nil
}

func newTrustListCommand(env *environment) *cobra.Command {
	var o tableOptions
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the rules in force",
		Example: "  rkt trust list",
		Args:    exactArgs(0, "no arguments"),
		RunE:    func(*cobra.Command, []string) error { return trustList(env, o) },
	}
	o.flags(c.Flags())
	return c
}

// trustRow is a rule as --format=json shows it.
type trustRow struct {
	Prefix string       `json:"prefix"`
	Action trust.Action `json:"action"`
	File   string       `json:"file"`
}

func trustList(env *environment, o tableOptions) error {
	if err := o.check("rkt trust list --help"); err != nil {
		return err
	}
	dirs, err := env.trustDirs()
	if err != nil {
		return err
	}
	policy, err := trust.Load(dirs...)
	if err != nil {
		return fmt.Errorf("read trust policy: %w", err)
	}
	rows, cells := []trustRow{}, [][]string{}
	for _, r := range policy.Rules() {
		rows = append(rows, trustRow{r.Prefix, r.Action, r.Path})
		cells = append(cells, []string{r.Prefix, string(r.Action), r.Path})
	}
	return o.write(env.stdout, rows, []string{"PREFIX", "ACTION", "FILE"}, cells)
}
