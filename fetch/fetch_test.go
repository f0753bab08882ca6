package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rkt/cas"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/image/trust"
)

// bench is a store with a Fetcher whose rkt-fetch is the fake.
type bench struct {
	*Fetcher
	t     *testing.T
	root  string
	store *image.Store
	trust string // the trust.d folder

	mu      sync.Mutex
	events  []Event
	seen    chan Event // events, for who waits for one
	derived []cas.Digest
}

func newBench(t *testing.T) *bench {
	t.Helper()
	root := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	store, err := image.OpenStore(filepath.Join(root, "data"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	b := &bench{t: t, root: root, store: store, trust: filepath.Join(root, "trust.d"), seen: make(chan Event, 10000)}
	b.Fetcher = New(Options{Store: store, Layers: b, Program: self, TrustDirs: []string{b.trust}, Progress: b.progress})
	return b
}

func (b *bench) progress(e Event) {
	b.mu.Lock()
	b.events = append(b.events, e)
	b.mu.Unlock()
	select {
	case b.seen <- e:
	default: // a flood; nobody waits in it
	}
}

// Derive implements Deriver. It sees to it that the tar is the verified one and
// that the facts are those of the fake.
func (b *bench) Derive(_ context.Context, _ *cas.Ingest, tar, facts *os.File, d cas.Digest) error {
	bytes, err := io.ReadAll(tar)
	if err != nil {
		return err
	}
	claims, err := io.ReadAll(facts)
	if err != nil {
		return err
	}
	if cas.Of(bytes) != d || string(claims) != "facts of "+string(bytes) {
		return fmt.Errorf("derive %v from %q and %q", d, bytes, claims)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.derived = append(b.derived, d)
	return nil
}

// local makes a local reference with which the fake does what.
func (b *bench) local(what string) image.Ref {
	b.t.Helper()
	file := filepath.Join(b.root, "archive.tar")
	if _, err := os.Stat(file); err != nil {
		if err := os.WriteFile(file, []byte("archive"), 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
	return b.ref("docker-archive:" + file + ":" + what)
}

func (b *bench) ref(text string) image.Ref {
	b.t.Helper()
	ref, err := image.ParseRef(text)
	if err != nil {
		b.t.Fatal(err)
	}
	return ref
}

func (b *bench) rule(prefix string, action trust.Action) {
	b.t.Helper()
	if err := trust.Add(b.trust, trust.Rule{Prefix: prefix, Action: action}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) must(ref image.Ref, pull Pull) *image.Image {
	b.t.Helper()
	img, err := b.Get(context.Background(), ref, pull)
	if err != nil {
		b.t.Fatalf("Get(%v, %s) = %v", ref, pull, err)
	}
	return img
}

// started counts how often rkt-fetch was started.
func (b *bench) started() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, e := range b.events {
		if _, ok := e.(Started); ok {
			n++
		}
	}
	return n
}

// blobs returns the digests in the store.
func (b *bench) blobs() map[cas.Digest]bool {
	b.t.Helper()
	found := make(map[cas.Digest]bool)
	err := b.store.CAS().WalkBlobs(func(d cas.Digest, _ int64) error {
		found[d] = true
		return b.store.CAS().Check(context.Background(), d)
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return found
}

// untouched fails the test unless the store has nothing but whole layers of the
// good image that came before the failure, and no record, spool or lock.
func (b *bench) untouched() {
	b.t.Helper()
	records, err := b.store.List()
	if err != nil || len(records) != 0 {
		b.t.Errorf("records: %v, %v", records, err)
	}
	allowed := make(map[cas.Digest]bool)
	for _, l := range good().layers {
		allowed[cas.Of(l)] = true
	}
	for d := range b.blobs() {
		if !allowed[d] {
			b.t.Errorf("blob %v was stored", d)
		}
	}
	for _, dir := range []string{"cas/tmp", "fetching"} {
		entries, err := os.ReadDir(filepath.Join(b.root, "data", dir))
		if err != nil && !errors.Is(err, os.ErrNotExist) || len(entries) != 0 {
			b.t.Errorf("%s: %v, %v", dir, entries, err)
		}
	}
}

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
		case Progress:
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
		{"layer-first", wire.CodeOther, "before it says"},
		{"done-first", wire.CodeOther, "before it says"},
		{"garbage", wire.CodeOther, "malformed"},
		{"dies-first", wire.CodeOther, "ended before"},
		{"flood-notes-first", wire.CodeOther, "more messages"},
		{"link-for-config", wire.CodeOther, "config"},
		{"hard-link-for-config", wire.CodeOther, "not a plain file"},
		{"fifo-for-config", wire.CodeOther, "not a plain file"},
		{"folder-for-manifest", wire.CodeOther, "not a plain file"},
		{"device-for-manifest", wire.CodeOther, "not a plain file"},
		{"no-config", wire.CodeOther, "config"},
		{"dies-after-order", wire.CodeOther, "signal: killed"},
		{"dies-between-layers", wire.CodeOther, "signal: killed"},
		{"layer-not-asked", wire.CodeOther, "not asked for"},
		{"progress-not-asked", wire.CodeOther, "not asked for"},
		{"layer-twice", wire.CodeOther, "not asked for"},
		{"layer-that-is-not-there", wire.CodeOther, "layer 1 of 3"},
		{"resolves-again", wire.CodeOther, "no place"},
		{"flood-notes", wire.CodeOther, "more messages"},
		{"flood-progress", wire.CodeOther, "more messages"},
		{"lacks-a-layer", wire.CodeOther, "did not bring 1"},
		{"wrong-tar", wire.CodeDigest, "layer 1 of 3"},
		{"appended-byte", wire.CodeDigest, "layer 1 of 3"},
		{"link-for-tar", wire.CodeOther, "layer 1 of 3"},
		{"hard-link-for-tar", wire.CodeOther, "layer 1 of 3"},
		{"open-tar", wire.CodeOther, "layer 1 of 3"},
		{"fifo-for-tar", wire.CodeOther, "layer 1 of 3"},
		{"link-for-facts", wire.CodeOther, "layer 1 of 3"},
		{"fifo-for-facts", wire.CodeOther, "layer 1 of 3"},
		{"no-facts", wire.CodeOther, "layer 1 of 3"},
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

func TestCancelLeavesNothing(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		b.await(func(e Event) bool { _, ok := e.(Resolved); return ok })
		cancel()
	}()
	_, err := b.Get(ctx, b.local("hangs"), PullNew)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("Get() = %v", err)
	}
	b.untouched()
}

// await returns when an event comes for which is is true.
func (b *bench) await(is func(Event) bool) {
	for e := range b.seen {
		if is(e) {
			return
		}
	}
}

// RG-19: one brings the image, the others find it.
func TestSingleFlight(t *testing.T) {
	for _, leaderDies := range []bool{false, true} {
		t.Run(fmt.Sprintf("leader dies %v", leaderDies), func(t *testing.T) {
			b := newBench(t)
			ref := b.local("gate")
			gate := b.gate(ref.Path)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var group sync.WaitGroup
			leader := make(chan error, 1)
			group.Go(func() { _, err := b.Get(ctx, ref, PullNew); leader <- err })
			b.await(func(e Event) bool { _, ok := e.(Started); return ok })

			const followers = 8
			results := make(chan error, followers)
			for range followers {
				group.Go(func() { _, err := b.Get(context.Background(), ref, PullNew); results <- err })
			}
			for range followers {
				b.await(func(e Event) bool { w, ok := e.(Waiting); return ok && w.PID == os.Getpid() })
			}
			if leaderDies {
				cancel()
				if err := <-leader; !errors.Is(err, context.Canceled) {
					t.Errorf("leader: %v", err)
				}
			}
			gate()
			group.Wait()
			for range followers {
				if err := <-results; err != nil {
					t.Errorf("follower: %v", err)
				}
			}
			want := 1
			if leaderDies {
				want = 2
			}
			if got := b.started(); got != want {
				t.Errorf("rkt-fetch was started %d times, want %d", got, want)
			}
			if len(b.derived) != 3 {
				t.Errorf("layers came more than once: %v", b.derived)
			}
		})
	}
}

// gate makes the fake wait until the returned function is called.
func (b *bench) gate(path string) (open func()) {
	f, err := os.Open(path)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { f.Close() })
	return func() { f.Close() }
}

func TestLocksOfKilledFetchesAreRemoved(t *testing.T) {
	b := newBench(t)
	dir := filepath.Join(b.root, "data", "fetching")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"layer-" + cas.Of([]byte("x")).Hex(), "held"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("1"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open := b.gate(filepath.Join(dir, "held"))
	defer open()
	b.must(b.local("good"), PullNew)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "held" {
		t.Errorf("locks: %v, %v", entries, err)
	}
}

func TestCommonLayersComeOnce(t *testing.T) {
	b := newBench(t)
	b.rule("r.example", trust.Accept)
	var group sync.WaitGroup
	for i := range 6 {
		group.Go(func() {
			if _, err := b.Get(context.Background(), b.ref(fmt.Sprintf("r.example/%d/good", i)), PullNew); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if len(b.derived) != 3 {
		t.Errorf("%d layers came, want 3", len(b.derived))
	}
}

func TestSecretsStayInThePipe(t *testing.T) {
	b := newBench(t)
	b.rule("r.example", trust.Accept)
	dir := filepath.Join(b.root, "etc")
	if err := os.MkdirAll(filepath.Join(dir, "auth.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	auth := `{"rktKind":"dockerAuth","rktVersion":"v1","registries":["r.example"],"credentials":{"user":"u","password":"s3cr3t"}}`
	if err := os.WriteFile(filepath.Join(dir, "auth.d/a.json"), []byte(auth), 0o600); err != nil {
		t.Fatal(err)
	}
	b.o.Registries.Local = dir
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { _, err := b.Get(ctx, b.ref("r.example/hangs"), PullNew); done <- err }()
	b.await(func(e Event) bool { _, ok := e.(Resolved); return ok })
	procs, err := filepath.Glob("/proc/[0-9]*/task/*/children")
	if err != nil || len(procs) == 0 {
		t.Fatal("no processes to look at")
	}
	for _, p := range procs {
		dir := filepath.Dir(p)
		for _, name := range []string{"cmdline", "environ"} {
			text, _ := os.ReadFile(filepath.Join(dir, name)) // it may be gone
			if bytes.Contains(text, []byte("s3cr3t")) {
				t.Errorf("the password is in %s of %s", name, dir)
			}
		}
	}
	cancel()
	<-done
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
