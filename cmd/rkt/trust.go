package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"rkt/image/trust"
)

func newTrustCommand(env *environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "trust",
		Short: "Say which images may be used",
		Long: `Say which images may be used, by the beginning of their names.

The rule with the longest PREFIX decides; "*" is about all names. An image that no
rule is about is asked about on a terminal and refused elsewhere. Images from
local files need no rule. A repository whose images were once signed by somebody
trusted is not used unsigned later, unless a new rule for it says so.

Rules are files in trust.d, keys are files in trustedkeys/prefix.d, both below
/usr/lib/rkt and /etc/rkt; an empty file there masks the vendor's.`,
		Example: `  rkt trust add --key=release.pub quay.io/team
  rkt trust check quay.io/team/app:v1`,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
		Args: noSubcommand,
	}
	c.AddCommand(
		newTrustAddCommand(env), newTrustListCommand(env), newTrustShowCommand(env), newTrustCheckCommand(env), newTrustRemoveCommand(env),
	)
	return c
}

func newTrustRemoveCommand(env *environment) *cobra.Command {
	var key string
	c := &cobra.Command{
		Use:   "rm [--key=FINGERPRINT] PREFIX...",
		Short: "Take rules, or a key, out of force",
		Long: `Take rules out of force, with their keys and what is remembered of the
repositories below them. With --key, take one key of the prefixes out of force and
leave the rules. Images that nobody trusted has signed then do not start any more.`,
		Example: `  rkt trust rm docker.io/library/nginx
  rkt trust rm --key=5f2e91c0 quay.io/team`,
		Args: minimumArgs(1, "the prefix of a rule"),
		RunE: func(c *cobra.Command, args []string) error { return trustRemove(c.Context(), env, key, args) },
	}
	c.Flags().StringVar(&key, "key", "", "fingerprint of a key, or the first 8 or more digits of it")
	return c
}

func trustRemove(ctx context.Context, env *environment, key string, args []string) error {
	if err := requireRoot("trust rm"); err != nil {
		return err
	}
	dirs, err := env.trustDirs()
	if err != nil {
		return err
	}
	local, vendor := dirs[len(dirs)-1], dirs[:len(dirs)-1]
	prefixes, err := parsePrefixes(args)
	if err != nil {
		return err
	}
	for _, prefix := range prefixes {
		if key != "" {
			err = trust.RemoveKey(local, vendor, prefix, strings.ToLower(key))
			if errors.Is(err, trust.ErrNoKey) {
				return withHint(err, "rkt trust show %s", prefix)
			}
		} else if err = removeRule(ctx, env, local, vendor, prefix); errors.Is(err, trust.ErrNoRule) {
			return withHint(fmt.Errorf("no rule for the prefix %q", prefix), "rkt trust list")
		}
		if err != nil {
			return fmt.Errorf("remove rule for %q: %w", prefix, err)
		}
	}
	return nil
}

// removeRule removes a rule and then what belongs to it: what is between trusts
// nobody.
func removeRule(ctx context.Context, env *environment, local string, vendor []string, prefix string) error {
	if err := trust.Remove(local, vendor, prefix); err != nil {
		return err
	}
	if err := trust.RemoveKeys(local, vendor, prefix); err != nil {
		return err
	}
	seen, err := env.seen()
	if err != nil {
		return err
	}
	return seen.Forget(ctx, prefix)
}

// parsePrefixes checks the prefixes of a command line.
func parsePrefixes(args []string) ([]string, error) {
	var prefixes []string
	for _, arg := range args {
		prefix, err := trust.ParsePrefix(arg)
		if err != nil {
			return nil, err
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes, nil
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
	Prefix     string           `json:"prefix"`
	Action     trust.Action     `json:"action"`
	File       string           `json:"file"`
	Identities []trust.Identity `json:"identities,omitempty"`
	Proof      string           `json:"proof,omitempty"`
	Keys       []keyRow         `json:"keys,omitempty"`
}

// keyRow is a key likewise.
type keyRow struct {
	Fingerprint string `json:"fingerprint"`
	File        string `json:"file"`
}

func newTrustRow(r trust.Rule, a *trust.Anchors) trustRow {
	row := trustRow{Prefix: r.Prefix, Action: r.Action, File: r.Path, Identities: r.Identities, Proof: r.Proof}
	if a != nil {
		for _, k := range a.Keys {
			row.Keys = append(row.Keys, keyRow{k.Fingerprint, k.Path})
		}
	}
	return row
}

func trustList(env *environment, o tableOptions) error {
	if err := o.check("rkt trust list --help"); err != nil {
		return err
	}
	policy, err := env.policy()
	if err != nil {
		return err
	}
	rows, cells := []trustRow{}, [][]string{}
	for _, r := range policy.Rules() {
		signers := "-"
		var anchors *trust.Anchors
		if r.Action == trust.Signed {
			if anchors, err = policy.Anchors(r); err != nil {
				return err
			}
			signers = fmt.Sprintf("%d keys, %d identities", len(anchors.Keys), len(anchors.Identities))
		}
		rows = append(rows, newTrustRow(r, anchors))
		cells = append(cells, []string{r.Prefix, string(r.Action), signers, r.Path})
	}
	return o.write(env.stdout, rows, []string{"PREFIX", "ACTION", "SIGNERS", "FILE"}, cells)
}

// policy reads the rules in force.
func (e *environment) policy() (*trust.Policy, error) {
	dirs, err := e.trustDirs()
	if err != nil {
		return nil, err
	}
	policy, err := trust.Load(dirs...)
	if err != nil {
		return nil, fmt.Errorf("read trust policy: %w", err)
	}
	return policy, nil
}

// seen is what is remembered of repositories that were signed.
func (e *environment) seen() (*trust.Seen, error) {
	if err := e.setUp(); err != nil {
		return nil, err
	}
	return trust.NewSeen(filepath.Join(e.dataDir, "signed")), nil
}
