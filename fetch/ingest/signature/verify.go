package signature

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/signature"

	"rkt/fetch/ingest/fault"
	"rkt/fetch/wire"
	"rkt/image/trust"
)

// maxAttempts bounds the signatures that are computed, of 32 items and any
// number of keys.
const maxAttempts = 100

// maxStrangers bounds how many others who have signed are told.
const maxStrangers = 4

// Result says who signed an image.
type Result struct {
	// Accepted is the first of the signers that the trust names.
	Accepted *trust.Signer
	// Strangers have signed well, proven by the trusted root, and are not named
	// by the trust. They are for telling the user about, and prove nothing.
	Strangers []trust.Signer
}

// Verify holds the signatures of a set, as Encode made it, against a trust. It
// depends on nothing else: not on the time of day, not on a file. A nil error
// means that Accepted is somebody whom t names and who has signed one of
// t.Digests; with any error nothing is accepted. The error has wire.CodeUnsigned
// when the set is empty, wire.CodeSignature when nothing in it is accepted, and
// wire.CodeTrust when a part of t is unusable.
func Verify(t wire.Trust, set []byte) (Result, error) {
	v, err := newVerification(t)
	if err != nil {
		return Result{}, err
	}
	s, err := Decode(set)
	if err != nil {
		return Result{}, fault.New(wire.CodeSignature, "%w", err)
	}
	if len(s.Items) == 0 && !s.More {
		return Result{}, fault.New(wire.CodeUnsigned, "it is not signed")
	}
	return v.run(s)
}

// CheckTrust tells whether a trust is usable, and of what kind its keys are. Its
// error has wire.CodeTrust.
func CheckTrust(t wire.Trust) (kinds []string, err error) {
	v, err := newVerification(t)
	if err != nil {
		return nil, err
	}
	for _, k := range v.keys {
		kinds = append(kinds, k.kind)
	}
	return kinds, nil
}

// verification is a trust made ready for use.
type verification struct {
	trust    wire.Trust
	keys     []key
	root     *root.TrustedRoot // nil = none
	proof    string            // of the time of signatures by identities
	attempts int
}

func newVerification(t wire.Trust) (*verification, error) {
	v := &verification{trust: t}
	for i, text := range t.Keys {
		k, err := parseKey([]byte(text))
		if err != nil {
			return nil, fault.New(wire.CodeTrust, "key %d: %w", i+1, err)
		}
		v.keys = append(v.keys, k)
	}
	for _, id := range t.Identities {
		if err := id.CheckExpressions(); err != nil {
			return nil, fault.New(wire.CodeTrust, "%w", err)
		}
	}
	if t.Root != "" {
		var err error
		if v.root, err = root.NewTrustedRootFromJSON([]byte(t.Root)); err != nil {
			return nil, fault.New(wire.CodeTrust, "read trusted root: %w", err)
		}
	}
	return v, v.chooseProof()
}

// chooseProof decides what must prove the time of a signature. Where the root
// knows a log, everybody whom it certifies writes into it, so that a signature
// that is in none was made to stay unseen.
func (v *verification) chooseProof() error {
	switch {
	case v.root == nil && len(v.trust.Identities) > 0:
		return fault.New(wire.CodeTrust, "identities need a trusted root")
	case v.root == nil && v.trust.Proof != wire.AnyProof:
		return fault.New(wire.CodeTrust, "a proof of the time needs a trusted root")
	case v.root == nil:
		return nil
	}
	logs, authorities := len(v.root.RekorLogs()), len(v.root.TimestampingAuthorities())
	v.proof = v.trust.Proof
	if v.proof == wire.AnyProof {
		v.proof = wire.TimestampProof
		if logs > 0 {
			v.proof = wire.LogProof
		}
	}
	if v.proof == wire.LogProof && logs == 0 || v.proof == wire.TimestampProof && authorities == 0 {
		return fault.New(wire.CodeTrust, "the trusted root knows nothing that proves the time by %s", v.proof)
	}
	return nil
}

// run looks for the first signature that is accepted.
func (v *verification) run(s Set) (Result, error) {
	var result Result
	var reasons []error
	for i, item := range s.Items {
		signer, accepted, err := v.guarded(item)
		switch {
		case err == nil && accepted:
			return Result{Accepted: &signer, Strangers: result.Strangers}, nil
		case err == nil:
			if len(result.Strangers) < maxStrangers && !slices.Contains(result.Strangers, signer) {
				result.Strangers = append(result.Strangers, signer)
			}
			err = fmt.Errorf("it is by %q of %q, whom no rule names", signer.Subject, signer.Issuer)
		}
		reasons = append(reasons, fmt.Errorf("signature %d: %w", i+1, err))
	}
	return result, fault.New(wire.CodeSignature, "%s", summary(s, reasons))
}

// guarded is item, with a panic of the libraries below as what it is: a
// signature that is not good.
func (v *verification) guarded(item Item) (signer trust.Signer, accepted bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			signer, accepted, err = trust.Signer{}, false, fmt.Errorf("it is malformed: %v", r)
		}
	}()
	return v.item(item)
}

// item tells who made a signature; accepted, if it is somebody whom the trust
// names. The error says why it is not good.
func (v *verification) item(item Item) (trust.Signer, bool, error) {
	e, err := newEntity(item, v.trust)
	if err != nil {
		return trust.Signer{}, false, err
	}
	if e.byCertificate {
		return v.certificate(e)
	}
	if len(v.keys) == 0 {
		return trust.Signer{}, false, errors.New("it is by a key, and no key is trusted")
	}
	for _, k := range v.keys {
		var signer trust.Signer
		if signer, err = v.key(e, k); err == nil {
			return signer, true, nil
		}
	}
	return trust.Signer{}, false, err
}

// attempt counts.
func (v *verification) attempt() error {
	if v.attempts++; v.attempts > maxAttempts {
		return fmt.Errorf("more than %d attempts", maxAttempts)
	}
	return nil
}

// summary is one line about why nothing was accepted.
func summary(s Set, reasons []error) string {
	const most = 3
	text := fmt.Sprintf("none of its %d signatures is accepted", len(s.Items))
	if len(s.Items) == 1 {
		text = "its signature is not accepted"
	}
	if s.More {
		text += fmt.Sprintf(" (there are more, which were not looked at: the limits are %d signatures, %d KiB each)", MaxItems, MaxPayload>>10)
	}
	for i, reason := range reasons {
		if i == most {
			return text + "; and so on"
		}
		text += fmt.Sprintf("; %.400v", reason)
	}
	return text
}

// unlimitedKey is a key without a time: its file says that it is trusted.
type unlimitedKey struct{ signature.Verifier }

// ValidAtTime implements root.TimeConstrainedVerifier.
func (unlimitedKey) ValidAtTime(time.Time) bool { return true }
