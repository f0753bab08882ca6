package signature

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"rkt/cas"
	"rkt/fetch/ingest/fault"
	"rkt/fetch/ingest/signature/signtest"
	"rkt/fetch/wire"
	"rkt/image/trust"
)

const (
	repository = "registry.example/team/app"
	subject    = "https://github.example/team/app/.github/workflows/release.yml@refs/tags/v1"
	issuer     = "https://token.example"
)

var (
	digest = cas.Of([]byte("manifest")).String()
	other  = cas.Of([]byte("another manifest")).String()
)

// good is a signing that is accepted.
func good() signtest.Signing { return signtest.Signing{Subject: subject, Issuer: issuer} }

// bundle and simple make items.
func bundleOf(b []byte) Item { return Item{Form: Bundle, Payload: b} }

func simpleOf(s signtest.Simple) Item {
	return Item{Form: SimpleSigning, Payload: s.Payload, Annotations: s.Annotations}
}

func byKeys(keys ...*signtest.Key) wire.Trust {
	t := wire.Trust{Name: repository, Digests: []string{digest}}
	for _, k := range keys {
		t.Keys = append(t.Keys, string(k.PEM()))
	}
	return t
}

func byIdentity(a *signtest.Authority) wire.Trust {
	return wire.Trust{Name: repository, Digests: []string{digest}, Root: string(a.Root()), Identities: []trust.Identity{{Issuer: issuer, Subject: subject}}}
}

func verifySet(t *testing.T, trusted wire.Trust, items ...Item) (Result, error) {
	t.Helper()
	set := Set{}
	for _, i := range items {
		set.Add(i)
	}
	b, err := set.Encode()
	if err != nil {
		t.Fatal(err)
	}
	result, err := Verify(trusted, b)
	if (err == nil) != (result.Accepted != nil) {
		t.Errorf("Verify() = %v, %v: both or neither", result.Accepted, err)
	}
	return result, err
}

// refused wants an error with the code and the words.
func refused(t *testing.T, err error, code wire.Code, words string) {
	t.Helper()
	if err == nil || fault.Code(err) != code || !strings.Contains(err.Error(), words) {
		t.Errorf("Verify() = %v (code %d), want code %d and %q", err, fault.Code(err), code, words)
	}
}

func TestSignaturesByKeys(t *testing.T) {
	for _, kind := range []string{"ecdsa", "ecdsa384", "ed25519", "rsa"} {
		k := signtest.NewKey(t, kind)
		for form, item := range map[Form]Item{Bundle: bundleOf(k.Bundle(digest, "")), SimpleSigning: simpleOf(k.Simple(digest, repository))} {
			result, err := verifySet(t, byKeys(signtest.NewKey(t, "ecdsa"), k), item)
			if err != nil {
				t.Errorf("%s, %s: %v", kind, form, err)
				continue
			}
			want := trust.Signer{Key: k.Fingerprint(), Digest: cas.Of([]byte("manifest"))}
			if *result.Accepted != want {
				t.Errorf("%s, %s: signer %+v, want %+v", kind, form, *result.Accepted, want)
			}
		}
	}
}

func TestSignaturesByIdentities(t *testing.T) {
	a := signtest.New(t)
	long := time.Now().Add(-100 * 24 * time.Hour).Truncate(time.Second).UTC()
	old, stamped := good(), good()
	old.Time = long
	stamped.Time, stamped.NoLog, stamped.Stamp = long, true, true
	named := good()
	named.Name = repository
	for what, c := range map[string]struct {
		item  Item
		proof string
		want  string
	}{
		"bundle":           {bundleOf(a.Bundle(old, digest)), "", "log"},
		"bundle, stamp":    {bundleOf(a.Bundle(stamped, digest)), "timestamp", "timestamp"},
		"simple":           {simpleOf(a.Simple(old, digest)), "", "log"},
		"simple, stamp":    {simpleOf(a.Simple(stamped, digest)), "timestamp", "timestamp"},
		"bundle with name": {bundleOf(a.Bundle(named, digest)), "", "log"},
	} {
		trusted := byIdentity(a)
		trusted.Proof = c.proof
		result, err := verifySet(t, trusted, c.item)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		s := result.Accepted
		if s.Subject != subject || s.Issuer != issuer || s.Proof != c.want || s.Digest.String() != digest {
			t.Errorf("%s: signer %+v", what, s)
		}
		if what != "bundle with name" && !s.Time.Equal(long) {
			t.Errorf("%s: signed at %v, want %v", what, s.Time, long)
		}
	}
}

// The digest of the index does as well as that of the manifest.
func TestSignatureOfTheIndex(t *testing.T) {
	k := signtest.NewKey(t, "ecdsa")
	trusted := byKeys(k)
	trusted.Digests = append(trusted.Digests, other)
	result, err := verifySet(t, trusted, bundleOf(k.Bundle(other, "")))
	if err != nil || result.Accepted.Digest.String() != other {
		t.Errorf("Verify() = %+v, %v", result.Accepted, err)
	}
}

// Every byte of a bundle matters: no change of one is accepted as a signature of
// the image by somebody else, or of something else.
func TestFlippedBytesOfABundle(t *testing.T) {
	k := signtest.NewKey(t, "ecdsa")
	whole := k.Bundle(digest, "")
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1
		result, err := Verify(byKeys(k), mustEncode(t, bundleOf(b)))
		if err == nil && (result.Accepted.Key != k.Fingerprint() || result.Accepted.Digest.String() != digest) {
			t.Errorf("byte %d: %+v", i, result.Accepted)
		}
	}
}

func mustEncode(t testing.TB, items ...Item) []byte {
	t.Helper()
	b, err := Set{Items: items}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// SG-04: one good signature among bad ones is enough, and many bad ones end soon.
func TestManySignatures(t *testing.T) {
	k, wrong := signtest.NewKey(t, "ecdsa"), signtest.NewKey(t, "ecdsa")
	var items []Item
	for range MaxItems - 1 {
		items = append(items, bundleOf(wrong.Bundle(digest, "")))
	}
	if _, err := verifySet(t, byKeys(k), append(items, bundleOf(k.Bundle(digest, "")))...); err != nil {
		t.Errorf("the last of %d: %v", MaxItems, err)
	}
	_, err := verifySet(t, byKeys(k), append(items, items[0], bundleOf(k.Bundle(digest, "")))...)
	refused(t, err, wire.CodeSignature, "there are more, which were not looked at")

	var keys []*signtest.Key
	for range 10 {
		keys = append(keys, signtest.NewKey(t, "ecdsa"))
	}
	_, err = verifySet(t, byKeys(keys...), items...)
	refused(t, err, wire.CodeSignature, "none of its 31 signatures")
	v, err := newVerification(byKeys(keys...))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.run(Set{Items: items}); err == nil || v.attempts > maxAttempts+len(items)*len(keys) {
		t.Errorf("%d attempts, %v", v.attempts, err)
	}
}

func TestUnsigned(t *testing.T) {
	k := signtest.NewKey(t, "ecdsa")
	_, err := verifySet(t, byKeys(k))
	refused(t, err, wire.CodeUnsigned, "not signed")
	for _, b := range []string{"", "{", "null", "[]", `{"signatures":null,"signatures":null}`, `{"signatures":[{"form":"other","payload":""}]}`, `{"x":1}`} {
		if _, err := Verify(byKeys(k), []byte(b)); err == nil {
			t.Errorf("set %q is accepted", b)
		}
	}
}

// Who has signed and is not trusted is told, and is not accepted.
func TestStrangers(t *testing.T) {
	a := signtest.New(t)
	trusted := byIdentity(a)
	trusted.Identities = nil
	result, err := verifySet(t, trusted, bundleOf(a.Bundle(good(), digest)))
	refused(t, err, wire.CodeSignature, "no rule names")
	if len(result.Strangers) != 1 || result.Strangers[0].Subject != subject || result.Strangers[0].Issuer != issuer {
		t.Errorf("strangers %+v", result.Strangers)
	}
	// One whose certificate is not proven is none.
	s := good()
	s.NoSCT = true
	if result, _ = verifySet(t, trusted, bundleOf(a.Bundle(s, digest))); len(result.Strangers) != 0 {
		t.Errorf("strangers %+v", result.Strangers)
	}
}

func TestExpressionsMatchTheWholeText(t *testing.T) {
	a := signtest.New(t)
	item := bundleOf(a.Bundle(good(), digest))
	for expression, want := range map[string]bool{
		`https://github\.example/team/.*`:  true,
		`^https://github\.example/team/.*`: true,
		`https://github\.example/team/`:    false,
		`app/.*`:                           false,
		`.*@refs/tags/v1`:                  true,
		`.*@refs/tags/v|x`:                 false,
	} {
		trusted := byIdentity(a)
		trusted.Identities = []trust.Identity{{Issuer: issuer, SubjectRegexp: expression}}
		if _, err := verifySet(t, trusted, item); (err == nil) != want {
			t.Errorf("%s: %v", expression, err)
		}
	}
}

// SG-03, SG-08: what is wrong with the trust itself lets nothing in.
func TestUnusableTrust(t *testing.T) {
	a := signtest.New(t)
	k := signtest.NewKey(t, "ecdsa")
	identity := byIdentity(a)
	edit := func(edit func(*wire.Trust)) wire.Trust {
		c := identity
		edit(&c)
		return c
	}
	for what, trusted := range map[string]wire.Trust{
		"two keys in a file": byPEM(string(k.PEM()) + string(k.PEM())),
		"text before":        byPEM("key:\n" + string(k.PEM())),
		"no key":             byPEM("key"),
		"private key":        byPEM(strings.ReplaceAll(string(k.PEM()), "PUBLIC", "PRIVATE")),
		"weak curve":         byKeys(signtest.NewKey(t, "ecdsa224")),
		"weak RSA":           byKeys(signtest.NewKey(t, "rsa1024")),
		"no root":            edit(func(t *wire.Trust) { t.Root = "" }),
		"broken root":        edit(func(t *wire.Trust) { t.Root = "{" }),
		"root without proof": edit(func(t *wire.Trust) { t.Root = string(a.Root(signtest.Log, signtest.Timestamp)) }),
		"no log":             edit(func(t *wire.Trust) { t.Root, t.Proof = string(a.Root(signtest.Log)), "log" }),
		"no timestamps":      edit(func(t *wire.Trust) { t.Root, t.Proof = string(a.Root(signtest.Timestamp)), "timestamp" }),
		"bad expression":     edit(func(t *wire.Trust) { t.Identities = []trust.Identity{{IssuerRegexp: "(", Subject: "x"}} }),
		"bad subject":        edit(func(t *wire.Trust) { t.Identities = []trust.Identity{{Issuer: "x", SubjectRegexp: "("}} }),
	} {
		_, err := Verify(trusted, mustEncode(t, bundleOf(k.Bundle(digest, "")), bundleOf(a.Bundle(good(), digest))))
		if fault.Code(err) != wire.CodeTrust {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := CheckTrust(trusted); fault.Code(err) != wire.CodeTrust {
			t.Errorf("%s: CheckTrust() = %v", what, err)
		}
	}
}

func byPEM(text string) wire.Trust {
	return wire.Trust{Name: repository, Digests: []string{digest}, Keys: []string{text}}
}

// Where the root has no log, a timestamp does; where it has no log of
// certificates, none is wanted.
func TestRootsWithoutLogs(t *testing.T) {
	a := signtest.New(t)
	s := good()
	s.NoLog, s.NoSCT, s.Stamp = true, true, true
	trusted := byIdentity(a)
	trusted.Root = string(a.Root(signtest.Log, signtest.CertLog))
	result, err := verifySet(t, trusted, bundleOf(a.Bundle(s, digest)))
	if err != nil || result.Accepted.Proof != "timestamp" {
		t.Errorf("Verify() = %+v, %v", result.Accepted, err)
	}
	s.Stamp = false
	_, err = verifySet(t, trusted, bundleOf(a.Bundle(s, digest)))
	refused(t, err, wire.CodeSignature, "timestamp")
}

// With a proof in the rule, a key alone does not do.
func TestKeysWithProof(t *testing.T) {
	a := signtest.New(t)
	k := signtest.NewKey(t, "ecdsa")
	trusted := byKeys(k)
	trusted.Root, trusted.Proof = string(a.Root()), "log"
	for _, item := range []Item{bundleOf(k.Bundle(digest, "")), simpleOf(k.Simple(digest, repository))} {
		_, err := verifySet(t, trusted, item)
		refused(t, err, wire.CodeSignature, "log")
	}
}

// Whatever is read of a signature, it is about the image or an error. Fuzz it with
// -fuzzminimizetime=1x: making inputs shorter takes all the time else.
func FuzzRead(f *testing.F) {
	a := signtest.New(f)
	k := signtest.NewKey(f, "ecdsa")
	trusted := byKeys(k)
	f.Add(mustEncode(f, bundleOf(a.Bundle(good(), digest))))
	f.Add(mustEncode(f, simpleOf(a.Simple(good(), digest))))
	f.Add(mustEncode(f, bundleOf(k.Bundle(digest, ""))))
	f.Add(mustEncode(f, simpleOf(k.Simple(digest, repository))))
	f.Fuzz(func(t *testing.T, set []byte) {
		s, err := Decode(set)
		if err != nil {
			return
		}
		for _, item := range s.Items {
			if e, err := newEntity(item, trusted); err == nil && e.digest.String() != digest {
				t.Errorf("it is about %v", e.digest)
			}
		}
	})
}

// Damage anywhere in a set makes it no better.
func TestDamagedSets(t *testing.T) {
	a := signtest.New(t)
	trusted := byIdentity(a)
	random := rand.New(rand.NewPCG(1, 2))
	for _, item := range []Item{bundleOf(a.Bundle(good(), digest)), simpleOf(a.Simple(good(), digest))} {
		whole := mustEncode(t, item)
		for range 3000 {
			b := bytes.Clone(whole)
			for range 1 + random.IntN(4) {
				b[random.IntN(len(b))] = byte(random.IntN(256))
			}
			result, err := Verify(trusted, b)
			if (err == nil) != (result.Accepted != nil) || err == nil && (result.Accepted.Subject != subject || result.Accepted.Digest.String() != digest) {
				t.Fatalf("Verify() = %+v, %v of %q", result.Accepted, err, b)
			}
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	a := signtest.New(b)
	k := signtest.NewKey(b, "ecdsa")
	for what, c := range map[string]struct {
		trusted wire.Trust
		item    Item
	}{
		"key":      {byKeys(k), bundleOf(k.Bundle(digest, ""))},
		"identity": {byIdentity(a), bundleOf(a.Bundle(good(), digest))},
	} {
		b.Run(what, func(b *testing.B) {
			set := mustEncode(b, c.item)
			for b.Loop() {
				if _, err := Verify(c.trusted, set); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
