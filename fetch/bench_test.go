package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"rkt/cas"
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

// await returns when an event comes for which is is true.
func (b *bench) await(is func(Event) bool) {
	for e := range b.seen {
		if is(e) {
			return
		}
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
