package fetch

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/image/trust"
)

// key puts a key into the folder of a prefix. Nobody here looks into it.
func (b *bench) key(prefix, text string) trust.Key {
	b.t.Helper()
	k, err := trust.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte(text)}))
	if err == nil {
		err = trust.AddKey(b.trust, prefix, k)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return k
}

// signedBench trusts a key for what is signed.
func signedBench(t *testing.T) (*bench, trust.Key) {
	b := newBench(t)
	b.o.Seen = trust.NewSeen(filepath.Join(b.root, "signed"))
	b.rule("r.example", trust.Signed)
	return b, b.key("r.example", "key")
}

func (b *bench) noNetwork() {
	b.o.Program = "/bin/false"
}

func TestSignedImage(t *testing.T) {
	b, k := signedBench(t)
	const ref = "r.example/sign-key/good:latest"
	img := b.accepted(ref, PullNew)
	v := img.Verdict
	if v.Signer == nil || v.Signer.Key != k.Fingerprint || v.Signer.Digest != img.Record.Manifest || v.Tier() != trust.TierSigned || v.Rule != "r.example" {
		t.Fatalf("verdict %+v", v)
	}
	rec, err := b.store.LookupRef(b.ref(ref))
	if err != nil || rec.Verdict.Signer == nil || rec.Signatures.IsZero() {
		t.Fatalf("record %+v, %v", rec, err)
	}
	if set, err := b.store.CAS().Read(rec.Signatures, 100); err != nil || string(set) != "sign-key" {
		t.Errorf("signatures %q, %v", set, err)
	}
	// While nothing has changed, nobody computes anything, whatever other rules say.
	program := b.o.Program
	b.noNetwork()
	b.accepted(ref, PullNew)
	b.rule("elsewhere.example", trust.Accept)
	b.accepted(ref, PullNever)
	b.accepted(img.ID.String(), PullNever)

	// With another key, it is verified again, from the store.
	b.key("r.example", "another key")
	if _, err := b.Image(context.Background(), ref, PullNever); err == nil {
		t.Error("a verdict under other keys was taken without a verifier")
	}
	b.o.Program = program
	b.accepted(ref, PullNever)
	if b.started() != 1 {
		t.Errorf("%d fetches, want 1", b.started())
	}
}

// SG-05: whatever the verifier does but name a trusted signer and end well, lets
// nothing in.
func TestVerifierMisbehaves(t *testing.T) {
	for _, deed := range []string{
		"none", "bad", "crash", "exit0", "exit2", "done", "garbage", "hang", "other-digest", "other-key", "other-identity", "two",
		"stranger", "stranger-with-key", "dies-late", "fails-late", "exits-badly", "resolves", "flood",
	} {
		t.Run(deed, func(t *testing.T) {
			t.Parallel()
			b, _ := signedBench(t)
			if deed == "hang" {
				b.patience = time.Second
			}
			_, err := b.Image(context.Background(), "r.example/sign-"+deed+"/good", PullNew)
			if err == nil {
				t.Fatal("the image was let in")
			}
			b.untouched()
			if len(b.blobs()) != 0 {
				t.Error("layers were brought of an image that is refused")
			}
		})
	}
}

// SG-01, SG-14: unsigned images, and a removed key.
func TestRefusalsNameTheRuleAndTheWayOut(t *testing.T) {
	b, k := signedBench(t)
	refused := b.refused("r.example/team/good", PullNew)
	if got, want := refused.Hint(), "rkt trust add --accept r.example/team/good"; got != want {
		t.Errorf("Hint() = %q, want %q", got, want)
	}
	if text := refused.Error(); !strings.Contains(text, "not signed") || !strings.Contains(text, refused.Rule.Path) || !strings.Contains(text, `"r.example"`) {
		t.Errorf("Error() = %q", text)
	}
	const ref = "r.example/sign-key/good:latest"
	img := b.accepted(ref, PullNew)
	if err := trust.RemoveKey(b.trust, nil, "r.example", k.Fingerprint[:12]); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{ref, "r.example/sign-key/good@" + img.Record.Manifest.String(), img.ID.String(), img.ID.String()[:20]} {
		for _, pull := range []Pull{PullNew, PullNever, PullUpdate} {
			refused := b.refused(text, pull)
			if !strings.Contains(refused.Error(), `"r.example"`) || refused.Hint() != "rkt trust add --key=FILE r.example" {
				t.Errorf("%s: %v, hint %q", text, refused, refused.Hint())
			}
		}
	}
	b.o.Insecure = true
	if v := b.accepted(ref, PullNever).Verdict; !v.Insecure || v.Tier() != trust.TierInsecure {
		t.Errorf("verdict %+v", v)
	}
	b.o.Insecure = false
	b.refused(ref, PullNever)
	b.key("r.example", "key")
	b.accepted(ref, PullNever)
}

// An image of before there was the rule is asked for its signatures, and stays
// the image that it was.
func TestSignaturesOfAPresentImage(t *testing.T) {
	b := newBench(t)
	b.rule("r.example", trust.Accept)
	const ref = "r.example/sign-key/good:latest"
	old := b.accepted(ref, PullNew)
	if !old.Record.Signatures.IsZero() {
		t.Fatal("signatures were brought although nobody wants them")
	}
	b.rule("r.example", trust.Signed)
	b.key("r.example", "key")
	if refused := b.refused(ref, PullNever); refused.Hint() != "rkt fetch --pull-policy=update "+ref {
		t.Errorf("hint %q", refused.Hint())
	}
	img := b.accepted(ref, PullNew)
	if img.ID != old.ID || img.Verdict.Signer == nil {
		t.Errorf("image %v, verdict %+v", img.ID, img.Verdict)
	}
	b.noNetwork()
	b.accepted(ref, PullNever)
}

// Once signed, never silently unsigned: not under a rule that accepts everything,
// not after the image is gone.
func TestSignedRepositoryStaysSigned(t *testing.T) {
	b, _ := signedBench(t)
	const signed = "r.example/sign-key/good"
	b.accepted(signed, PullNew)
	if err := b.store.Untag(context.Background(), signed); err != nil {
		t.Fatal(err)
	}
	b.rule("r.example", trust.Accept) // by hand, or by a package
	b.accepted(signed, PullNew)       // still signed

	// Now somebody has put an unsigned image there.
	if err := os.Rename(filepath.Join(b.root, "signed", "r.example%2Fsign-key%2Fgood.json"), filepath.Join(b.root, "signed", "r.example%2Fteam%2Fgood.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Image(context.Background(), "r.example/team/good", PullNew); err == nil || !strings.Contains(err.Error(), "another repository") {
		t.Errorf("a memory about another repository: %v", err)
	}
	if err := b.o.Seen.Forget(context.Background(), "r.example"); err != nil {
		t.Fatal(err)
	}
	key := b.key("elsewhere", "key")
	signer := &trust.Signer{Key: key.Fingerprint, Digest: cas.Of(nil)}
	err := b.o.Seen.Note(context.Background(), "r.example/team/good", trust.Rule{Prefix: "r.example"}, &trust.Anchors{Keys: []trust.Key{key}}, signer)
	if err != nil {
		t.Fatal(err)
	}
	refused := b.refused("r.example/team/good", PullNew)
	if !strings.Contains(refused.Error(), key.Fingerprint) || refused.Hint() != "rkt trust add --accept r.example/team/good" {
		t.Errorf("%v, hint %q", refused, refused.Hint())
	}
	b.refused("r.example/team/good:other", PullNew)
	b.accepted("r.example/team/other/good", PullNew)
	if err := b.o.Seen.Forget(context.Background(), "r.example/team/good"); err != nil {
		t.Fatal(err)
	}
	b.accepted("r.example/team/good", PullNew)
}

func TestAskTellsWhoHasSigned(t *testing.T) {
	for _, c := range []struct {
		deed   string
		answer Answer
		signer string // in the question
		action trust.Action
		tier   string
	}{
		{"sign-identity", AnswerRepository, "me@example.com (https://issuer.example)", trust.Signed, trust.TierSigned},
		{"sign-identity", AnswerRegistry, "me@example.com (https://issuer.example)", trust.Accept, trust.TierSigned},
		{"sign-identity", AnswerDigest, "me@example.com (https://issuer.example)", "", trust.TierAccepted},
		{"sign-bad", AnswerRepository, "", trust.Accept, trust.TierAccepted},
		{"unsigned", AnswerRepository, "", trust.Accept, trust.TierAccepted},
	} {
		t.Run(fmt.Sprintf("%s %d", c.deed, c.answer), func(t *testing.T) {
			b := newBench(t)
			b.o.Seen = trust.NewSeen(filepath.Join(b.root, "signed"))
			asked := 0
			b.o.Ask = func(_ context.Context, q Question) (Answer, error) {
				asked++
				got := ""
				for _, s := range q.Signers {
					got += s.String()
				}
				if got != c.signer || (q.Unknown != "") != (c.deed == "sign-bad") {
					t.Errorf("question %+v", q)
				}
				return c.answer, nil
			}
			name := "r.example/" + c.deed + "/good"
			img := b.accepted(name, PullNew)
			if got := img.Verdict.Tier(); got != c.tier {
				t.Errorf("tier %s, want %s", got, c.tier)
			}
			b.accepted(name, PullNew)
			b.accepted(name, PullUpdate)
			policy, err := b.policy()
			if err != nil {
				t.Fatal(err)
			}
			if c.answer == AnswerDigest {
				return
			}
			if asked != 1 {
				t.Errorf("asked %d times", asked)
			}
			if rules := policy.Rules(); len(rules) != 1 || rules[0].Action != c.action {
				t.Errorf("rules %v", rules)
			}
			seen, err := b.o.Seen.Get(name)
			if err != nil || (seen != nil) != (c.tier == trust.TierSigned) {
				t.Errorf("seen %+v, %v", seen, err)
			}
		})
	}
}

// SG-08: keys that others could write, links, and what is no key let nothing in.
func TestUnsafeKeysLetNothingIn(t *testing.T) {
	for name, spoil := range map[string]func(dir, file string) error{
		"writable by others": func(_, file string) error { return os.Chmod(file, 0o666) },
		"another owner":      func(_, file string) error { return os.Chown(file, 1000, 0) },
		"folder for others":  func(dir, _ string) error { return os.Chmod(dir, 0o777) },
		"parent for others":  func(dir, _ string) error { return os.Chmod(filepath.Dir(dir), 0o777) },
		"keys for others":    func(dir, _ string) error { return os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o777) },
		"link to a key":      func(_, file string) error { return errors.Join(os.Rename(file, file+"2"), os.Symlink(file+"2", file)) },
		"link to the folder": func(dir, _ string) error { return errors.Join(os.Rename(dir, dir+"2"), os.Symlink(dir+"2", dir)) },
		"two keys in a file": func(_, file string) error {
			b, _ := os.ReadFile(file)
			return os.WriteFile(file, append(b, b...), 0o644)
		},
		"no key":             func(_, file string) error { return os.WriteFile(file, []byte("key"), 0o644) },
		"pipe":               func(_, file string) error { return unix.Mkfifo(file+"2", 0o644) },
		"masked by an empty": func(_, file string) error { return os.Truncate(file, 0) },
		"huge":               func(_, file string) error { return os.Truncate(file, 1<<20) },
	} {
		t.Run(name, func(t *testing.T) {
			b, k := signedBench(t)
			const ref = "r.example/sign-key/good"
			b.accepted(ref, PullNew)
			dir := trust.KeyDir(b.trust, "r.example")
			if err := spoil(dir, filepath.Join(dir, k.Fingerprint+".pem")); err != nil {
				t.Fatal(err)
			}
			for _, pull := range []Pull{PullNew, PullUpdate, PullNever} {
				if _, err := b.Image(context.Background(), ref, pull); err == nil {
					t.Errorf("%s: the image was let in", pull)
				}
			}
		})
	}
}

func TestCheckTellsWithoutChanging(t *testing.T) {
	b, _ := signedBench(t)
	const ref = "r.example/sign-key/good:latest"
	o, err := b.Check(context.Background(), b.ref(ref))
	if err != nil || o.Stored != nil || o.Anchors == nil || len(o.Anchors.Keys) != 1 {
		t.Errorf("Check() before = %+v, %v", o, err)
	}
	b.accepted(ref, PullNew)
	b.key("r.example", "another")
	before := b.blobs()
	o, err = b.Check(context.Background(), b.ref(ref))
	if err != nil || o.Stored == nil || o.Verdict.Signer == nil {
		t.Errorf("Check() = %+v, %v", o, err)
	}
	b.rule("r.example", trust.Reject)
	var refused *trust.Refused
	if o, err = b.Check(context.Background(), b.ref(ref)); !errors.As(err, &refused) || o == nil {
		t.Errorf("Check() of what is rejected = %+v, %v", o, err)
	}
	if rec, err := b.store.LookupRef(b.ref(ref)); err != nil || rec.Verdict.Action != trust.Signed || len(b.blobs()) != len(before) {
		t.Errorf("Check() has changed something: %+v, %v", rec, err)
	}
}
