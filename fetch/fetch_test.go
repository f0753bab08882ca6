package fetch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rkt/cas"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/image/trust"
)

func TestGetBringsAnImage(t *testing.T) {
	b := newBench(t)
	ref := b.local("good")
	img := b.must(ref, PullNew)
	want := good()
	if img.ID != cas.Of(want.config) || img.Record.Manifest != cas.Of(want.manifest) || len(img.Layers) != len(want.layers) {
		t.Errorf("image %v", img.Record)
	}
	if got, want := img.Size, int64(len(want.config)+len(want.manifest)+len("layer zero"+"layer one"+"layer two")); got != want {
		t.Errorf("size %d, want %d", got, want)
	}
	if len(b.derived) != len(want.layers) {
		t.Errorf("derived %v", b.derived)
	}
	if got := b.blobs(); len(got) != 5 {
		t.Errorf("blobs %v", got)
	}
	var kinds []string
	stored := 0
	for _, e := range b.events {
		switch e.(type) {
		case Stored:
			stored++
		case Progress, Note: // the fake is not confined
		default:
			kinds = append(kinds, fmt.Sprintf("%T", e))
		}
	}
	if got := strings.Join(kinds, " "); got != "fetch.Started fetch.Resolved fetch.Ready" || stored != 3 {
		t.Errorf("events %s, %d stored", got, stored)
	}
}

func TestGetBringsAnImageOfAnIndex(t *testing.T) {
	b := newBench(t)
	img := b.must(b.local("with-index"), PullNew)
	if img.Index.IsZero() || !b.blobs()[img.Index] {
		t.Errorf("index %v is not stored", img.Index)
	}
}

func TestPullPolicies(t *testing.T) {
	b := newBench(t)
	b.rule("r.example", trust.Accept)
	ref := b.ref("r.example/tests/good:latest")
	if _, err := b.Get(context.Background(), ref, PullNever); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("never, absent: %v", err)
	}
	for i, step := range []struct {
		pull    Pull
		started int
	}{{PullNew, 1}, {PullNew, 1}, {PullNever, 1}, {PullUpdate, 2}, {PullNew, 2}} {
		b.must(ref, step.pull)
		if got := b.started(); got != step.started {
			t.Errorf("step %d, %s: rkt-fetch was started %d times, want %d", i, step.pull, got, step.started)
		}
	}
	if len(b.derived) != 3 {
		t.Errorf("layers were brought again: %v", b.derived)
	}
}

// RG-12: a recorded digest needs no registry.
func TestDigestOfAStoredImageNeedsNobody(t *testing.T) {
	b := newBench(t)
	b.rule("r.example", trust.Accept)
	img := b.must(b.ref("r.example/tests/good:latest"), PullNew)
	for _, text := range []string{"r.example/tests/good@", "r.example/tests/good:other@", "r.example/elsewhere/absent@"} {
		again := b.must(b.ref(text+img.Record.Manifest.String()), PullUpdate)
		if again.ID != img.ID {
			t.Errorf("%s: %v", text, again.ID)
		}
	}
	if b.started() != 1 {
		t.Errorf("rkt-fetch was started %d times", b.started())
	}
}

func TestDigestMustMatch(t *testing.T) {
	b := newBench(t)
	b.rule("r.example", trust.Accept)
	ref := b.ref("r.example/tests/good@" + cas.Of([]byte("something else")).String())
	_, err := b.Get(context.Background(), ref, PullNew)
	var failure *Error
	if !errors.As(err, &failure) || failure.Code != wire.CodeDigest || !strings.Contains(err.Error(), ref.String()) {
		t.Errorf("Get() = %v", err)
	}
	b.untouched()
	if len(b.blobs()) != 0 {
		t.Error("layers were brought")
	}
}

func TestChangedLocalFileIsReadAgain(t *testing.T) {
	b := newBench(t)
	ref := b.local("good")
	b.must(ref, PullNew)
	b.must(ref, PullNew)
	if got := b.started(); got != 1 {
		t.Errorf("an unchanged file was read %d times", got)
	}
	if err := os.WriteFile(ref.Path, []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.must(ref, PullNever)
	if got := b.started(); got != 1 {
		t.Errorf("never reads the file: %d", got)
	}
	b.must(ref, PullNew)
	if got := b.started(); got != 2 {
		t.Errorf("a changed file was read %d times, want 2", got)
	}
}

func TestDamagedImageIsFetchedAgain(t *testing.T) {
	for _, what := range []string{"layer", "config"} {
		t.Run(what, func(t *testing.T) {
			b := newBench(t)
			b.rule("*", trust.Accept)
			ref := b.ref("r.example/good:latest")
			img := b.must(ref, PullNew)
			gone := img.Layers[1]
			if what == "config" {
				gone = img.ID
			}
			if err := b.store.CAS().Remove(context.Background(), gone); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Get(context.Background(), ref, PullNever); err == nil {
				t.Error("never is content with a damaged image")
			}
			b.must(ref, PullNew)
			if !b.blobs()[gone] {
				t.Errorf("%s is still missing", what)
			}
		})
	}
}

// RG-01, RG-02, RG-05, IM-14, SG-05: whatever rkt-fetch claims or leaves in the
// spool, nothing unverified gets into the store and nobody waits for ever.
func TestNothingThatRktFetchDoesIsBelieved(t *testing.T) {
	for _, c := range []struct {
		what string
		code wire.Code
		want string // part of the error
	}{
		{"index-chooses-another", wire.CodeDigest, "manifest has digest"},
		{"index-lies-about-size", wire.CodeDigest, "bytes, want 1"},
		{"wrong-config", wire.CodeDigest, "config has digest"},
		{"too-few-diff-ids", wire.CodeDigest, "2 diff IDs for the 3 layers"},
		{"other-platform", wire.CodePlatform, "not"},
		{"huge-manifest", wire.CodeTooLarge, "manifest"},
		{"too-big-for-the-disk", wire.CodeSpace, "no space left on"},
		{"no-json", wire.CodeType, "manifest"},
		{"layer-first", wire.CodeOther, "not asked for"},
		{"done-first", wire.CodeOther, "before it says"},
		{"garbage", wire.CodeOther, "malformed"},
		{"dies-first", wire.CodeOther, "ended before"},
		{"flood-notes-first", wire.CodeOther, "more messages"},
		{"link-for-config", wire.CodeOther, "config"},
		{"hard-link-for-config", wire.CodeOther, "not a plain file"},
		{"fifo-for-config", wire.CodeOther, "not a plain file"},
		{"folder-for-manifest", wire.CodeOther, "not a plain file"},
		{"device-for-manifest", wire.CodeOther, "not permitted"},
		{"no-config", wire.CodeOther, "config"},
		{"dies-after-order", wire.CodeOther, "ended before"},
		{"dies-between-layers", wire.CodeOther, "ended before"},
		{"layer-not-asked", wire.CodeOther, "not asked for"},
		{"progress-not-asked", wire.CodeOther, "not asked for"},
		{"layer-twice", wire.CodeOther, "not asked for"},
		{"layer-sent-to-nobody", wire.CodeOther, "sent to nobody"},
		{"layer-given-and-not-there", wire.CodeOther, "take layer 1"},
		{"begins-for-ever", wire.CodeOther, "begun for the"},
		{"resolves-again", wire.CodeOther, "no place"},
		{"flood-notes", wire.CodeOther, "more messages"},
		{"flood-progress", wire.CodeOther, "more messages"},
		{"lacks-a-layer", wire.CodeOther, "did not bring 1"},
		{"wrong-tar", wire.CodeDigest, "layer 1 of 3"},
		{"appended-byte", wire.CodeDigest, "layer 1 of 3"},
		{"no-facts", wire.CodeOther, "layer 1 of 3"},
		{"reader-dies", wire.CodeOther, "layer 1 of 3: rkt-fetch ended before"},
		{"reader-fails", wire.CodeLayer, "layer 1 of 3: it is"},
		{"reader-resolves", wire.CodeOther, "protocol"},
		{"reader-wants-the-world", wire.CodeOther, "memory twice"},
		{"reader-exits-badly", wire.CodeOther, "exit status 3"},
		{"link-given", wire.CodeOther, "layer-0.tar"},
		{"hard-link-given", wire.CodeOther, "one name"},
		{"fifo-given", wire.CodeOther, "plain file"},
		{"open-file-given", wire.CodeOther, "open for writing"},
		{"exits-badly", wire.CodeOther, "exit status 3"},
		{"denied", wire.CodeDenied, `no \x1b[2J\u202eentry`},
		{"absent", wire.CodeNotFound, "no such tag"},
		{"disk-full", wire.CodeSpace, "no space left on"},
	} {
		t.Run(c.what, func(t *testing.T) {
			b := newBench(t)
			b.rule("r.example", trust.Accept)
			ref := b.ref("r.example/tests/" + c.what + ":latest")
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_, err := b.Get(ctx, ref, PullNew)
			var failure *Error
			if !errors.As(err, &failure) {
				t.Fatalf("Get() = %v, want an *Error", err)
			}
			if failure.Code != c.code || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Get() = code %d, %v; want code %d with %q", failure.Code, err, c.code, c.want)
			}
			if !strings.Contains(err.Error(), ref.String()) || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("not one clear line: %q", err)
			}
			b.untouched()
		})
	}
}

func TestFailedFetchKeepsWholeLayersForTheNext(t *testing.T) {
	b := newBench(t)
	b.rule("r.example", trust.Accept)
	if _, err := b.Get(context.Background(), b.ref("r.example/lacks-a-layer"), PullNew); err == nil {
		t.Fatal("no error")
	}
	before := len(b.blobs())
	b.derived = nil
	b.must(b.ref("r.example/good"), PullNew)
	if got, want := len(b.derived), 3-before; got != want {
		t.Errorf("%d layers were brought, want %d: %d were there", got, want, before)
	}
}

func TestStdin(t *testing.T) {
	b := newBench(t)
	if _, err := b.Get(context.Background(), b.ref("-"), PullNew); err == nil {
		t.Error("no stdin, no error")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w.Close()
	b.o.Stdin = r
	img := b.must(b.ref("-"), PullNew)
	if img.Reference != "" {
		t.Errorf("an image from a pipe has the name %q", img.Reference)
	}
	if _, err := b.Image(context.Background(), img.ID.String(), PullNever); err != nil {
		t.Errorf("it cannot be had by its ID: %v", err)
	}
}

// IM-17: what a local reference names is opened without waiting for anything.
func TestLocalReferenceToSomethingElse(t *testing.T) {
	b := newBench(t)
	fifo := filepath.Join(b.root, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"docker-archive:" + fifo + ":x":          "neither a file nor a folder",
		fifo:                                     "neither a file nor a folder",
		"oci:" + b.local("x").Path + ":x":        "not the folder",
		"docker-archive:" + b.root + ":x":        "it is a folder",
		"oci-archive:" + b.root + "/absent:x":    "no such file",
		"oci:" + filepath.Join(b.root, "absent"): "no such file",
		"docker-archive:/dev/zero:x":             "neither a file nor a folder",
	} {
		_, err := b.Get(context.Background(), b.ref(text), PullNew)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	b.untouched()
}
