// Package trust decides by the names of images whether they may be used. It
// reads rules from trust.d folders and knows neither images nor registries.
// Begin with Load and Policy.Decide.
package trust

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"rkt/cas"
	"rkt/image/name"
)

// Action is what a rule says about the images below its prefix.
type Action string

// The actions.
const (
	Accept Action = "accept"
	Pinned Action = "pinned" // only by explicit digest
	Reject Action = "reject"
	Ask    Action = "ask"
)

// AnyName is the prefix of all names; every other prefix is longer.
const AnyName = "*"

var (
	// ErrNoRule reports a prefix that no rule in force has.
	ErrNoRule = errors.New("no such rule")
	// ErrPrefix reports a text that cannot be the beginning of an image name.
	ErrPrefix = errors.New("malformed prefix")
)

// Rule is the rule for the image names below a prefix. The longest prefix wins.
type Rule struct {
	// Prefix is a host and any number of path components ("quay.io/etcd-io"),
	// or AnyName.
	Prefix string `json:"prefix"`
	Action Action `json:"action"`
	// Path is the file that the rule comes from.
	Path string `json:"-"`
}

// check refuses a rule that does not mean anything.
func (r *Rule) check() error {
	prefix, err := ParsePrefix(r.Prefix)
	if err != nil {
		return err
	}
	if prefix != r.Prefix {
		return fmt.Errorf("%w %q: write %q", ErrPrefix, r.Prefix, prefix)
	}
	if !slices.Contains([]Action{Accept, Pinned, Reject, Ask}, r.Action) {
		return fmt.Errorf("unknown action %.100q, known are accept, pinned, reject, ask", r.Action)
	}
	return nil
}

// covers reports whether the rule is about an image name. A prefix ends at the
// end of a component: example.com/app is not about example.com/app-evil, and
// example.com not about example.com:8443.
func (r *Rule) covers(name string) bool {
	if r.Prefix == AnyName {
		return true
	}
	rest, ok := strings.CutPrefix(name, r.Prefix)
	return ok && (rest == "" || rest[0] == '/')
}

// ParsePrefix checks a prefix and brings it into the form that names have. The
// error is ErrPrefix.
func ParsePrefix(s string) (string, error) {
	if s == AnyName {
		return s, nil
	}
	host, path, below := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(s, "docker://"), "/"), "/")
	host = strings.ToLower(host)
	if host == "index.docker.io" {
		host = "docker.io" // the names of its images say so
	}
	if !strings.ContainsAny(host, ".:") && host != "localhost" {
		return "", fmt.Errorf("%w %.300q: it must begin with a host (docker.io/library/nginx, quay.io)", ErrPrefix, s)
	}
	prefix, probe := host, "x"
	if below {
		prefix, probe = host+"/"+path, path
	}
	if err := name.Check(host, probe); err != nil {
		return "", fmt.Errorf("%w %.300q: want HOST[/PATH...], without tag and digest", ErrPrefix, s)
	}
	return prefix, nil
}

// Policy is the set of rules in force. The zero Policy has none and asks.
type Policy struct{ rules []Rule }

// Rules returns the rules in force, sorted by prefix.
func (p *Policy) Rules() []Rule { return slices.Clone(p.rules) }

// Hash identifies the rules: equal hashes decide equally.
func (p *Policy) Hash() string {
	h := sha256.New()
	for _, r := range p.rules {
		fmt.Fprintf(h, "%s %s\n", r.Prefix, r.Action)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func sortRules(rules []Rule) {
	slices.SortFunc(rules, func(a, b Rule) int { return cmp.Compare(a.Prefix, b.Prefix) })
}

// Decision is what a policy says about one image.
type Decision struct {
	Action Action // Accept, Reject or Ask
	Rule   Rule   // the zero Rule when none matched
	Reason string // for the user
}

// Decide decides about the image name ("host/repository"). pinned: the user
// gave its digest. local: it comes from a local path, which needs no rule.
func (p *Policy) Decide(name string, pinned, local bool) Decision {
	if local {
		return Decision{Action: Accept, Reason: "local images need no rule"}
	}
	var best *Rule
	for i := range p.rules {
		r := &p.rules[i]
		if r.covers(name) && (best == nil || best.Prefix == AnyName || len(r.Prefix) > len(best.Prefix)) {
			best = r
		}
	}
	if best == nil {
		return Decision{Action: Ask, Reason: "no rule is about it"}
	}
	d := Decision{Action: best.Action, Rule: *best, Reason: fmt.Sprintf("the rule for %q says %s", best.Prefix, best.Action)}
	if best.Action == Pinned {
		d.Action = Accept
		if !pinned {
			d.Action = Reject
			d.Reason = fmt.Sprintf("the rule for %q wants the digest to be given", best.Prefix)
		}
	}
	return d
}

// Verdict is a decision as it is recorded with an image.
type Verdict struct {
	Action     Action     `json:"action,omitempty"` // Accept, or the one that --insecure-options=image overruled
	Rule       string     `json:"rule,omitempty"`   // its prefix
	PolicyHash string     `json:"policyHash,omitempty"`
	Manifest   cas.Digest `json:"manifest,omitzero"`
	// Insecure is set when the policy was switched off for the command.
	Insecure bool `json:"insecure,omitempty"`
}

// Verdict makes the record of a decision about the image with that manifest.
func (p *Policy) Verdict(d Decision, manifest cas.Digest, insecure bool) Verdict {
	return Verdict{Action: d.Action, Rule: d.Rule.Prefix, PolicyHash: p.Hash(), Manifest: manifest, Insecure: insecure}
}

// Holds reports whether the verdict accepts that manifest under the policy p as
// it is now. If not, the image must be decided about again. What was let in
// against the policy never holds.
func (v Verdict) Holds(p *Policy, manifest cas.Digest) bool {
	return v.Action == Accept && !v.Insecure && !manifest.IsZero() && v.Manifest == manifest && v.PolicyHash == p.Hash()
}

// Refused is the error of an image that the policy does not let in. It is for
// the fetcher to make.
type Refused struct {
	Name string
	Decision
}

func (e *Refused) Error() string {
	if e.Rule.Path != "" {
		return fmt.Sprintf("image %q is not trusted: %s (%s)", e.Name, e.Reason, e.Rule.Path)
	}
	return fmt.Sprintf("image %q is not trusted: %s", e.Name, e.Reason)
}

// Hint names the command that would let the image in; "" if there is none.
func (e *Refused) Hint() string {
	switch {
	case e.Rule.Action == Pinned:
		return "give the digest: " + e.Name + "@sha256:..."
	case e.Rule.Action == Reject:
		// Somebody wants it so. Who may change that can, and sees what.
		return fmt.Sprintf("the rule is in %s; rkt trust rm %q would take it out of force", e.Rule.Path, e.Rule.Prefix)
	case e.Name == "" || e.Action == Reject: // the user said no
		return ""
	}
	return "rkt trust add --accept " + e.Name
}
