package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rkt/fetch"
	"rkt/image"
	"rkt/image/trust"
	"rkt/internal/escape"
)

func newTrustCheckCommand(env *environment) *cobra.Command {
	var o formatOption
	c := &cobra.Command{
		Use:   "check REF",
		Short: "Tell what would happen to an image, and why",
		Long: `Tell what would happen to an image, and why, without asking the registry. The
signatures of an image in the store are verified again where its verdict does not
hold any more. The exit status is 0 unless the image would be refused.`,
		Example: "  rkt trust check quay.io/team/app:v1",
		Args:    exactArgs(1, "the name of an image"),
		RunE:    func(c *cobra.Command, args []string) error { return trustCheck(c.Context(), env, o, args[0]) },
	}
	o.flags(c.Flags())
	return c
}

// checkResult is what a check says, as --format=json shows it.
type checkResult struct {
	Image    string         `json:"image"`
	Result   string         `json:"result"` // use, fetch, ask or refuse
	Reason   string         `json:"reason"`
	Hint     string         `json:"hint,omitempty"`
	Stored   bool           `json:"stored"`
	Rule     *trustRow      `json:"rule,omitempty"`
	Verdict  *trust.Verdict `json:"verdict,omitempty"`
	SeenFrom string         `json:"seenSignedBy,omitempty"`
}

func trustCheck(ctx context.Context, env *environment, o formatOption, text string) error {
	if err := o.check("rkt trust check --help"); err != nil {
		return err
	}
	ref, err := image.ParseRef(text)
	if err != nil {
		return err
	}
	if err := requireRoot("trust check"); err != nil {
		return err
	}
	fetcher, err := env.fetcher(ctx, newProgress(env.stderr))
	if err != nil {
		return err
	}
	outcome, err := fetcher.Check(ctx, ref)
	var refused *trust.Refused
	if err != nil && !errors.As(err, &refused) {
		return fmt.Errorf("check %q: %w", text, err)
	}
	result := newCheckResult(ref, outcome, refused)
	if o.json() {
		if e := o.writeJSON(env.stdout, result); e != nil {
			return e
		}
	} else if e := result.write(env.stdout); e != nil {
		return e
	}
	return err
}

func newCheckResult(ref image.Ref, o *fetch.Outcome, refused *trust.Refused) checkResult {
	r := checkResult{Image: ref.String(), Reason: o.Decision.Reason, Stored: o.Stored != nil}
	if o.Decision.Rule.Prefix != "" {
		row := newTrustRow(o.Decision.Rule, o.Anchors)
		r.Rule = &row
	}
	if o.Seen != nil {
		r.SeenFrom = o.Seen.Who()
	}
	switch {
	case refused != nil:
		r.Result, r.Reason, r.Hint = "refuse", refused.Reason, refused.Hint()
	case r.Stored:
		r.Result, r.Verdict = "use", &o.Verdict
	case o.Decision.Action == trust.Ask:
		r.Result = "ask"
		r.Reason += "; on a terminal it is asked about, elsewhere refused"
	case o.Decision.Action == trust.Signed:
		r.Result = "fetch"
		r.Reason += "; it is used if one of these has signed it: " + anchorsText(o.Anchors)
	default:
		r.Result = "fetch"
	}
	return r
}

// anchorsText names those who may sign.
func anchorsText(a *trust.Anchors) string {
	var who []string
	for _, k := range a.Keys {
		who = append(who, "key "+k.Fingerprint)
	}
	for _, id := range a.Identities {
		who = append(who, id.String())
	}
	return strings.Join(who, ", ")
}

// write writes the result as lines KEY=VALUE.
func (r checkResult) write(out io.Writer) error {
	var b strings.Builder
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s=%s\n", key, escape.Text(value))
		}
	}
	line("image", r.Image)
	line("result", r.Result)
	line("reason", r.Reason)
	line("stored", map[bool]string{true: "yes", false: "no"}[r.Stored])
	if r.Rule != nil {
		line("rule", r.Rule.Prefix+" "+string(r.Rule.Action))
		line("file", r.Rule.File)
	}
	if v := r.Verdict; v != nil {
		line("tier", v.Tier())
		line("signer", v.Signer.String())
		if v.Signer != nil {
			line("signed-digest", v.Signer.Digest.String())
			if !v.Signer.Time.IsZero() {
				line("signed-at", v.Signer.Time.UTC().Format(time.RFC3339)+" ("+v.Signer.Proof+")")
			}
		}
		line("policy", v.PolicyHash)
	}
	line("seen-signed-by", r.SeenFrom)
	_, err := io.WriteString(out, b.String())
	return err
}
