package signature

import (
	"bytes"
	"testing"
	"time"

	"rkt/fetch/ingest/signature/signtest"
	"rkt/fetch/wire"
)

// SG-02, SG-03, SG-06, SG-10, SG-11: each vector differs from a good signature in
// one thing.
func TestVectorsThatMustFail(t *testing.T) {
	a, stranger := signtest.New(t), signtest.New(t)
	k := signtest.NewKey(t, "ecdsa")
	with := func(edit func(*signtest.Signing)) signtest.Signing {
		s := good()
		edit(&s)
		return s
	}
	for _, c := range []struct {
		name  string
		item  Item
		words string
	}{
		{"wrong digest", bundleOf(k.Bundle(other, "")), "another image"},
		{"wrong digest, simple", simpleOf(k.Simple(other, repository)), "another image"},
		{"wrong digest, certificate", bundleOf(a.Bundle(good(), other)), "another image"},
		{"wrong key", bundleOf(signtest.NewKey(t, "ecdsa").Bundle(digest, "")), "verify"},
		{"wrong key, simple", simpleOf(signtest.NewKey(t, "ecdsa").Simple(digest, repository)), "verify"},
		{"wrong kind of key", bundleOf(signtest.NewKey(t, "ed25519").Bundle(digest, "")), "verify"},
		{"replayed from another repository", simpleOf(k.Simple(digest, "registry.example/team/app-evil")), "is for the image"},
		{"replayed from another registry", simpleOf(k.Simple(digest, "evil.example/team/app")), "is for the image"},
		{"replayed from another port", simpleOf(k.Simple(digest, "registry.example:5000/team/app")), "is for the image"},
		{"statement about another repository", bundleOf(k.Bundle(digest, "evil.example/team/app")), "is for the image"},
		{"attestation instead of a signature", bundleOf(k.Statement(digest, "https://slsa.dev/provenance/v1", "")), "no signature of an image"},
		{"attestation with a certificate", bundleOf(a.Bundle(with(func(s *signtest.Signing) { s.Predicate = "https://slsa.dev/provenance/v1" }), digest)), "no signature of an image"},
		{"wrong subject", bundleOf(a.Bundle(with(func(s *signtest.Signing) { s.Subject = subject + "-evil" }), digest)), "no rule names"},
		{"wrong issuer", bundleOf(a.Bundle(with(func(s *signtest.Signing) { s.Issuer = "https://evil.example" }), digest)), "no rule names"},
		{"no issuer", bundleOf(a.Bundle(with(func(s *signtest.Signing) { s.Issuer = "" }), digest)), "does not say whose"},
		{"wrong subject, simple", simpleOf(a.Simple(with(func(s *signtest.Signing) { s.Subject = "x@y.example" }), digest)), "no rule names"},
		{"expired at signing time", bundleOf(a.Bundle(with(func(s *signtest.Signing) { s.CertificateFrom = time.Now().Add(-time.Hour) }), digest)), "validity"},
		{"not yet valid at signing time", bundleOf(a.Bundle(with(func(s *signtest.Signing) { s.CertificateFrom = time.Now().Add(time.Hour) }), digest)), "validity"},
		{"expired at signing time, simple", simpleOf(a.Simple(with(func(s *signtest.Signing) { s.CertificateFrom = time.Now().Add(-time.Hour) }), digest)), "validity"},
		{"before the authority existed", bundleOf(a.Bundle(with(func(s *signtest.Signing) { s.Time = signtest.Begin.Add(-time.Hour) }), digest)), ""},
		{"another authority", bundleOf(a.Bundle(with(func(s *signtest.Signing) { s.Stranger = stranger }), digest)), "certificate"},
		{"another authority and log", bundleOf(stranger.Bundle(good(), digest)), "log"},
		{"certificate is in no log", bundleOf(a.Bundle(with(func(s *signtest.Signing) { s.NoSCT = true }), digest)), "SCT"},
		{"proof of another certificate", bundleOf(a.Bundle(with(func(s *signtest.Signing) { s.BadSCT = true }), digest)), "SCT"},
		{"signature is in no log", bundleOf(a.Bundle(with(func(s *signtest.Signing) { s.NoLog = true }), digest)), "log"},
		{"signature is in no log, but stamped", bundleOf(a.Bundle(with(func(s *signtest.Signing) { s.NoLog, s.Stamp = true, true }), digest)), "log"},
		{"signature is in no log, simple", simpleOf(a.Simple(with(func(s *signtest.Signing) { s.NoLog = true }), digest)), "log"},
		{"entry without proof of inclusion", bundleOf(a.Bundle(with(func(s *signtest.Signing) { s.NoProof = true }), digest)), "inclusion proof"},
		{"proof of inclusion in another tree", bundleOf(a.Bundle(with(func(s *signtest.Signing) { s.BadProof = true }), digest)), "log"},
		{"entry about another signature", bundleOf(a.Bundle(with(func(s *signtest.Signing) { s.OtherEntry = true }), digest)), "log"},
		{"entry about another signature, simple", simpleOf(a.Simple(with(func(s *signtest.Signing) { s.OtherEntry = true }), digest)), ""},
		{"empty", bundleOf(nil), ""},
		{"empty object", bundleOf([]byte("{}")), ""},
		{"truncated", bundleOf(truncated(a.Bundle(good(), digest))), ""},
		{"two bundles", bundleOf(bytes.Repeat(a.Bundle(good(), digest), 2)), ""},
		{"older bundle", bundleOf(replaced(a.Bundle(good(), digest), "bundle.v0.3+json", "bundle+json;version=0.2")), "version 0.3"},
		{"newer bundle", bundleOf(replaced(a.Bundle(good(), digest), "bundle.v0.3+json", "bundle.v0.4+json")), "not yet supported"},
		{"another document", bundleOf([]byte(`{"mediaType":"application/vnd.oci.image.index.v1+json"}`)), ""},
		{"truncated payload", simpleOf(edited(k.Simple(digest, repository), func(s *signtest.Simple) { s.Payload = truncated(s.Payload) })), ""},
		{"payload with a key twice", simpleOf(edited(k.Simple(digest, repository), func(s *signtest.Simple) {
			s.Payload = replaced(s.Payload, `"optional":null`, `"optional":null,"optional":null`)
		})), "duplicate"},
		{"tampered payload", simpleOf(edited(k.Simple(digest, repository), func(s *signtest.Simple) { s.Payload = replaced(s.Payload, "null", "{}") })), "verify"},
		{"payload of another type", simpleOf(edited(k.Simple(digest, repository), func(s *signtest.Simple) {
			s.Payload = replaced(s.Payload, "cosign container image", "atomic container")
		})), "no signature of an image"},
		{"no signature", simpleOf(edited(k.Simple(digest, repository), func(s *signtest.Simple) { clear(s.Annotations) })), "no signature"},
		{"key's signature with somebody's certificate", simpleOf(edited(k.Simple(digest, repository), func(s *signtest.Simple) {
			s.Annotations["dev.sigstore.cosign/certificate"] = a.Simple(good(), digest).Annotations["dev.sigstore.cosign/certificate"]
		})), "log"},
	} {
		t.Run(c.name, func(t *testing.T) {
			trusted := byIdentity(a)
			trusted.Keys = byKeys(k).Keys
			_, err := verifySet(t, trusted, c.item)
			refused(t, err, wire.CodeSignature, c.words)
		})
	}
	if t.Failed() {
		return
	}
	// The good ones, under the same trust.
	trusted := byIdentity(a)
	trusted.Keys = byKeys(k).Keys
	for _, item := range []Item{bundleOf(k.Bundle(digest, "")), simpleOf(k.Simple(digest, repository)), bundleOf(a.Bundle(good(), digest)), simpleOf(a.Simple(good(), digest))} {
		if _, err := verifySet(t, trusted, item); err != nil {
			t.Errorf("a good signature: %v", err)
		}
	}
}

func truncated(b []byte) []byte { return b[:len(b)/2] }

func replaced(b []byte, old, new string) []byte {
	if !bytes.Contains(b, []byte(old)) {
		panic("nothing to replace: " + old)
	}
	return bytes.ReplaceAll(b, []byte(old), []byte(new))
}

func edited(s signtest.Simple, edit func(*signtest.Simple)) signtest.Simple {
	edit(&s)
	return s
}
