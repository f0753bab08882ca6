package fetch

import (
	"context"
	"fmt"

	"rkt/fetch/wire"
	"rkt/image/trust"
)

// ask asks the user about an image that no rule is about, and makes a rule of
// the answer.
func (f *Fetcher) ask(ctx context.Context, policy *trust.Policy, d decision, s subject) (trust.Verdict, error) {
	q := Question{Reference: s.reference, Name: s.name, Registry: s.registry, Manifest: s.manifest, Reason: d.Reason}
	if d.seen != nil {
		q.Before = d.seen.Who()
	}
	if err := f.findSigners(ctx, policy, s, &q); err != nil {
		return trust.Verdict{}, err
	}
	answer, err := f.o.Ask(ctx, q)
	if err != nil {
		return trust.Verdict{}, fmt.Errorf("ask about %q: %w", s.name, err)
	}
	if answer == AnswerDigest {
		// The verdict remembers it; there is nothing to say about other digests.
		d.Action, d.Reason = trust.Accept, "you accepted this digest"
		return policy.Verdict(d.Decision, s.manifest, false), nil
	}
	if answer != AnswerRepository && answer != AnswerRegistry {
		d.Action, d.Reason = trust.Reject, "you said no"
		return trust.Verdict{}, &trust.Refused{Name: s.name, Decision: d.Decision}
	}
	if err := f.obey(ctx, answer, q); err != nil {
		return trust.Verdict{}, err
	}
	if policy, err = f.policy(); err != nil {
		return trust.Verdict{}, err
	}
	s.quiet = true
	return f.judge(ctx, policy, s)
}

// findSigners finds out who has signed what the user is asked about. It can say
// so only where there is a trusted root.
func (f *Fetcher) findSigners(ctx context.Context, policy *trust.Policy, s subject, q *Question) error {
	if s.signatures == nil {
		return nil
	}
	set, err := s.signatures()
	if err != nil {
		return err
	}
	anchors, err := policy.RootAnchors()
	if err != nil {
		return err
	}
	_, q.Signers, err = f.verify(ctx, s, anchors, set)
	switch code := codeOf(err); {
	case err == nil:
		return fmt.Errorf("internal error: a signature of %q is accepted although nobody is", s.name)
	case code == wire.CodeUnsigned:
	case code == wire.CodeSignature && len(q.Signers) == 0:
		q.Unknown = err.Error()
	case code == wire.CodeSignature:
	default:
		return fmt.Errorf("verify signatures of %q: %w", s.name, err)
	}
	return nil
}

// obey makes a rule of an answer. For a repository that is signed the rule says by
// whom; of a registry, its repositories are remembered as they are met.
func (f *Fetcher) obey(ctx context.Context, answer Answer, q Question) error {
	rule := trust.Rule{Action: trust.Accept, Prefix: q.Name}
	if answer == AnswerRegistry {
		rule.Prefix = q.Registry
	}
	// Whoever was seen to sign before is decided about anew.
	if err := f.o.Seen.Forget(ctx, q.Name); err != nil {
		return fmt.Errorf("forget who signed %q: %w", q.Name, err)
	}
	for i, signer := range q.Signers {
		id := trust.Identity{Issuer: signer.Issuer, Subject: signer.Subject}
		if answer == AnswerRepository {
			rule.Action, rule.Identities = trust.Signed, append(rule.Identities, id)
			continue
		}
		anchors := &trust.Anchors{Identities: []trust.Identity{id}}
		if err := f.o.Seen.Note(ctx, q.Name, rule, anchors, &q.Signers[i]); err != nil {
			return err
		}
	}
	if err := trust.Add(f.o.TrustDirs[len(f.o.TrustDirs)-1], rule); err != nil {
		return fmt.Errorf("write rule for %q: %w", rule.Prefix, err)
	}
	return nil
}
