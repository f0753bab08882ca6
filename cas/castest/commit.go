package castest

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/cas"
)

func (s *suite) commitRefuses(t *testing.T) {
	store := s.store(t)
	in := ingest(t, store)
	want := cas.Of([]byte("content"))
	at := func(name string) string { return filepath.Join(in.Path(), name) }

	spool(t, in, "other", "contenT")
	spool(t, in, "linked", "content")
	if err := os.Link(at("linked"), at("second name")); err != nil {
		t.Fatal(err)
	}
	spool(t, in, "writer", "content")
	w, err := os.OpenFile(at("writer"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	spool(t, in, "mapped", "content")
	m, err := os.OpenFile(at("mapped"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	mapping, err := unix.Mmap(int(m.Fd()), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mapping)
	m.Close()
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Symlink(outside, at("symlink")),
		unix.Mkfifo(at("fifo"), 0o600),
		os.Mkdir(at("folder"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"other", "linked", "writer", "mapped", "symlink", "fifo", "folder", "absent", "", ".", "..", "../../lock", outside} {
		if _, err := in.Commit(t.Context(), name, want); err == nil {
			t.Errorf("Commit(%q) succeeded", name)
		}
		if store.Has(want) {
			t.Fatalf("Commit(%q) left a blob", name)
		}
	}
	spool(t, in, "other", "contenT")
	_, err = in.Commit(t.Context(), "other", want)
	var mismatch *cas.MismatchError
	if !errors.As(err, &mismatch) || mismatch.Got != cas.Of([]byte("contenT")) || mismatch.Want != want {
		t.Errorf("Commit() of other bytes = %v, want a MismatchError", err)
	}
	if st, err := os.Stat(outside); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the target of a link was touched: %v, %v", st, err)
	}
}

func (s *suite) commitTakesOwnership(t *testing.T) {
	store := s.store(t)
	in := ingest(t, store)
	spool(t, in, "file", "content")
	if err := os.Chown(filepath.Join(in.Path(), "file"), 12345, 12345); err != nil {
		t.Skipf("needs root: %v", err)
	}
	d := cas.Of([]byte("content"))
	if size, err := in.Commit(t.Context(), "file", d); err != nil || size != 7 {
		t.Fatalf("Commit() = %d, %v", size, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(blobPath(store, d), &st); err != nil {
		t.Fatal(err)
	}
	if int(st.Uid) != os.Geteuid() || st.Mode != unix.S_IFREG|0o400 || st.Nlink != 1 {
		t.Errorf("blob has owner %d, mode %#o, %d names", st.Uid, st.Mode, st.Nlink)
	}
}

func (s *suite) commitTwice(t *testing.T) {
	store := s.store(t)
	d := put(t, store, "content")
	before, err := os.Stat(blobPath(store, d))
	if err != nil {
		t.Fatal(err)
	}
	in := ingest(t, store)
	spool(t, in, "again", "content")
	if _, err := in.Commit(t.Context(), "again", d); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(blobPath(store, d))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the blob was replaced: %v", err)
	}
}

func (s *suite) commitReplacesDamage(t *testing.T) {
	store := s.store(t)
	d := put(t, store, "content")
	old, _, err := store.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if err := os.Truncate(blobPath(store, d), 3); err != nil {
		t.Fatal(err)
	}
	put(t, store, "content")
	wantContent(t, store, d, "content")
	if st, err := old.Stat(); err != nil || st.Size() != 3 {
		t.Error("a blob was written in place")
	}
}

func (s *suite) concurrentCommits(t *testing.T) {
	store := s.store(t)
	d := cas.Of([]byte("content"))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			in, err := store.Ingest(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer in.Close()
			var inner sync.WaitGroup
			for range 4 {
				inner.Go(func() {
					if _, err := in.Put(t.Context(), []byte("content")); err != nil {
						t.Error(err)
					}
				})
			}
			inner.Wait()
		})
	}
	wg.Wait()
	wantContent(t, store, d, "content")
	wantEmpty(t, store)
}
