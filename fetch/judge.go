package fetch

import (
	"context"
	"fmt"

	"rkt/cas"
	"rkt/image"
	"rkt/image/trust"
)

// refuseEarly refuses what no digest and no answer can let in, before anybody
// is asked for anything.
func (f *Fetcher) refuseEarly(ref image.Ref) error {
	if f.o.Insecure {
		return nil
	}
	policy, err := f.policy()
	if err != nil {
		return err
	}
	d := decide(policy, ref)
	if d.Action == trust.Accept || d.Action == trust.Ask && f.o.Ask != nil {
		return nil
	}
	return &trust.Refused{Name: ref.Name(), Decision: d}
}

func decide(policy *trust.Policy, ref image.Ref) trust.Decision {
	return policy.Decide(ref.Name(), !ref.Digest.IsZero(), ref.IsLocal())
}

// judge decides about the image that ref means, asking the user when the policy
// says so. What is not accepted is a *trust.Refused.
func (f *Fetcher) judge(ctx context.Context, policy *trust.Policy, ref image.Ref, manifest cas.Digest) (trust.Verdict, error) {
	d := decide(policy, ref)
	if d.Action != trust.Ask || f.o.Insecure || f.o.Ask == nil {
		return f.judgeName(policy, ref.Name(), !ref.Digest.IsZero(), ref.IsLocal(), manifest)
	}
	answer, err := f.o.Ask(ctx, Question{
		Reference: ref.String(), Name: ref.Name(), Registry: ref.Host, Manifest: manifest, Reason: d.Reason,
	})
	if err != nil {
		return trust.Verdict{}, fmt.Errorf("ask about %q: %w", ref.Name(), err)
	}
	rule := trust.Rule{Action: trust.Accept}
	switch answer {
	case AnswerDigest:
		// The verdict remembers it; there is nothing to say about other digests.
		d.Action, d.Reason = trust.Accept, "you accepted this digest"
		return policy.Verdict(d, manifest, false), nil
	case AnswerRepository:
		rule.Prefix = ref.Name()
	case AnswerRegistry:
		rule.Prefix = ref.Host
	default:
		d.Action, d.Reason = trust.Reject, "you said no"
		return trust.Verdict{}, &trust.Refused{Name: ref.Name(), Decision: d}
	}
	if err := trust.Add(f.o.TrustDirs[len(f.o.TrustDirs)-1], rule); err != nil {
		return trust.Verdict{}, fmt.Errorf("write rule for %q: %w", rule.Prefix, err)
	}
	if policy, err = f.policy(); err != nil {
		return trust.Verdict{}, err
	}
	return f.judgeName(policy, ref.Name(), !ref.Digest.IsZero(), ref.IsLocal(), manifest)
}

// judgeName decides without asking anybody.
func (f *Fetcher) judgeName(policy *trust.Policy, name string, pinned, local bool, manifest cas.Digest) (trust.Verdict, error) {
	d := policy.Decide(name, pinned, local)
	if d.Action != trust.Accept && !f.o.Insecure {
		return trust.Verdict{}, &trust.Refused{Name: name, Decision: d}
	}
	return policy.Verdict(d, manifest, d.Action != trust.Accept), nil
}
