package castest

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rkt/cas"
)

func noRoots(context.Context) (cas.Roots, error) { return nil, nil }

func rootsOf(digests ...cas.Digest) func(context.Context) (cas.Roots, error) {
	return func(context.Context) (cas.Roots, error) {
		roots := cas.Roots{}
		for _, d := range digests {
			roots[d] = append(roots[d], "the test")
		}
		return roots, nil
	}
}

func sweep(t *testing.T, store *cas.Store, roots func(context.Context) (cas.Roots, error), dryRun bool) map[cas.Digest]cas.Swept {
	t.Helper()
	list, err := store.Sweep(t.Context(), roots, dryRun)
	if err != nil {
		t.Fatal(err)
	}
	swept := map[cas.Digest]cas.Swept{}
	for _, one := range list {
		swept[one.Digest] = one
	}
	if len(swept) != len(list) {
		t.Errorf("Sweep() tells of something twice: %v", list)
	}
	return swept
}

func derive(t *testing.T, store *cas.Store, d cas.Digest) {
	t.Helper()
	in := ingest(t, store)
	spool(t, in, "index", "index")
	if err := in.CommitDerived(t.Context(), "test-1", d, "index"); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
}

func (s *suite) sweepKeepsRoots(t *testing.T) {
	store := s.store(t)
	kept, gone := put(t, store, "kept"), put(t, store, "gone")
	// Elsewhere are blobs of other stores, with data derived here.
	elsewhere, orphan := cas.Of([]byte("elsewhere")), cas.Of([]byte("orphan"))
	for _, d := range []cas.Digest{kept, gone, elsewhere, orphan} {
		derive(t, store, d)
	}
	swept := sweep(t, store, rootsOf(kept, elsewhere), false)
	for d, stays := range map[cas.Digest]bool{kept: true, gone: false, elsewhere: true, orphan: false} {
		if got := len(swept[d].Reasons) > 0; got != stays {
			t.Errorf("Sweep() says %+v, want it to stay: %v", swept[d], stays)
		}
		if got := store.HasDerived("test-1", d); got != stays {
			t.Errorf("derived data is there: %v, want %v", got, stays)
		}
	}
	if !store.Has(kept) || store.Has(gone) || swept[gone].Size != 4 {
		t.Errorf("has the kept: %v, has the other: %v of %d bytes", store.Has(kept), store.Has(gone), swept[gone].Size)
	}
	wantEmpty(t, store)
	if again := sweep(t, store, rootsOf(kept, elsewhere), false); len(again) != 2 {
		t.Errorf("a second sweep tells of %v", again)
	}
	failed := errors.New("failed")
	if _, err := store.Sweep(t.Context(), func(context.Context) (cas.Roots, error) { return nil, failed }, false); !errors.Is(err, failed) || !store.Has(kept) {
		t.Errorf("Sweep() without roots = %v; has the blob: %v", err, store.Has(kept))
	}
}

func (s *suite) sweepKeepsIngests(t *testing.T) {
	store := s.store(t)
	old := put(t, store, "old")
	in := ingest(t, store)
	if err := in.Keep(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	put, err := in.Put(t.Context(), []byte("new"))
	if err != nil {
		t.Fatal(err)
	}
	spool(t, in, "half", "not committed yet")
	sweep(t, store, noRoots, false)
	if !store.Has(old) || !store.Has(put) {
		t.Errorf("has what was kept: %v, has what was put: %v", store.Has(old), store.Has(put))
	}
	if _, err := in.Commit(t.Context(), "half", cas.Of([]byte("not committed yet"))); err != nil {
		t.Error(err)
	}
	if err := errors.Join(in.Close(), in.Close()); err != nil {
		t.Error(err)
	}
	sweep(t, store, noRoots, false)
	if store.Has(old) || store.Has(put) {
		t.Error("a closed ingest still protects")
	}
}

func (s *suite) sweepDryRun(t *testing.T) {
	store := s.store(t)
	d := put(t, store, "content")
	derive(t, store, d)
	dead := filepath.Join(store.Dir(), "tmp/dead")
	if err := os.Mkdir(dead, 0o700); err != nil {
		t.Fatal(err)
	}
	swept := sweep(t, store, noRoots, true)
	if one, ok := swept[d]; !ok || len(one.Reasons) != 0 {
		t.Errorf("Sweep() tells %v, want that the blob goes", swept)
	}
	if _, err := os.Stat(dead); err != nil || !store.Has(d) || !store.HasDerived("test-1", d) {
		t.Error("a dry run removed something")
	}
}

func (s *suite) sweepRemovesDead(t *testing.T) {
	store := s.store(t)
	tmp := filepath.Join(store.Dir(), "tmp")
	live := ingest(t, store)
	if err := os.MkdirAll(filepath.Join(tmp, "DEAD/spool/folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.WriteFile(filepath.Join(tmp, "DEAD/spool/folder/file"), nil, 0o600),
		os.WriteFile(filepath.Join(tmp, "file"), nil, 0o600),
		os.Symlink("/", filepath.Join(tmp, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	sweep(t, store, noRoots, false)
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) != 1 {
		t.Errorf("tmp has %v, %v, want the live ingest", left, err)
	}
	spool(t, live, "file", "content")
	if _, err := live.Commit(t.Context(), "file", cas.Of([]byte("content"))); err != nil {
		t.Error(err)
	}
}

func (s *suite) holdKeepsSweepsAway(t *testing.T) {
	store := s.store(t)
	d := put(t, store, "content")
	release, err := store.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := store.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second()
	done := make(chan error)
	var released atomic.Bool
	go func() {
		_, err := store.Sweep(t.Context(), func(context.Context) (cas.Roots, error) {
			if !released.Load() {
				t.Error("the sweep asked for the roots while the store was held")
			}
			return cas.Roots{d: {"a pod made meanwhile"}}, nil
		}, false)
		done <- err
	}()
	select {
	case err := <-done:
		t.Fatalf("Sweep() = %v while the store was held", err)
	case <-time.After(20 * time.Millisecond):
	}
	released.Store(true)
	release()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !store.Has(d) {
		t.Error("the sweep took what became reachable while it waited")
	}
	ctx, cancel := context.WithCancel(t.Context())
	release, err = store.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	cancel()
	if _, err := store.Sweep(ctx, noRoots, false); !errors.Is(err, context.Canceled) {
		t.Errorf("Sweep() with a cancelled context = %v", err)
	}
}

// sweepAgainstImports: nothing that became reachable is ever swept, however
// sweeps and imports meet.
func (s *suite) sweepAgainstImports(t *testing.T) {
	store := s.store(t)
	var mu sync.Mutex
	reachable := cas.Roots{}
	roots := func(context.Context) (cas.Roots, error) {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(reachable), nil
	}
	importing, sweeping := sync.WaitGroup{}, sync.WaitGroup{}
	done := make(chan struct{})
	for worker := range 3 {
		importing.Go(func() {
			for round := range 25 {
				// Half of the contents are the same for all workers.
				content := []byte{byte(round), byte(worker * (round % 2))}
				if err := importOne(t.Context(), store, content, func(d cas.Digest) {
					mu.Lock()
					defer mu.Unlock()
					reachable[d] = []string{"the test"}
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		sweeping.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if _, err := store.Sweep(t.Context(), roots, false); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	importing.Wait()
	close(done)
	sweeping.Wait()
	for d := range reachable {
		if err := store.Check(t.Context(), d); err != nil {
			t.Error(err)
		}
	}
	wantEmpty(t, store)
}

// importOne brings a blob by an ingest, keeps it if it is there already, and
// makes it reachable before the ingest ends, as a fetch does.
func importOne(ctx context.Context, store *cas.Store, content []byte, reach func(cas.Digest)) error {
	in, err := store.Ingest(ctx)
	if err != nil {
		return err
	}
	d := cas.Of(content)
	if err = in.Keep(ctx, d); errors.Is(err, cas.ErrNotFound) {
		_, err = in.Put(ctx, content)
	}
	if err == nil && !store.Has(d) {
		err = errors.New("a blob that is protected was swept")
	}
	reach(d)
	return errors.Join(err, in.Close())
}
