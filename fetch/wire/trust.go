package wire

import (
	"encoding/json"
	"fmt"
	"slices"

	"rkt/image/trust"
	"rkt/internal/strictjson"
)

// Limits of a Verify.
const (
	MaxSignatures = 8 << 20 // bytes of SignaturesFile
	MaxKeys       = 64
	MaxIdentities = 64
	MaxKey        = 16 << 10 // bytes of a key in PEM form
	MaxRoot       = 1 << 20  // bytes of a trusted root
	maxIssuer     = 512      // bytes
	maxSubject    = 1024     // bytes; with the issuer it fits into a message
)

// Trust says which signatures of an image a Verify accepts: those made by one of
// the keys, and those by one of the identities.
type Trust struct {
	// Name is the host/repository that the image is asked for by. A signature
	// that names another one is not accepted.
	Name string `json:"name"`
	// Digests are those of the manifest and of the index that led to it: a
	// signature is about one of them.
	Digests    []string         `json:"digests"`
	Keys       []string         `json:"keys,omitempty"` // in PEM form
	Identities []trust.Identity `json:"identities,omitempty"`
	// Root is the content of a trusted_root.json: whose certificates, logs and
	// timestamps prove identities.
	Root string `json:"root,omitempty"`
	// Proof is what must prove the time of every signature. With AnyProof, those by
	// keys need none, and those by identities an entry in the log where Root names
	// one, else a timestamp.
	Proof string `json:"proof,omitempty"`
}

// What proves when a signature was made.
const (
	AnyProof       = ""          // as Root has it: see Trust
	LogProof       = "log"       // an entry in a transparency log
	TimestampProof = "timestamp" // a timestamp by RFC 3161
)

func (t *Trust) check() error {
	switch {
	case t.Name == "" || len(t.Name) > 1024:
		return malformed("a name of %d bytes", len(t.Name))
	case len(t.Digests) == 0 || len(t.Digests) > 2 || !isDigest(t.Digests[0]) || !isDigest(t.Digests[len(t.Digests)-1]):
		return malformed("%d digests that signatures may be about", len(t.Digests))
	case len(t.Keys) > MaxKeys || len(t.Identities) > MaxIdentities:
		return malformed("%d keys and %d identities", len(t.Keys), len(t.Identities))
	case len(t.Root) > MaxRoot:
		return malformed("a trusted root of %d bytes", len(t.Root))
	case t.Proof != AnyProof && t.Proof != LogProof && t.Proof != TimestampProof:
		return malformed("proof %q", t.Proof)
	}
	for _, k := range t.Keys {
		if k == "" || len(k) > MaxKey {
			return malformed("a key of %d bytes", len(k))
		}
	}
	for _, i := range t.Identities {
		if err := i.Check(); err != nil {
			return malformed("%w", err)
		}
	}
	return nil
}

// NewSigner makes the message about a signer: Signed or Stranger. What no
// message can carry is ErrMalformed.
func NewSigner(t Type, s trust.Signer) (Message, error) {
	if err := checkSigner(s); err != nil {
		return Message{}, err
	}
	b, err := json.Marshal(s)
	if err != nil {
		return Message{}, fmt.Errorf("internal error: encode signer: %w", err)
	}
	if len(b) > MaxText {
		return Message{}, malformed("a signer of %d bytes", len(b))
	}
	return Message{Type: t, Text: string(b)}, nil
}

// Signer reads the signer of a Signed or Stranger. That it is one of those of
// Trust is for the caller to check. The error is ErrMalformed.
func (m Message) Signer() (trust.Signer, error) {
	var s trust.Signer
	if m.Type != Signed && m.Type != Stranger {
		return s, malformed("no signer in a message of type %d", m.Type)
	}
	if err := strictjson.Decode([]byte(m.Text), &s, strictjson.Options{MaxBytes: MaxText}); err != nil {
		return s, malformed("signer: %w", err)
	}
	return s, checkSigner(s)
}

func checkSigner(s trust.Signer) error {
	byKey := isDigest("sha256:" + s.Key)
	byName := s.Issuer != "" && s.Subject != "" && len(s.Issuer) <= maxIssuer && len(s.Subject) <= maxSubject
	switch {
	case s.Digest.IsZero():
		return malformed("a signer of nothing")
	case !byKey && !byName, byKey && (s.Issuer != "" || s.Subject != ""), s.Key != "" && !byKey:
		return malformed("a signer who is neither a key nor an identity")
	case !slices.Contains([]string{AnyProof, LogProof, TimestampProof}, s.Proof), (s.Proof == AnyProof) != s.Time.IsZero():
		return malformed("the proof %q of the time %v", s.Proof, s.Time)
	case byName && s.Time.IsZero():
		return malformed("an identity that signed at an unknown time")
	}
	return nil
}
