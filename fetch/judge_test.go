package fetch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rkt/image"
	"rkt/image/trust"
)

func (b *bench) refused(text string, pull Pull) *trust.Refused {
	b.t.Helper()
	_, err := b.Image(context.Background(), text, pull)
	var refused *trust.Refused
	if !errors.As(err, &refused) {
		b.t.Fatalf("Image(%s, %s) = %v, want *trust.Refused", text, pull, err)
	}
	return refused
}

func (b *bench) accepted(text string, pull Pull) *image.Image {
	b.t.Helper()
	img, err := b.Image(context.Background(), text, pull)
	if err != nil {
		b.t.Fatalf("Image(%s, %s) = %v", text, pull, err)
	}
	return img
}

// SG-01: without a rule and without a terminal nobody is even asked for it.
func TestImageWithoutARuleIsRefused(t *testing.T) {
	b := newBench(t)
	refused := b.refused("r.example/tests/good", PullNew)
	if got, want := refused.Hint(), "rkt trust add --accept r.example/tests/good"; got != want {
		t.Errorf("Hint() = %q, want %q", got, want)
	}
	if b.started() != 0 {
		t.Error("rkt-fetch was started")
	}
	b.untouched()
}

// SG-02: a prefix is no more than what it says.
func TestRulesDecideByPrefix(t *testing.T) {
	b := newBench(t)
	b.rule("r.example/team", trust.Accept)
	b.rule("r.example/team/secret", trust.Reject)
	b.rule("r.example/pinned", trust.Pinned)
	img := b.accepted("r.example/team/good", PullNew)
	digest := "@" + img.Record.Manifest.String()
	b.accepted("r.example/pinned/good"+digest, PullNew)
	for _, name := range []string{
		"r.example/team-evil/good", "r.example:5000/team/good", "x.r.example/team/good", "r.example/team/secret/good",
		"r.example/pinned/good",
	} {
		b.refused(name, PullNew)
	}
	b.refused("r.example/team/secret/good"+digest, PullNew)
}

// The beginning of an ID is no name, though it looks like one.
func TestBareIDIsPointedOut(t *testing.T) {
	b := newBench(t)
	b.rule("r.example", trust.Accept)
	img := b.accepted("r.example/tests/good:latest", PullNew)
	started := b.started()
	for _, digits := range []int{6, 12, 40} {
		bare := img.ID.Hex()[:digits]
		_, err := b.Image(context.Background(), bare, PullNew)
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(e.Hint(), "sha256:"+bare) {
			t.Errorf("Image(%q) = %v, want an error with a hint at sha256:%s", bare, err, bare)
		}
	}
	if b.refused("facade", PullNew); b.started() != started {
		t.Error("rkt-fetch was started")
	}
}

// What is there for another platform is not what was asked for.
func TestPresentImageOfAnotherPlatform(t *testing.T) {
	b := newBench(t)
	b.rule("r.example", trust.Accept)
	const ref = "r.example/tests/good:latest"
	b.accepted(ref, PullNew)
	started := b.started()
	b.o.Platform = image.Platform{OS: "plan9", Architecture: "mips"}
	if _, err := b.Image(context.Background(), ref, PullNever); !errors.Is(err, image.ErrPlatform) || b.started() != started {
		t.Errorf("without asking anybody: %v, want ErrPlatform", err)
	}
	if _, err := b.Image(context.Background(), ref, PullNew); !errors.Is(err, image.ErrPlatform) || b.started() == started {
		t.Errorf("after asking: %v, want ErrPlatform of what there is", err)
	}
}

// What is given beside a digest is said to be ignored.
func TestTagBesideADigestIsIgnoredAloud(t *testing.T) {
	first, b := newBench(t), newBench(t)
	first.rule("r.example", trust.Accept)
	b.rule("r.example", trust.Accept)
	img := first.accepted("r.example/tests/good:latest", PullNew)
	b.accepted("r.example/other/good:v7@"+img.Record.Manifest.String(), PullNew)
	if !slices.ContainsFunc(b.events, func(e Event) bool {
		n, ok := e.(Note)
		return ok && strings.Contains(n.Text, `"v7" is ignored`)
	}) {
		t.Errorf("nothing is said about the tag: %+v", b.events)
	}
}

// SG-14: every way to an image that is in the store meets the policy of now.
func TestPresentImageMeetsThePolicyOfNow(t *testing.T) {
	b := newBench(t)
	b.rule("r.example", trust.Accept)
	const ref = "r.example/tests/good:latest"
	img := b.accepted(ref, PullNew)
	id, digest := img.ID.String(), "r.example/tests/good@"+img.Record.Manifest.String()
	b.rule("r.example", trust.Reject)
	for _, text := range []string{ref, digest, id, id[:20]} {
		for _, pull := range []Pull{PullNew, PullUpdate, PullNever} {
			b.refused(text, pull)
		}
	}
	b.o.Insecure = true
	for _, text := range []string{ref, digest, id} {
		if got := b.accepted(text, PullNever); !got.Verdict.Insecure || got.Verdict.Action != trust.Reject {
			t.Errorf("%s: verdict %v does not say that the policy was switched off", text, got.Verdict)
		}
	}
	b.o.Insecure = false
	b.refused(ref, PullNever) // what one command was allowed is not for the next

	b.rule("r.example", trust.Accept)
	if got := b.accepted(ref, PullNever); got.Verdict.Insecure || got.Verdict.Action != trust.Accept {
		t.Errorf("verdict %v", got.Verdict)
	}
	b.rule("r.example", trust.Pinned)
	b.refused(id[:20], PullNever)
	b.accepted(id, PullNever)
	b.accepted(digest, PullNever)
}

func TestInsecureIsRecordedAndNotInherited(t *testing.T) {
	b := newBench(t)
	b.o.Insecure = true
	img := b.accepted("r.example/good", PullNew)
	rec, err := b.store.LookupRef(b.ref("r.example/good"))
	if err != nil {
		t.Fatal(err)
	}
	if !img.Verdict.Insecure || !rec.Verdict.Insecure {
		t.Errorf("verdicts %v, %v", img.Verdict, rec.Verdict)
	}
	b.o.Insecure = false
	b.refused("r.example/good", PullNew)
	b.refused(img.ID.String(), PullNew)
}

func TestLocalImagesNeedNoRule(t *testing.T) {
	b := newBench(t)
	b.rule("*", trust.Reject)
	img := b.must(b.local("good"), PullNew)
	b.accepted(img.ID.String(), PullNever)
	// The same bytes under a name of a registry are another question.
	b.refused("r.example/good@"+img.Record.Manifest.String(), PullNew)
}

func TestPolicyThatCannotBeReadLetsNothingIn(t *testing.T) {
	b := newBench(t)
	b.rule("r.example", trust.Accept)
	img := b.accepted("r.example/good", PullNew)
	if err := os.WriteFile(filepath.Join(b.trust, "broken.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"r.example/good", "r.example/other/good", img.ID.String()} {
		if _, err := b.Image(context.Background(), text, PullNew); err == nil || !strings.Contains(err.Error(), "broken.json") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name    string
		answer  Answer
		err     error
		rule    string // that is there afterwards
		allowed bool
	}{
		{"no", AnswerNo, nil, "", false},
		{"digest", AnswerDigest, nil, "", true},
		{"repository", AnswerRepository, nil, "r.example/tests/good", true},
		{"registry", AnswerRegistry, nil, "r.example", true},
		{"nobody answers", AnswerNo, errors.New("closed"), "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			asked := 0
			b.o.Ask = func(_ context.Context, q Question) (Answer, error) {
				asked++
				if q.Name != "r.example/tests/good" || q.Registry != "r.example" || q.Manifest.IsZero() {
					t.Errorf("question %v", q)
				}
				return c.answer, c.err
			}
			_, err := b.Get(context.Background(), b.ref("r.example/tests/good"), PullNew)
			if (err == nil) != c.allowed {
				t.Errorf("Get() = %v", err)
			}
			if !c.allowed {
				b.untouched()
				if len(b.blobs()) != 0 {
					t.Error("layers were brought before the answer")
				}
				return
			}
			b.must(b.ref("r.example/tests/good"), PullNew)
			if asked != 1 {
				t.Errorf("asked %d times", asked)
			}
			policy, err := b.policy()
			if err != nil {
				t.Fatal(err)
			}
			if rules := policy.Rules(); c.rule == "" && len(rules) != 0 || c.rule != "" && (len(rules) != 1 || rules[0].Prefix != c.rule) {
				t.Errorf("rules %v, want %q", rules, c.rule)
			}
		})
	}
}

func TestRuleIsNotAskedAbout(t *testing.T) {
	b := newBench(t)
	b.o.Ask = func(context.Context, Question) (Answer, error) {
		t.Error("asked although there is a rule")
		return AnswerRegistry, nil
	}
	b.rule("r.example", trust.Reject)
	b.refused("r.example/good", PullNew)
	b.rule("r.example", trust.Accept)
	b.accepted("r.example/good", PullNew)
}
