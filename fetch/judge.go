package fetch

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/image/trust"
	"rkt/internal/mutant"
)

// subject is an image that is judged.
type subject struct {
	reference, name, registry string
	pinned, local             bool // the user gave the digest; it is of this machine
	manifest, index           cas.Digest
	// signatures reads what came with the image. It is nil when nobody asked for
	// signatures, which is something else than that there are none.
	signatures func() ([]byte, error)
	// fetch is the reference by which others can be asked for, when these are
	// those in the store.
	fetch string
	quiet bool // nobody is to be asked
	dry   bool // nothing is to be remembered
}

// subjectOf is the image that ref means.
func subjectOf(ref image.Ref, manifest, index cas.Digest) subject {
	return subject{
		reference: ref.String(), name: ref.Name(), registry: ref.Host,
		pinned: !ref.Digest.IsZero(), local: ref.IsLocal(), manifest: manifest, index: index,
	}
}

// decision is what the policy says, and what is remembered of the repository when
// that is what decides.
type decision struct {
	trust.Decision
	seen *trust.Sighting
}

// decide finds the rule. A rule that lets in a whole list of names does not let in
// unsigned what was signed before.
func (f *Fetcher) decide(policy *trust.Policy, name string, pinned, local bool) (decision, error) {
	d := decision{Decision: policy.Decide(name, pinned, local)}
	if d.Local || d.Action != trust.Accept && d.Action != trust.Ask || d.Rule.Action == trust.Pinned {
		return d, nil
	}
	var err error
	if mutant.On("forgetsigned") {
		return d, nil
	}
	if d.seen, err = f.o.Seen.Get(name); err != nil || d.seen == nil || d.Action == trust.Ask {
		return d, err
	}
	d.Action = trust.Signed
	d.Reason = fmt.Sprintf("it was signed by %s when it was first seen, on %s", d.seen.Who(), d.seen.First.Format("2006-01-02"))
	return d, nil
}

// anchors returns what signatures are held against; nil when none are wanted.
func (f *Fetcher) anchors(policy *trust.Policy, d decision) (*trust.Anchors, error) {
	switch {
	case d.Action != trust.Signed:
		return nil, nil
	case d.seen != nil:
		return policy.SightingAnchors(d.seen)
	}
	return policy.Anchors(d.Rule)
}

// refuseEarly refuses what no digest and no answer can let in, before anybody
// is asked for anything. It tells whether signatures are wanted.
func (f *Fetcher) refuseEarly(ref image.Ref) (signatures bool, err error) {
	if f.o.Insecure || ref.IsLocal() {
		return false, nil
	}
	policy, err := f.policy()
	if err != nil {
		return false, err
	}
	d, err := f.decide(policy, ref.Name(), !ref.Digest.IsZero(), false)
	if err != nil {
		return false, err
	}
	switch {
	case d.Action == trust.Accept:
		return false, nil
	case d.Action == trust.Ask && f.o.Ask != nil:
		return true, nil
	case d.Action == trust.Signed:
		anchors, err := f.anchors(policy, d)
		if err != nil {
			return false, err
		}
		return true, someAnchor(ref.Name(), d, anchors)
	}
	return false, &trust.Refused{Name: ref.Name(), Decision: d.Decision}
}

// someAnchor refuses what nobody could have signed.
func someAnchor(name string, d decision, a *trust.Anchors) error {
	if len(a.Keys)+len(a.Identities) > 0 {
		return nil
	}
	d.Reason = fmt.Sprintf("the rule for %q wants a signature, and no key and no identity is trusted for it", d.Rule.Prefix)
	return &trust.Refused{Name: name, Decision: d.Decision, NoAnchor: true}
}

// judge decides about an image, asking the user when the policy says so. What is
// not accepted is a *trust.Refused.
func (f *Fetcher) judge(ctx context.Context, policy *trust.Policy, s subject) (trust.Verdict, error) {
	d, err := f.decide(policy, s.name, s.pinned, s.local)
	if err != nil {
		return trust.Verdict{}, err
	}
	switch {
	case d.Action == trust.Accept:
		return policy.Verdict(d.Decision, s.manifest, false), nil
	case f.o.Insecure:
		return policy.Verdict(d.Decision, s.manifest, true), nil
	case d.Action == trust.Signed:
		return f.judgeSigned(ctx, policy, d, s)
	case d.Action == trust.Ask && f.o.Ask != nil && !s.quiet:
		return f.ask(ctx, policy, d, s)
	}
	return trust.Verdict{}, &trust.Refused{Name: s.name, Decision: d.Decision}
}

// judgeSigned lets in what somebody has signed who is trusted.
func (f *Fetcher) judgeSigned(ctx context.Context, policy *trust.Policy, d decision, s subject) (trust.Verdict, error) {
	anchors, err := f.anchors(policy, d)
	if err != nil {
		return trust.Verdict{}, err
	}
	if err := someAnchor(s.name, d, anchors); err != nil {
		return trust.Verdict{}, err
	}
	if s.signatures == nil {
		d.Reason += ", and its signatures were never asked for"
		return trust.Verdict{}, &trust.Refused{Name: s.name, Decision: d.Decision, Fetch: s.reference}
	}
	set, err := s.signatures()
	if err != nil {
		return trust.Verdict{}, err
	}
	signer, strangers, err := f.verify(ctx, s, anchors, set)
	if err != nil {
		if mutant.On("acceptonerror") {
			return policy.Verdict(d.Decision, s.manifest, false), nil
		}
		return trust.Verdict{}, refusal(d, s, strangers, err)
	}
	if d.seen == nil && !s.dry {
		err := f.o.Seen.Note(ctx, s.name, d.Rule, anchors, signer)
		if err != nil && !errors.Is(err, unix.EROFS) {
			return trust.Verdict{}, err
		}
	}
	verdict := policy.Verdict(d.Decision, s.manifest, false)
	verdict.Signer, verdict.Anchors, verdict.Root = signer, anchors.Hash(), anchors.RootHash()
	return verdict, nil
}

// refusal is the error for an image without a signature that is accepted. A
// failure of another kind stays what it is: it lets nothing in either.
func refusal(d decision, s subject, strangers []trust.Signer, err error) error {
	if code := codeOf(err); code != wire.CodeUnsigned && code != wire.CodeSignature {
		return fmt.Errorf("verify signatures of %q: %w", s.name, err)
	}
	refused := &trust.Refused{Name: s.name, Decision: d.Decision, Fetch: s.fetch}
	refused.Reason = fmt.Sprintf("%s, and %v", d.Reason, err)
	if len(strangers) > 0 {
		refused.Signer = &strangers[0]
	}
	return refused
}

// holds reports whether a verdict that was recorded is still right.
func (f *Fetcher) holds(policy *trust.Policy, v trust.Verdict, s subject) (bool, error) {
	d, err := f.decide(policy, s.name, s.pinned, s.local)
	if err != nil {
		return false, err
	}
	anchors, err := f.anchors(policy, d)
	if err != nil {
		return false, err
	}
	if v.Signer != nil && !slices.Contains([]cas.Digest{s.manifest, s.index}, v.Signer.Digest) {
		return false, nil
	}
	if mutant.On("verdictforever") {
		return v.Action == trust.Accept || v.Signer != nil, nil
	}
	return v.Holds(policy, d.Decision, anchors, s.manifest), nil
}
