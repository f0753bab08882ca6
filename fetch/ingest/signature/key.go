package signature

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore/pkg/signature"
)

const (
	minRSA = 2048 // bits
	maxRSA = 8192 // bits; more is only good for keeping a processor busy
)

// key is a public key that is trusted.
type key struct {
	public      crypto.PublicKey
	fingerprint string // SHA-256 of the DER form, in hex
	kind        string // for people: "ECDSA P-256"
}

// parseKey parses a file with exactly one public key in PEM form.
func parseKey(text []byte) (key, error) {
	block, rest := pem.Decode(text)
	switch {
	case block == nil || !bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("-----BEGIN ")):
		return key{}, errors.New("it is not a public key in PEM form")
	case len(bytes.TrimSpace(rest)) != 0:
		return key{}, errors.New("something follows the key: a file has one key")
	case block.Type != "PUBLIC KEY" || len(block.Headers) != 0:
		return key{}, fmt.Errorf("it is of the PEM type %.40q, want \"PUBLIC KEY\"", block.Type)
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return key{}, fmt.Errorf("parse public key: %w", err)
	}
	sum := sha256.Sum256(block.Bytes)
	k := key{public: public, fingerprint: hex.EncodeToString(sum[:])}
	k.kind, err = kindOf(public)
	return k, err
}

// kindOf names the kind of a key that is strong enough to be trusted.
func kindOf(public crypto.PublicKey) (string, error) {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if !slices.Contains([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}, p.Curve) {
			return "", fmt.Errorf("keys on the curve %s are too weak", p.Curve.Params().Name)
		}
		return "ECDSA " + p.Curve.Params().Name, nil
	case ed25519.PublicKey:
		return "Ed25519", nil
	case *rsa.PublicKey:
		if bits := p.N.BitLen(); bits < minRSA || bits > maxRSA {
			return "", fmt.Errorf("an RSA key of %d bits, want %d to %d", bits, minRSA, maxRSA)
		}
		return fmt.Sprintf("RSA %d", p.N.BitLen()), nil
	}
	return "", fmt.Errorf("keys of the type %T are not supported", public)
}

// verifier returns what checks signatures by k. Bundles are signed with the hash
// that goes with the key, simple signatures with SHA-256 whatever the key.
func (k key) verifier(form Form) (signature.Verifier, error) {
	if form == SimpleSigning {
		return signature.LoadVerifier(k.public, crypto.SHA256)
	}
	if p, ok := k.public.(*rsa.PublicKey); ok {
		return signature.LoadRSAPKCS1v15Verifier(p, crypto.SHA256)
	}
	return signature.LoadDefaultVerifier(k.public)
}

// material makes k the only key that signatures can be by, whatever hint about
// their key they carry: a hint is the signer's to choose.
func (k key) material(form Form, more root.TrustedMaterial) (root.TrustedMaterial, error) {
	v, err := k.verifier(form)
	if err != nil {
		return nil, fmt.Errorf("use key %s: %w", k.fingerprint, err)
	}
	unlimited := unlimitedKey{v}
	keys := root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return unlimited, nil })
	if more == nil {
		return keys, nil
	}
	return root.TrustedMaterialCollection{keys, more}, nil
}
