// Package trust decides by the names of images whether they may be used. It
// reads rules from trust.d folders and knows neither images nor registries.
// Begin with Load and Policy.Decide.
package trust

import "rkt/cas"

// Action is what a rule says about the images below its prefix.
type Action string

// The actions.
const (
	Accept Action = "accept"
	Pinned Action = "pinned" // only by explicit digest
	Reject Action = "reject"
	Ask    Action = "ask"
)

// Rule is the rule for the image names below a prefix. The longest prefix wins.
type Rule struct {
	// Prefix is a host and any number of path components ("quay.io/etcd-io"),
	// or "*" for all names.
	Prefix string `json:"prefix"`
	Action Action `json:"action"`
	// Path is the file that the rule comes from.
	Path string `json:"-"`
}

// Policy is the set of rules in force. The zero Policy has none and asks.
type Policy struct{ rules []Rule }

// Load reads the rules of the trust.d folders, vendor's first, the local one
// last. In a later folder an empty file masks the file of that name in the
// earlier ones, and a rule replaces an earlier one for the same prefix. A folder that
// does not exist has no rules. Anything that is not understood, or that others
// than root could write, is an error.
func Load(dirs ...string) (*Policy, error) { return &Policy{}, nil }

// Rules returns the rules in force, sorted by prefix.
func (p *Policy) Rules() []Rule { return nil }

// Hash identifies the rules: equal hashes decide equally.
func (p *Policy) Hash() string { return "" }

// Decision is what a policy says about one image.
type Decision struct {
	Action Action // Accept, Reject or Ask
	Rule   Rule   // the zero Rule when none matched
	Reason string // for the user
}

// Decide decides about the image name ("host/repository"). pinned: the user
// gave its digest. local: it comes from a local path, which needs no rule.
func (p *Policy) Decide(name string, pinned, local bool) Decision { return Decision{Action: Ask} }

// Verdict is a decision as it is recorded with an image.
type Verdict struct {
	Action     Action     `json:"action"` // Accept, or the one that --insecure-options=image overruled
	Rule       string     `json:"rule,omitempty"`
	PolicyHash string     `json:"policyHash"`
	Manifest   cas.Digest `json:"manifest"`
	// Insecure is set when the policy was switched off for the command.
	Insecure bool `json:"insecure,omitempty"`
}

// Verdict makes the record of a decision about the image with that manifest.
func (p *Policy) Verdict(d Decision, manifest cas.Digest, insecure bool) Verdict { return Verdict{} }

// Holds reports whether the verdict accepts that manifest under the policy p as
// it is now. If not, the image must be decided about again.
func (v Verdict) Holds(p *Policy, manifest cas.Digest) bool { return false }

// Refused is the error of an image that the policy does not let in. It is for
// the fetcher to make.
type Refused struct {
	Name string
	Decision
}

func (e *Refused) Error() string { return "image " + e.Name + " is not trusted: " + e.Reason }

// Hint names the command that would let the image in.
func (e *Refused) Hint() string { return "rkt trust add " + e.Name + " accept" }

// Add writes a rule into the trust.d folder dir, durably, in place of one for
// the same prefix.
func Add(dir string, r Rule) error { return nil }

// Remove takes the rule for prefix out of force: it removes it from the folder
// local, and masks it there if a vendor folder has it. The error is ErrNoRule.
func Remove(local string, vendor []string, prefix string) error { return nil }

// ParsePrefix checks a prefix and brings it into the form that names have.
func ParsePrefix(s string) (string, error) { return s, nil }
