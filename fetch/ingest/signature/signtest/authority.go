// Package signtest signs images for tests, as cosign and the services behind it
// do: with keys, or with certificates of an authority of its own, which also
// keeps a log of signatures, a log of certificates, and a timestamp service. It
// writes the formats by hand, so that what reads them is not tested by itself.
package signtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/json"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

// Authority makes certificates, log entries and timestamps.
type Authority struct {
	t                                testing.TB
	root, intermediate               *x509.Certificate
	stampRoot, stampLeaf             *x509.Certificate
	rootKey, intermediateKey         *ecdsa.PrivateKey
	logKey, certLogKey, stampLeafKey *ecdsa.PrivateKey
}

// The services exist for a long time around now.
var (
	Begin = time.Now().Add(-365 * 24 * time.Hour).Truncate(time.Second)
	end   = time.Now().Add(10 * 365 * 24 * time.Hour)
)

// New makes an authority that nobody else knows.
func New(t testing.TB) *Authority {
	a := &Authority{t: t, rootKey: newECDSA(t), intermediateKey: newECDSA(t), logKey: newECDSA(t), certLogKey: newECDSA(t), stampLeafKey: newECDSA(t)}
	ca := func(name string, use x509.ExtKeyUsage) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: Begin, NotAfter: end,
			KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{use}, BasicConstraintsValid: true, IsCA: true,
		}
	}
	a.root = a.issue(ca("test root", x509.ExtKeyUsageCodeSigning), nil, a.rootKey.Public(), a.rootKey)
	a.intermediate = a.issue(ca("test intermediate", x509.ExtKeyUsageCodeSigning), a.root, a.intermediateKey.Public(), a.rootKey)
	stampKey := newECDSA(t)
	a.stampRoot = a.issue(ca("test timestamps", x509.ExtKeyUsageTimeStamping), nil, stampKey.Public(), stampKey)
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	a.check(err)
	a.stampLeaf = a.issue(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "test timestamp"}, NotBefore: Begin, NotAfter: end,
		KeyUsage:        x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: usage}},
	}, a.stampRoot, a.stampLeafKey.Public(), stampKey)
	return a
}

func (a *Authority) check(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

func newECDSA(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// issue makes a certificate; parent nil = signed by itself.
func (a *Authority) issue(template, parent *x509.Certificate, public crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	a.t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	a.check(err)
	c, err := x509.ParseCertificate(der)
	a.check(err)
	return c
}

// leaf makes a certificate for a signer, which lives for ten minutes from begin.
func (a *Authority) leaf(s Signing, public crypto.PublicKey, begin time.Time) *x509.Certificate {
	a.t.Helper()
	issuer, err := asn1.MarshalWithParams(s.Issuer, "utf8")
	a.check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(3), NotBefore: begin, NotAfter: begin.Add(10 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	if strings.Contains(s.Subject, "://") {
		u, err := url.Parse(s.Subject)
		a.check(err)
		template.URIs = []*url.URL{u}
	} else {
		template.EmailAddresses = []string{s.Subject}
	}
	if s.Issuer != "" {
		template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}, Value: issuer}}
	}
	plain := a.issue(template, a.intermediate, public, a.intermediateKey)
	if s.NoSCT {
		return plain
	}
	template.ExtraExtensions = append(template.ExtraExtensions, a.certificateTimestamp(plain, begin, s.BadSCT))
	return a.issue(template, a.intermediate, public, a.intermediateKey)
}

// certificateTimestamp is the proof by RFC 6962 that a certificate is logged.
func (a *Authority) certificateTimestamp(plain *x509.Certificate, at time.Time, bad bool) pkix.Extension {
	issuer := sha256.Sum256(a.intermediate.RawSubjectPublicKeyInfo)
	millis := binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli()))
	tbs := plain.RawTBSCertificate
	signed := append([]byte{0, 0}, millis...)
	signed = append(signed, 0, 1)
	signed = append(signed, issuer[:]...)
	signed = append(signed, byte(len(tbs)>>16), byte(len(tbs)>>8), byte(len(tbs)))
	signed = append(append(signed, tbs...), 0, 0)
	if bad {
		signed = append(signed, 1)
	}
	sig := sign(a.t, a.certLogKey, signed)
	id := keyID(a.t, a.certLogKey.Public())
	sct := append(append([]byte{0}, id...), millis...)
	sct = append(sct, 0, 0, 4, 3)
	sct = append(binary.BigEndian.AppendUint16(sct, uint16(len(sig))), sig...)
	list := binary.BigEndian.AppendUint16(nil, uint16(len(sct)+2))
	list = append(binary.BigEndian.AppendUint16(list, uint16(len(sct))), sct...)
	value, err := asn1.Marshal(list)
	a.check(err)
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, Value: value}
}

// sign signs the SHA-256 of b.
func sign(t testing.TB, k crypto.Signer, b []byte) []byte {
	t.Helper()
	sum := sha256.Sum256(b)
	sig, err := k.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func publicDER(t testing.TB, public crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func keyID(t testing.TB, public crypto.PublicKey) []byte {
	sum := sha256.Sum256(publicDER(t, public))
	return sum[:]
}

// Parts of a trusted root that can be left out.
const (
	Log       = "tlogs"
	CertLog   = "ctlogs"
	Timestamp = "timestampAuthorities"
)

// Root is the trusted_root.json of the authority, without some parts.
func (a *Authority) Root(without ...string) []byte {
	a.t.Helper()
	valid := map[string]any{"start": Begin.UTC().Format(time.RFC3339)}
	log := func(url string, k *ecdsa.PrivateKey) []any {
		return []any{map[string]any{
			"baseUrl": url, "hashAlgorithm": "SHA2_256", "logId": map[string]any{"keyId": keyID(a.t, k.Public())},
			"publicKey": map[string]any{"rawBytes": publicDER(a.t, k.Public()), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": valid},
		}}
	}
	authority := func(certificates ...*x509.Certificate) []any {
		var chain []any
		for _, c := range certificates {
			chain = append(chain, map[string]any{"rawBytes": c.Raw})
		}
		return []any{map[string]any{
			"subject": map[string]any{"organization": "test", "commonName": "test"}, "uri": "https://authority.test",
			"certChain": map[string]any{"certificates": chain}, "validFor": valid,
		}}
	}
	doc := map[string]any{
		"mediaType":              "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
		Log:                      log("https://rekor.test", a.logKey),
		CertLog:                  log("https://ctfe.test", a.certLogKey),
		"certificateAuthorities": authority(a.intermediate, a.root),
		Timestamp:                authority(a.stampLeaf, a.stampRoot),
	}
	for _, part := range without {
		delete(doc, part)
	}
	return a.json(doc)
}

func (a *Authority) json(v any) []byte { return encode(a.t, v) }

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
