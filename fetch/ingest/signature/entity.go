package signature

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"rkt/cas"
	"rkt/fetch/wire"
	"rkt/image/trust"
	"rkt/internal/mutant"
)

// signPredicate is the statement that says "I sign this image". Others, such as
// those about how it was built, are no signatures, whoever made them.
const signPredicate = "https://sigstore.dev/cosign/sign/v1"

// statementTypes are the versions of in-toto statements.
var statementTypes = []string{"https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"}

// entity is a signature ready to be verified: what it is about is known and is
// the image, if the signature is good.
type entity struct {
	form          Form
	bundle        *bundle.Bundle
	artifact      verify.ArtifactPolicyOption
	digest        cas.Digest // the one of Trust.Digests that it claims to be about
	byCertificate bool
}

func newEntity(item Item, t wire.Trust) (*entity, error) {
	if item.Form == SimpleSigning {
		return newSimple(item, t)
	}
	return newBundle(item.Payload, t)
}

// newBundle reads a sigstore bundle with a statement that signs an image.
func newBundle(b []byte, t wire.Trust) (*entity, error) {
	e := &entity{form: Bundle, bundle: &bundle.Bundle{}}
	if err := e.bundle.UnmarshalJSON(b); err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	if !e.bundle.MinVersion("v0.3") {
		return nil, fmt.Errorf("bundle is of the type %.80q, want version 0.3", e.bundle.MediaType)
	}
	content, err := e.bundle.VerificationContent()
	if err != nil {
		return nil, fmt.Errorf("read bundle: %w", err)
	}
	e.byCertificate = content.Certificate() != nil
	envelope, err := e.bundle.Envelope()
	if err != nil {
		return nil, errors.New("bundle signs bytes and not a statement about an image")
	}
	statement, err := envelope.Statement()
	if err != nil {
		return nil, fmt.Errorf("read statement: %w", err)
	}
	if !slices.Contains(statementTypes, statement.GetType()) || statement.GetPredicateType() != signPredicate && !mutant.On("anystatement") {
		return nil, fmt.Errorf("it is no signature of an image but a statement of the type %.100q", statement.GetPredicateType())
	}
	names := map[string]string{}
	for _, s := range statement.GetSubject() {
		names["sha256:"+s.GetDigest()["sha256"]] = s.GetName()
	}
	for _, digest := range t.Digests {
		name, ok := names[digest]
		if !ok {
			continue
		}
		// cosign leaves the name empty. Where there is one, it means something.
		if err := sameName(name, t.Name); err != nil {
			return nil, err
		}
		if e.digest, err = cas.ParseDigest(digest); err != nil {
			return nil, err
		}
		sum, err := hex.DecodeString(e.digest.Hex())
		e.artifact = verify.WithArtifactDigest("sha256", sum)
		return e, err
	}
	return nil, errors.New("it is of another image")
}

// key verifies that an entity is by the key k.
func (v *verification) key(e *entity, k key) (trust.Signer, error) {
	if err := v.attempt(); err != nil {
		return trust.Signer{}, err
	}
	var more root.TrustedMaterial
	options := []verify.VerifierOption{verify.WithNoObserverTimestamps()}
	if v.trust.Proof != wire.AnyProof {
		more, options = v.root, v.timeOptions()
	}
	material, err := k.material(e.form, more)
	if err != nil {
		return trust.Signer{}, err
	}
	result, err := e.verify(material, options, verify.WithKey())
	if err != nil && !mutant.On("anykey") {
		return trust.Signer{}, err
	}
	signer := trust.Signer{Key: k.fingerprint, Digest: e.digest}
	if more != nil {
		v.setTime(&signer, result)
	}
	return signer, nil
}

// certificate verifies an entity with a certificate, and tells whose that is.
func (v *verification) certificate(e *entity) (trust.Signer, bool, error) {
	if v.root == nil {
		return trust.Signer{}, false, errors.New("it is by an identity, and there is no trusted root to prove it")
	}
	if err := v.attempt(); err != nil {
		return trust.Signer{}, false, err
	}
	options := v.timeOptions()
	// Where the root names logs of certificates, its authority writes into them.
	if len(v.root.CTLogs()) > 0 && !mutant.On("nocertlog") {
		options = append(options, verify.WithSignedCertificateTimestamps(1))
	}
	// Whom it is by is compared below, so that strangers can be told about.
	result, err := e.verify(v.root, options, verify.WithoutIdentitiesUnsafe())
	if err != nil {
		return trust.Signer{}, false, err
	}
	certificate := result.Signature.Certificate
	if certificate == nil || certificate.Issuer == "" || certificate.SubjectAlternativeName == "" {
		return trust.Signer{}, false, errors.New("its certificate does not say whose it is")
	}
	signer := trust.Signer{Issuer: certificate.Issuer, Subject: certificate.SubjectAlternativeName, Digest: e.digest}
	v.setTime(&signer, result)
	if _, err := wire.NewSigner(wire.Signed, signer); err != nil {
		return trust.Signer{}, false, fmt.Errorf("its certificate cannot be told about: %w", err)
	}
	for _, id := range v.trust.Identities {
		ok, err := id.Matches(signer.Issuer, signer.Subject)
		if err != nil || ok || mutant.On("anysigner") {
			return signer, ok || mutant.On("anysigner"), err
		}
	}
	return signer, false, nil
}

// timeOptions want the proof of the time that was chosen. Certificates live for
// minutes: without a time nothing is known about one.
func (v *verification) timeOptions() []verify.VerifierOption {
	switch {
	case mutant.On("timeofday"):
		return []verify.VerifierOption{verify.WithCurrentTime()}
	case mutant.On("nolog"):
		return []verify.VerifierOption{verify.WithObserverTimestamps(1)}
	case v.proof == wire.TimestampProof:
		return []verify.VerifierOption{verify.WithSignedTimestamps(1)}
	}
	return []verify.VerifierOption{verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1)}
}

// setTime notes the earliest of the times that are proven.
func (v *verification) setTime(s *trust.Signer, result *verify.VerificationResult) {
	for _, t := range result.VerifiedTimestamps {
		if s.Time.IsZero() || t.Timestamp.Before(s.Time) {
			s.Time = t.Timestamp.UTC()
		}
	}
	s.Proof = v.proof
}

// verify checks the signature with everything that belongs to it.
func (e *entity) verify(material root.TrustedMaterial, options []verify.VerifierOption, who verify.PolicyOption) (*verify.VerificationResult, error) {
	options = append(options, verify.WithoutStatementPredicate())
	verifier, err := verify.NewVerifier(material, options...)
	if err != nil {
		return nil, fmt.Errorf("internal error: %w", err)
	}
	return verifier.Verify(e.bundle, verify.NewPolicy(e.artifact, who))
}

// reader gives the same bytes to each attempt.
func reader(b []byte) verify.ArtifactPolicyOption {
	return func(p *verify.PolicyConfig) error { return verify.WithArtifact(bytes.NewReader(b))(p) }
}
