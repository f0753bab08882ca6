package signtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
)

// Signing is how something is signed: well, if nothing but the names is set.
type Signing struct {
	Subject, Issuer string
	Time            time.Time  // of the log and the timestamp; zero = now
	CertificateFrom time.Time  // zero = a minute before Time
	NoSCT, BadSCT   bool       // the proof that the certificate is logged
	NoLog           bool       // no entry in the log
	NoProof         bool       // the entry has only the promise of the log; what bundles may not have
	BadProof        bool       // the entry is proven to be in another tree
	OtherEntry      bool       // the entry is about another signature
	Stamp           bool       // a timestamp besides
	Predicate       string     // zero = that of a signature
	Name            string     // of the image: in the statement, or docker-reference
	Stranger        *Authority // whose certificate it is; the logs are ours
}

// Simple is a signature as cosign kept it under a tag.
type Simple struct {
	Payload     []byte
	Annotations map[string]string
}

// Key signs by itself.
type Key struct {
	t      testing.TB
	signer crypto.Signer
}

// NewKey makes a key: "ecdsa", "ecdsa384", "ed25519", "rsa"; "ecdsa224" and
// "rsa1024" are too weak.
func NewKey(t testing.TB, kind string) *Key {
	t.Helper()
	k := &Key{t: t}
	var err error
	switch kind {
	case "ecdsa":
		k.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa384":
		k.signer, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ecdsa224":
		k.signer, err = ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	case "ed25519":
		_, k.signer, err = ed25519.GenerateKey(rand.Reader)
	case "rsa":
		k.signer, err = rsa.GenerateKey(rand.Reader, 2048)
	case "rsa1024":
		k.signer, err = rsa.GenerateKey(rand.Reader, 1024)
	default:
		t.Fatalf("unknown kind of key %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// PEM is the public key as cosign.pub has it.
func (k *Key) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER(k.t, k.signer.Public())})
}

// Fingerprint is the one that rkt shows.
func (k *Key) Fingerprint() string { return hex.EncodeToString(keyID(k.t, k.signer.Public())) }

// sign signs with the hash that goes with the key, or with SHA-256.
func (k *Key) sign(b []byte, natural bool) []byte {
	k.t.Helper()
	hash := crypto.SHA256
	if p, ok := k.signer.Public().(*ecdsa.PublicKey); ok && natural && p.Curve == elliptic.P384() {
		hash = crypto.SHA384
	}
	if _, ok := k.signer.(ed25519.PrivateKey); ok {
		hash = 0
	} else {
		h := hash.New()
		h.Write(b)
		b = h.Sum(nil)
	}
	sig, err := k.signer.Sign(rand.Reader, b, hash)
	if err != nil {
		k.t.Fatal(err)
	}
	return sig
}

const (
	signPredicate = "https://sigstore.dev/cosign/sign/v1"
	payloadType   = "application/vnd.in-toto+json"
	bundleType    = "application/vnd.dev.sigstore.bundle.v0.3+json"
)

// statement says that the image is signed.
func statement(t testing.TB, digest, predicate, name string) []byte {
	if predicate == "" {
		predicate = signPredicate
	}
	subject := map[string]any{"digest": map[string]string{"sha256": strings.TrimPrefix(digest, "sha256:")}}
	if name != "" {
		subject["name"] = name
	}
	return encode(t, map[string]any{
		"_type": "https://in-toto.io/Statement/v1", "subject": []any{subject}, "predicateType": predicate, "predicate": map[string]any{},
	})
}

// pae is what is signed of an envelope.
func pae(body []byte) []byte {
	return fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(body), body)
}

func envelope(body, sig []byte) map[string]any {
	return map[string]any{
		"payload": body, "payloadType": payloadType, "signatures": []any{map[string]any{"sig": sig}},
	}
}

// Bundle signs the image with that digest.
func (k *Key) Bundle(digest, name string) []byte { return k.Statement(digest, signPredicate, name) }

// Statement makes another statement about the image.
func (k *Key) Statement(digest, predicate, name string) []byte {
	body := statement(k.t, digest, predicate, name)
	return encode(k.t, map[string]any{
		"mediaType":            bundleType,
		"verificationMaterial": map[string]any{"publicKey": map[string]any{"hint": k.Fingerprint()}},
		"dsseEnvelope":         envelope(body, k.sign(pae(body), true)),
	})
}

// Simple signs the image with that digest under a name.
func (k *Key) Simple(digest, name string) Simple {
	payload := simplePayload(k.t, digest, name)
	sig := base64.StdEncoding.EncodeToString(k.sign(payload, false))
	return Simple{payload, map[string]string{"dev.cosignproject.cosign/signature": sig}}
}

func simplePayload(t testing.TB, digest, name string) []byte {
	return encode(t, map[string]any{
		"critical": map[string]any{
			"identity": map[string]any{"docker-reference": name},
			"image":    map[string]any{"docker-manifest-digest": digest},
			"type":     "cosign container image signature",
		},
		"optional": nil,
	})
}

// times returns when s signs and since when its certificate lives.
func (s Signing) times() (at, from time.Time) {
	at, from = s.Time, s.CertificateFrom
	if at.IsZero() {
		at = time.Now()
	}
	if from.IsZero() {
		from = at.Add(-time.Minute)
	}
	return at.Truncate(time.Second), from.Truncate(time.Second)
}

// certificateOf makes a key with a certificate.
func (a *Authority) certificateOf(s Signing) (*ecdsa.PrivateKey, []byte) {
	k := newECDSA(a.t)
	_, from := s.times()
	by := a
	if s.Stranger != nil {
		by = s.Stranger
	}
	return k, by.leaf(s, k.Public(), from).Raw
}

// Bundle signs the image with that digest.
func (a *Authority) Bundle(s Signing, digest string) []byte {
	a.t.Helper()
	k, certificate := a.certificateOf(s)
	body := statement(a.t, digest, s.Predicate, s.Name)
	sig := sign(a.t, k, pae(body))
	material := map[string]any{"certificate": map[string]any{"rawBytes": certificate}}
	if !s.NoLog {
		logged := sig
		if s.OtherEntry {
			logged = sign(a.t, k, pae([]byte("other")))
		}
		material["tlogEntries"] = []any{a.dsseEntry(s, body, logged, certificate)}
	}
	if s.Stamp {
		material["timestampVerificationData"] = map[string]any{"rfc3161Timestamps": []any{map[string]any{"signedTimestamp": a.stamp(s, sig)}}}
	}
	return a.json(map[string]any{"mediaType": bundleType, "verificationMaterial": material, "dsseEnvelope": envelope(body, sig)})
}

// Simple signs the image with that digest under s.Name.
func (a *Authority) Simple(s Signing, digest string) Simple {
	a.t.Helper()
	k, certificate := a.certificateOf(s)
	payload := simplePayload(a.t, digest, s.Name)
	sig := sign(a.t, k, payload)
	out := Simple{payload, map[string]string{
		"dev.cosignproject.cosign/signature": base64.StdEncoding.EncodeToString(sig),
		"dev.sigstore.cosign/certificate":    certificatePEM(certificate),
	}}
	if !s.NoLog {
		at, _ := s.times()
		sum := sha256.Sum256(payload)
		if s.OtherEntry {
			sum = sha256.Sum256([]byte("other"))
		}
		entry := a.json(map[string]any{"apiVersion": "0.0.1", "kind": "hashedrekord", "spec": map[string]any{
			"data":      map[string]any{"hash": map[string]any{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}},
			"signature": map[string]any{"content": sig, "publicKey": map[string]any{"content": []byte(certificatePEM(certificate))}},
		}})
		out.Annotations["dev.sigstore.cosign/bundle"] = string(a.json(map[string]any{
			"SignedEntryTimestamp": a.promise(entry, at),
			"Payload": map[string]any{
				"body": entry, "integratedTime": at.Unix(), "logIndex": logIndex, "logID": hex.EncodeToString(keyID(a.t, a.logKey.Public())),
			},
		}))
	}
	if s.Stamp {
		out.Annotations["dev.sigstore.cosign/rfc3161timestamp"] = string(a.json(map[string]any{"SignedRFC3161Timestamp": a.stamp(s, sig)}))
	}
	return out
}

func certificatePEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// logIndex is where every entry is: in a tree of two, as the second.
const logIndex = 1

// dsseEntry is the log's entry about an envelope.
func (a *Authority) dsseEntry(s Signing, body, sig, certificate []byte) map[string]any {
	at, _ := s.times()
	payload, whole := sha256.Sum256(body), sha256.Sum256(encode(a.t, envelope(body, sig)))
	entry := a.json(map[string]any{"apiVersion": "0.0.1", "kind": "dsse", "spec": map[string]any{
		"envelopeHash": map[string]any{"algorithm": "sha256", "value": hex.EncodeToString(whole[:])},
		"payloadHash":  map[string]any{"algorithm": "sha256", "value": hex.EncodeToString(payload[:])},
		"signatures":   []any{map[string]any{"signature": base64.StdEncoding.EncodeToString(sig), "verifier": []byte(certificatePEM(certificate))}},
	}})
	out := map[string]any{
		"logIndex": fmt.Sprint(logIndex), "logId": map[string]any{"keyId": keyID(a.t, a.logKey.Public())},
		"kindVersion":    map[string]any{"kind": "dsse", "version": "0.0.1"},
		"integratedTime": fmt.Sprint(at.Unix()), "inclusionPromise": map[string]any{"signedEntryTimestamp": a.promise(entry, at)},
		"canonicalizedBody": entry,
	}
	if !s.NoProof {
		out["inclusionProof"] = a.inclusion(entry, s.BadProof)
	}
	return out
}

// promise is the log's signature that it will include an entry.
func (a *Authority) promise(entry []byte, at time.Time) []byte {
	return sign(a.t, a.logKey, a.json(map[string]any{
		"body": entry, "integratedTime": at.Unix(), "logIndex": logIndex, "logID": hex.EncodeToString(keyID(a.t, a.logKey.Public())),
	}))
}

// inclusion proves that the entry is the second in a tree of two.
func (a *Authority) inclusion(entry []byte, bad bool) map[string]any {
	leaf := sha256.Sum256(append([]byte{0}, entry...))
	first := sha256.Sum256([]byte("\x00another entry"))
	sum := sha256.Sum256(append(append([]byte{1}, first[:]...), leaf[:]...))
	if bad {
		sum = sha256.Sum256([]byte("another tree"))
	}
	const origin = "rekor.test"
	text := fmt.Sprintf("%s - 42\n2\n%s\n", origin, base64.StdEncoding.EncodeToString(sum[:]))
	id := keyID(a.t, a.logKey.Public())
	signed := base64.StdEncoding.EncodeToString(append(bytes.Clone(id[:4]), sign(a.t, a.logKey, []byte(text))...))
	return map[string]any{
		"logIndex": fmt.Sprint(logIndex), "rootHash": sum[:], "treeSize": "2", "hashes": [][]byte{first[:]},
		"checkpoint": map[string]any{"envelope": text + "\n— " + origin + " " + signed + "\n"},
	}
}

// stamp is a timestamp by RFC 3161 of a signature.
func (a *Authority) stamp(s Signing, sig []byte) []byte {
	at, _ := s.times()
	sum := sha256.Sum256(sig)
	stamp := timestamp.Timestamp{
		HashAlgorithm: crypto.SHA256, HashedMessage: sum[:], Time: at, Policy: asn1.ObjectIdentifier{1, 2, 3}, AddTSACertificate: true,
	}
	b, err := stamp.CreateResponseWithOpts(a.stampLeaf, a.stampLeafKey, crypto.SHA256)
	a.check(err)
	return b
}
