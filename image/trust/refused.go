package trust

import (
	"fmt"
	"strings"
)

// Refused is the error of an image that the policy does not let in. It is for
// the fetcher to make.
type Refused struct {
	Name string
	Decision
	// Fetch is set for an image of the store whose signatures there do not do: the
	// reference by which the registry can be asked for others.
	Fetch string
	// NoAnchor is set when the rule wants a signature and names nobody.
	NoAnchor bool
	// Signer has signed it well, and is not one whom the rule names.
	Signer *Signer
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
	case e.Fetch != "":
		return "rkt fetch --pull-policy=update " + e.Fetch
	case e.Rule.Action == Pinned:
		return "give the digest: " + e.Name + "@sha256:..."
	case e.Rule.Action == Reject:
		// Somebody wants it so. Who may change that can, and sees what.
		return fmt.Sprintf("the rule is in %s; rkt trust rm %q would take it out of force", e.Rule.Path, e.Rule.Prefix)
	case e.Name == "" || e.Action == Reject: // the user said no
		return ""
	case e.NoAnchor:
		return "rkt trust add --key=FILE " + e.Rule.Prefix
	case e.Signer != nil && e.Signer.Issuer != "":
		return fmt.Sprintf("rkt trust add --identity=%s --issuer=%s %s", quoted(e.Signer.Subject), quoted(e.Signer.Issuer), e.Name)
	}
	return "rkt trust add --accept " + e.Name
}

// quoted makes text from a certificate one word of a command line.
func quoted(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./-_"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
