package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rkt/fetch"
	"rkt/image/trust"
	"rkt/internal/escape"
)

// trustAddOptions are the flags of "rkt trust add".
type trustAddOptions struct {
	accept, pinned, reject, ask bool

	keys                         []string
	identity, identityExpression string
	issuer, issuerExpression     string
	trustedRoot, proof           string
	yes                          bool
}

func (o *trustAddOptions) flags(fs *pflag.FlagSet) {
	fs.BoolVar(&o.accept, "accept", false, "use these images")
	fs.BoolVar(&o.pinned, "pinned", false, "use these images when the digest is given: NAME@sha256:...")
	fs.BoolVar(&o.reject, "reject", false, "never use these images")
	fs.BoolVar(&o.ask, "ask", false, "ask about these images, as without a rule")
	fs.StringArrayVar(&o.keys, "key", nil, "use these images when they are signed by the public key in this file; may be given several times")
	fs.StringVar(&o.identity, "identity", "", "use these images when this subject has signed them; needs an issuer")
	fs.StringVar(&o.identityExpression, "identity-regexp", "", "the same for subjects that match as a whole")
	fs.StringVar(&o.issuer, "issuer", "", "who vouches for the subject, such as https://accounts.google.com")
	fs.StringVar(&o.issuerExpression, "issuer-regexp", "", "the same for issuers that match as a whole")
	fs.StringVar(&o.trustedRoot, "trusted-root", "", "trusted_root.json with the authorities and logs that prove identities")
	fs.StringVar(&o.proof, "proof", "", `what must prove the time of every signature, "log" or "timestamp"`)
	fs.BoolVar(&o.yes, "yes", false, "do not ask whether the fingerprints are right")
}

const addHelp = "rkt trust add --help"

// action returns the one that was chosen.
func (o *trustAddOptions) action() (trust.Action, error) {
	var chosen []trust.Action
	for action, on := range map[trust.Action]bool{
		trust.Accept: o.accept, trust.Pinned: o.pinned, trust.Reject: o.reject, trust.Ask: o.ask,
		trust.Signed: len(o.keys) > 0 || o.identity+o.identityExpression+o.issuer+o.issuerExpression+o.trustedRoot+o.proof != "",
	} {
		if on {
			chosen = append(chosen, action)
		}
	}
	if len(chosen) != 1 {
		return "", &usageError{message: "expected one of --accept, --pinned, --reject and --ask, or those of --key and --identity that may sign", help: addHelp}
	}
	return chosen[0], nil
}

func newTrustAddCommand(env *environment) *cobra.Command {
	var o trustAddOptions
	c := &cobra.Command{
		Use:   "add --accept|--pinned|--reject|--ask|--key=FILE|--identity=SUBJECT PREFIX...",
		Short: "Write a rule for the images below a prefix",
		Long: `Write a rule for the images below a prefix.

With --key or --identity, the images must be signed. A further key or identity for
the same prefix is added to those it has. On a terminal you are asked whether the
fingerprints are right; elsewhere --yes says so. An identity is a subject and the
issuer that vouches for it; the proof that it has signed is verified with the
trusted root of the prefix or, without one, with trustedkeys/trusted_root.json.`,
		Example: `  rkt trust add --accept docker.io/library/nginx
  rkt trust add --key=release.pub quay.io/team
  rkt trust add --identity=release@team.example --issuer=https://accounts.google.com ghcr.io/team
  rkt trust add --reject quay.io`,
		Args: minimumArgs(1, "a prefix of image names"),
		RunE: func(c *cobra.Command, args []string) error { return trustAdd(c.Context(), env, o, args) },
	}
	o.flags(c.Flags())
	return c
}

func trustAdd(ctx context.Context, env *environment, o trustAddOptions, args []string) error {
	action, err := o.action()
	if err != nil {
		return err
	}
	prefixes, err := parsePrefixes(args)
	if err != nil {
		return err
	}
	if err := requireRoot("trust add"); err != nil {
		return err
	}
	var rules []trust.Rule
	anchors := &trust.Anchors{}
	for _, prefix := range prefixes {
		rules = append(rules, trust.Rule{Prefix: prefix, Action: action})
	}
	if action == trust.Signed {
		if anchors, err = o.anchors(); err != nil {
			return err
		}
		if err := extend(ctx, env, rules, anchors); err != nil {
			return err
		}
		if err := o.review(ctx, env, prefixes, anchors); err != nil {
			return err
		}
	}
	for _, r := range rules {
		if err := addRule(ctx, env, r, anchors); err != nil {
			return fmt.Errorf("add rule for %q: %w", r.Prefix, err)
		}
	}
	return nil
}

// anchors reads what the flags name.
func (o *trustAddOptions) anchors() (*trust.Anchors, error) {
	a := &trust.Anchors{Proof: o.proof}
	for _, path := range o.keys {
		b, err := readSmall(path)
		if err != nil {
			return nil, err
		}
		k, err := trust.ParseKey(b)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", path, err)
		}
		k.Path = path
		if !slices.ContainsFunc(a.Keys, func(other trust.Key) bool { return other.Fingerprint == k.Fingerprint }) {
			a.Keys = append(a.Keys, k)
		}
	}
	if o.trustedRoot != "" {
		b, err := readSmall(o.trustedRoot)
		if err != nil {
			return nil, err
		}
		a.Root, a.RootPath = b, o.trustedRoot
	}
	id := trust.Identity{Issuer: o.issuer, IssuerRegexp: o.issuerExpression, Subject: o.identity, SubjectRegexp: o.identityExpression}
	if id != (trust.Identity{}) {
		if err := id.Check(); err != nil {
			return nil, &usageError{message: err.Error() + ": --identity or --identity-regexp, and --issuer or --issuer-regexp", help: addHelp}
		}
		a.Identities = append(a.Identities, id)
	}
	return a, nil
}

// maxSmall bounds the files that are named on the command line, in bytes.
const maxSmall = 1 << 20

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err == nil && len(b) > maxSmall {
		err = fmt.Errorf("file %q has more than %d bytes", path, maxSmall)
	}
	return b, err
}

// extend puts into the rules what those in force have already, and holds each
// against rkt-fetch: a rule that it cannot use would refuse every image.
func extend(ctx context.Context, env *environment, rules []trust.Rule, added *trust.Anchors) error {
	policy, err := env.policy()
	if err != nil {
		return err
	}
	program, err := env.fetchProgram()
	if err != nil {
		return err
	}
	for i := range rules {
		r := &rules[i]
		if old, ok := policy.Rule(r.Prefix); ok && old.Action == trust.Signed {
			r.Identities, r.Proof = slices.Clone(old.Identities), old.Proof
		}
		for _, id := range added.Identities {
			if !slices.Contains(r.Identities, id) {
				r.Identities = append(r.Identities, id)
			}
		}
		if added.Proof != "" {
			r.Proof = added.Proof
		}
		whole, err := policy.Anchors(*r)
		if err != nil {
			return err
		}
		whole.Keys = append(whole.Keys, added.Keys...)
		if added.Root != nil {
			whole.Root = added.Root
		}
		if _, err := fetch.CheckAnchors(ctx, program, whole); err != nil {
			err = fmt.Errorf("rule for %q: %w", r.Prefix, err)
			if whole.Root == nil && len(whole.Identities) > 0 {
				return withHint(err, "add --trusted-root=FILE, or put the file to %s", "trustedkeys/"+trust.RootFile)
			}
			return err
		}
	}
	return nil
}

// review shows the fingerprints of what is new and wants them confirmed.
func (o *trustAddOptions) review(ctx context.Context, env *environment, prefixes []string, a *trust.Anchors) error {
	if len(a.Keys) == 0 && a.Root == nil {
		return nil
	}
	program, err := env.fetchProgram()
	if err != nil {
		return err
	}
	kinds, err := fetch.CheckAnchors(ctx, program, &trust.Anchors{Keys: a.Keys})
	if err != nil {
		return err
	}
	fmt.Fprintf(env.stderr, "rkt: prefix: %s\n", escape.Text(strings.Join(prefixes, ", ")))
	for i, k := range a.Keys {
		fmt.Fprintf(env.stderr, "rkt: key: %s, %s\nrkt: fingerprint: %s\n", escape.Text(k.Path), escape.Text(kinds[i]), grouped(k.Fingerprint))
	}
	if a.Root != nil {
		sum := sha256.Sum256(a.Root)
		fmt.Fprintf(env.stderr, "rkt: trusted root: %s\nrkt: SHA-256: %s\n", escape.Text(a.RootPath), grouped(hex.EncodeToString(sum[:])))
	}
	if o.yes {
		return nil
	}
	if !isTerminal(env.stdin) || !isTerminal(env.stderr) {
		return &usageError{message: "nobody is here to say whether the fingerprint is right; with --yes it is taken as right", help: addHelp}
	}
	for {
		fmt.Fprint(env.stderr, "rkt: are you sure you want to trust this (yes/no)? ")
		line, err := readLine(ctx, env.stdin)
		if err != nil {
			return err
		}
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "yes":
			return nil
		case "no", "n", "":
			return errors.New("not trusted: you said no")
		}
	}
}

// grouped writes a fingerprint so that people can compare it.
func grouped(hex string) string {
	var groups []string
	for group := range slices.Chunk([]byte(hex), 8) {
		groups = append(groups, string(group))
	}
	return strings.Join(groups, " ")
}

// addRule writes a rule and what belongs to it: the keys first, since without the
// rule they mean nothing.
func addRule(ctx context.Context, env *environment, r trust.Rule, a *trust.Anchors) error {
	dirs, err := env.trustDirs()
	if err != nil {
		return err
	}
	local := dirs[len(dirs)-1]
	for _, k := range a.Keys {
		if err := trust.AddKey(local, r.Prefix, k); err != nil {
			return err
		}
	}
	if a.Root != nil {
		if err := trust.AddRoot(local, r.Prefix, a.Root); err != nil {
			return err
		}
	}
	if err := trust.Add(local, r); err != nil {
		return err
	}
	seen, err := env.seen()
	if err != nil {
		return err
	}
	return seen.Forget(ctx, r.Prefix)
}
