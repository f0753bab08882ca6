package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rkt/image/trust"
	"rkt/internal/escape"
)

func newTrustShowCommand(env *environment) *cobra.Command {
	var o formatOption
	c := &cobra.Command{
		Use:     "show PREFIX",
		Short:   "Show a rule with its keys, identities and what is remembered below it",
		Example: "  rkt trust show quay.io/team",
		Args:    exactArgs(1, "the prefix of a rule"),
		RunE:    func(_ *cobra.Command, args []string) error { return trustShow(env, o, args[0]) },
	}
	o.flags(c.Flags())
	return c
}

// shownRule is a rule with what belongs to it, as --format=json shows it.
type shownRule struct {
	trustRow
	Root     string           `json:"trustedRoot,omitempty"`
	RootHash string           `json:"trustedRootHash,omitempty"`
	Seen     []trust.Sighting `json:"seenSigned,omitempty"`
}

func trustShow(env *environment, o formatOption, arg string) error {
	if err := o.check("rkt trust show --help"); err != nil {
		return err
	}
	if err := requireRoot("trust show"); err != nil {
		return err
	}
	prefix, err := trust.ParsePrefix(arg)
	if err != nil {
		return err
	}
	policy, err := env.policy()
	if err != nil {
		return err
	}
	rule, ok := policy.Rule(prefix)
	if !ok {
		return withHint(fmt.Errorf("no rule for the prefix %q", prefix), "rkt trust list")
	}
	anchors, err := policy.Anchors(rule)
	if err != nil {
		return err
	}
	seen, err := env.seen()
	if err != nil {
		return err
	}
	shown := shownRule{trustRow: newTrustRow(rule, anchors), Root: anchors.RootPath, RootHash: anchors.RootHash()}
	if shown.Seen, err = seen.Below(prefix); err != nil {
		return fmt.Errorf("read what is remembered of %q: %w", prefix, err)
	}
	if o.json() {
		return o.writeJSON(env.stdout, shown)
	}
	return shown.write(env.stdout)
}

// write writes the rule as lines KEY=VALUE.
func (r shownRule) write(out io.Writer) error {
	var b strings.Builder
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s=%s\n", key, escape.Text(value))
		}
	}
	line("prefix", r.Prefix)
	line("action", string(r.Action))
	line("file", r.File)
	for _, k := range r.Keys {
		line("key", k.Fingerprint+" "+k.File)
	}
	for _, id := range r.Identities {
		line("identity", id.String())
	}
	line("proof", r.Proof)
	if r.Root != "" {
		line("trusted-root", r.RootHash+" "+r.Root)
	}
	for _, s := range r.Seen {
		line("seen-signed", fmt.Sprintf("%s since %s by %s", s.Name, s.First.UTC().Format(time.DateOnly), s.Who()))
	}
	_, err := io.WriteString(out, b.String())
	return err
}
