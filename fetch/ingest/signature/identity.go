package signature

import (
	"fmt"
	"regexp"
	"strings"

	"rkt/fetch/wire"
	"rkt/image/name"
)

// matcher is an identity whose expressions are compiled.
type matcher struct {
	identity        wire.Identity
	issuer, subject *regexp.Regexp // nil = the text is compared
}

// newMatcher compiles the expressions so that each must match the whole text: one
// that is forgotten to be anchored would name strangers.
func newMatcher(id wire.Identity) (m matcher, err error) {
	m.identity = id
	if id.IssuerRegexp != "" {
		if m.issuer, err = regexp.Compile("^(?:" + id.IssuerRegexp + ")$"); err != nil {
			return m, fmt.Errorf("issuer of an identity: %w", err)
		}
	}
	if id.SubjectRegexp != "" {
		if m.subject, err = regexp.Compile("^(?:" + id.SubjectRegexp + ")$"); err != nil {
			return m, fmt.Errorf("subject of an identity: %w", err)
		}
	}
	return m, nil
}

func (m matcher) matches(s wire.Signer) bool {
	return matches(m.issuer, m.identity.Issuer, s.Issuer) && matches(m.subject, m.identity.Subject, s.Subject)
}

func matches(expression *regexp.Regexp, want, got string) bool {
	if expression != nil {
		return expression.MatchString(got)
	}
	return want != "" && want == got
}

// sameName compares the name in a signature, if there is one, with the name that
// the image is asked for by: a signature must not be used for an image that
// somebody has put elsewhere under its digest. Tags and digests in it say nothing.
func sameName(signed, asked string) error {
	if signed == "" {
		return nil
	}
	n, err := name.Parse(strings.TrimPrefix(signed, "docker://"))
	if err != nil || n.Host+"/"+n.Path != asked {
		return fmt.Errorf("it is for the image %.300q and not for %q", signed, asked)
	}
	return nil
}
