package trust

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"rkt/cas"
	"rkt/internal/mutant"
)

const (
	maxIdentities = 64   // of a rule
	maxMatcher    = 2048 // bytes of a text or an expression in one
)

// Identity is whom signatures with certificates are accepted of: an issuer, who
// knows people and programs, and a subject that it vouches for. Of each pair one
// is set; an expression must match the whole text.
type Identity struct {
	Issuer        string `json:"issuer,omitempty"`
	IssuerRegexp  string `json:"issuerRegexp,omitempty"`
	Subject       string `json:"subject,omitempty"`
	SubjectRegexp string `json:"subjectRegexp,omitempty"`
}

// Check refuses an identity that could be anybody. It does not compile the
// expressions, which takes longer than all else that a start reads.
func (i Identity) Check() error {
	if (i.Issuer == "") == (i.IssuerRegexp == "") {
		return errors.New("an identity needs either an issuer or an expression for it")
	}
	if (i.Subject == "") == (i.SubjectRegexp == "") {
		return errors.New("an identity needs either a subject or an expression for it")
	}
	if n := max(len(i.Issuer), len(i.IssuerRegexp), len(i.Subject), len(i.SubjectRegexp)); n > maxMatcher {
		return fmt.Errorf("an identity of %d bytes, limit is %d", n, maxMatcher)
	}
	return nil
}

// Matches reports whether a signer is of the identity. An expression that is not
// well-formed is an error and names nobody.
func (i Identity) Matches(issuer, subject string) (bool, error) {
	ok, err := matches(i.Issuer, i.IssuerRegexp, issuer)
	if err != nil || !ok {
		return false, err
	}
	return matches(i.Subject, i.SubjectRegexp, subject)
}

// CheckExpressions refuses an identity with an expression that is not well-formed.
func (i Identity) CheckExpressions() error {
	for _, expression := range []string{i.IssuerRegexp, i.SubjectRegexp} {
		if _, err := matches("", expression, ""); err != nil {
			return err
		}
	}
	return nil
}

// matches anchors the expression at both ends: one that its author has forgotten
// to anchor would name strangers.
func matches(plain, expression, text string) (bool, error) {
	if expression == "" {
		return plain != "" && plain == text, nil
	}
	whole := "^(?:" + expression + ")$"
	if mutant.On("unanchored") {
		whole = expression
	}
	r, err := regexp.Compile(whole)
	if err != nil {
		return false, fmt.Errorf("identity: %w", err)
	}
	return r.MatchString(text), nil
}

func (i Identity) String() string {
	text := func(plain, expression string) string {
		if expression != "" {
			return "/" + expression + "/"
		}
		return plain
	}
	return text(i.Subject, i.SubjectRegexp) + " of " + text(i.Issuer, i.IssuerRegexp)
}

// Signer is who signed an image: the fingerprint of a key, or an issuer and a
// subject.
type Signer struct {
	Key     string     `json:"key,omitempty"`
	Issuer  string     `json:"issuer,omitempty"`
	Subject string     `json:"subject,omitempty"`
	Digest  cas.Digest `json:"digest"`          // what was signed: the manifest, or the index that led to it
	Time    time.Time  `json:"time,omitzero"`   // when, if something but the key proves it
	Proof   string     `json:"proof,omitempty"` // of the time: "log" or "timestamp"
}

// String names the signer in one line. Its text may be a stranger's: escape it.
func (s *Signer) String() string {
	if s == nil {
		return ""
	}
	if s.Key != "" {
		return "key " + s.Key
	}
	return s.Subject + " (" + s.Issuer + ")"
}
