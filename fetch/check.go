package fetch

import (
	"context"
	"errors"
	"fmt"

	"rkt/cas"
	"rkt/fetch/confined"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/image/trust"
)

// Outcome is what would happen to an image.
type Outcome struct {
	Decision trust.Decision
	Stored   *image.Record // nil = the store does not have it
	Verdict  trust.Verdict // of a stored one that is let in
	// Anchors are what its signatures would be held against; nil = none are wanted.
	Anchors *trust.Anchors
	// Seen says who has signed the repository when it was first seen.
	Seen *trust.Sighting
}

// Check tells what would happen to an image, without a network: of one in the
// store whether it may be used, of another one what is asked of it. It changes
// nothing. The error is a *trust.Refused for an image that would be refused; the
// outcome says why in any case.
func (f *Fetcher) Check(ctx context.Context, ref image.Ref) (*Outcome, error) {
	policy, err := f.policy()
	if err != nil {
		return nil, err
	}
	d, err := f.decide(policy, ref.Name(), !ref.Digest.IsZero(), ref.IsLocal())
	if err != nil {
		return nil, err
	}
	o := &Outcome{Decision: d.Decision, Seen: d.seen}
	if o.Anchors, err = f.anchors(policy, d); err != nil {
		return o, err
	}
	if o.Anchors != nil {
		if err := someAnchor(ref.Name(), d, o.Anchors); err != nil {
			return o, err
		}
	}
	if o.Stored, err = f.find(ref); err != nil {
		return o, err
	}
	if o.Stored == nil {
		if d.Action == trust.Reject {
			err = &trust.Refused{Name: ref.Name(), Decision: d.Decision}
		}
		return o, err
	}
	s := f.subjectIn(subjectOf(ref, o.Stored.Manifest, o.Stored.Index), o.Stored)
	s.quiet, s.dry = true, true
	ok, err := f.holds(policy, o.Stored.Verdict, s)
	if err != nil {
		return o, err
	}
	if o.Verdict = o.Stored.Verdict; !ok {
		o.Verdict, err = f.judge(ctx, policy, s)
	}
	return o, err
}

// CheckAnchors has rkt-fetch look at the keys, identities and the trusted root of
// a, and returns the kinds of the keys, in their order. The error says what is
// wrong with them.
func CheckAnchors(ctx context.Context, program string, a *trust.Anchors) (kinds []string, err error) {
	file, err := memory(nil)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	// Of which image they are about does not matter.
	request := verifyRequest(subject{name: "trust.invalid/check", manifest: cas.Of(nil)}, a)
	job := confined.Job{Role: wire.VerifySignatures, Source: file, Request: request}
	err = confined.Run(ctx, confined.Options{Program: program}, job, verifySilence, func(m wire.Message) error {
		switch m.Type {
		case wire.Note:
			kinds = append(kinds, m.Text)
			return nil
		case wire.Failed:
			return coded(m.Code, "%w", reported{m.Text})
		}
		return fmt.Errorf("rkt-fetch sends message %d about keys", m.Type)
	})
	if err != nil {
		return nil, err
	}
	// Notes about its confinement come first.
	if len(kinds) < len(a.Keys) {
		return nil, errors.New("rkt-fetch does not tell about every key")
	}
	return kinds[len(kinds)-len(a.Keys):], nil
}
