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
	Signed Action = "signed" // only signed by a key of the prefix or by an identity of the rule
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
	// Identities may sign, beside the keys in the folder of the prefix. For Signed.
	Identities []Identity `json:"identities,omitempty"`
	// Proof is what must prove the time of every signature: "log" or "timestamp".
	// Without it, signatures by keys need none, and those by identities an entry
	// in the log where the trusted root names one, else a timestamp. For Signed.
	Proof string `json:"proof,omitempty"`
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
	if !slices.Contains([]Action{Accept, Signed, Pinned, Reject, Ask}, r.Action) {
		return fmt.Errorf("unknown action %.100q, known are accept, signed, pinned, reject, ask", r.Action)
	}
	if r.Action != Signed && (len(r.Identities) > 0 || r.Proof != "") {
		return fmt.Errorf("identities and proof are for the action signed, not for %s", r.Action)
	}
	if !slices.Contains([]string{"", "log", "timestamp"}, r.Proof) {
		return fmt.Errorf("unknown proof %.100q, known are log and timestamp", r.Proof)
	}
	if len(r.Identities) > maxIdentities {
		return fmt.Errorf("%d identities, limit is %d", len(r.Identities), maxIdentities)
	}
	for _, i := range r.Identities {
		if err := i.Check(); err != nil {
			return err
		}
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
type Policy struct {
	rules []Rule
	dirs  []string // the trust.d folders
}

// Rules returns the rules in force, sorted by prefix.
func (p *Policy) Rules() []Rule { return slices.Clone(p.rules) }

// Hash identifies the rules: equal hashes decide equally.
func (p *Policy) Hash() string {
	h := sha256.New()
	for _, r := range p.rules {
		fmt.Fprintf(h, "%s %s %s %q\n", r.Prefix, r.Action, r.Proof, r.Identities)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func sortRules(rules []Rule) {
	slices.SortFunc(rules, func(a, b Rule) int { return cmp.Compare(a.Prefix, b.Prefix) })
}

// Decision is what a policy says about one image.
type Decision struct {
	Action Action // Accept, Signed, Reject or Ask
	Rule   Rule   // the zero Rule when none matched
	Reason string // for the user
	Local  bool
}

// Decide decides about the image name ("host/repository"). pinned: the user
// gave its digest. local: it comes from a local path, which needs no rule.
func (p *Policy) Decide(name string, pinned, local bool) Decision {
	if local {
		return Decision{Action: Accept, Reason: "local images need no rule", Local: true}
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
	Action     Action     `json:"action,omitempty"` // Accept, Signed, or the one that --insecure-options=image overruled
	Rule       string     `json:"rule,omitempty"`   // its prefix
	PolicyHash string     `json:"policyHash,omitempty"`
	Manifest   cas.Digest `json:"manifest,omitzero"`
	// Insecure is set when the policy was switched off for the command.
	Insecure bool `json:"insecure,omitempty"`
	// Local is set for what needs no rule, as it came from this machine.
	Local bool `json:"local,omitempty"`
	// Signer is set for Signed: who. Anchors and Root are the hashes of what the
	// signature was held against.
	Signer  *Signer `json:"signer,omitempty"`
	Anchors string  `json:"anchors,omitempty"`
	Root    string  `json:"root,omitempty"`
}

// Verdict makes the record of a decision about the image with that manifest.
func (p *Policy) Verdict(d Decision, manifest cas.Digest, insecure bool) Verdict {
	return Verdict{Action: d.Action, Rule: d.Rule.Prefix, PolicyHash: p.Hash(), Manifest: manifest, Insecure: insecure, Local: d.Local}
}

// Holds reports whether the verdict accepts that manifest under the policy p as
// it is now, which decides d. If not, the image must be decided about again. What
// was let in against the policy never holds. anchors are those for d, when that
// is Signed: while they are the same, the signature need not be verified again.
func (v Verdict) Holds(p *Policy, d Decision, anchors *Anchors, manifest cas.Digest) bool {
	if v.Insecure || manifest.IsZero() || v.Manifest != manifest {
		return false
	}
	switch {
	case v.Signer != nil:
		return v.Action == Signed && d.Action == Signed && anchors != nil &&
			v.Anchors == anchors.Hash() && v.Root == anchors.RootHash()
	case d.Action == Accept, d.Action == Ask && v.Rule == "": // of Ask: a digest that the user has accepted
		return v.Action == Accept && v.PolicyHash == p.Hash()
	}
	return false
}

// The tiers of Verdict.Tier.
const (
	TierSigned   = "signed"   // by somebody who is trusted
	TierAccepted = "accepted" // by a rule or an answer
	TierLocal    = "local"    // it came from this machine
	TierInsecure = "insecure" // against the policy, for one command
	TierUnknown  = "unknown"  // nobody has decided
)

// Tier names how well the image is known to be the right one.
func (v Verdict) Tier() string {
	switch {
	case v.Insecure:
		return TierInsecure
	case v.Action == Signed && v.Signer != nil:
		return TierSigned
	case v.Action == Accept && v.Local:
		return TierLocal
	case v.Action == Accept:
		return TierAccepted
	}
	return TierUnknown
}
