// Package castest is the suite that a store must pass.
package castest

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/cas"
)

// Opener opens the store in the folder dir, which may not exist. The suite
// closes the store.
type Opener func(dir string, o cas.Options) (*cas.Store, error)

// Run runs the suite.
func Run(t *testing.T, open Opener) {
	s := &suite{open: open}
	for name, test := range map[string]func(*testing.T){
		"PutAndRead":           s.putAndRead,
		"Absent":               s.absent,
		"CommitRefuses":        s.commitRefuses,
		"CommitTakesOwnership": s.commitTakesOwnership,
		"CommitTwice":          s.commitTwice,
		"CommitReplacesDamage": s.commitReplacesDamage,
		"Corrupt":              s.corrupt,
		"HostileNames":         s.hostileNames,
		"Derived":              s.derived,
		"SweepKeepsRoots":      s.sweepKeepsRoots,
		"SweepKeepsIngests":    s.sweepKeepsIngests,
		"SweepDryRun":          s.sweepDryRun,
		"SweepRemovesDead":     s.sweepRemovesDead,
		"SweepAgainstImports":  s.sweepAgainstImports,
		"HoldKeepsSweepsAway":  s.holdKeepsSweepsAway,
		"ConcurrentCommits":    s.concurrentCommits,
		"Remove":               s.remove,
		"ReadOnly":             s.readOnly,
		"Permissions":          s.permissions,
	} {
		t.Run(name, test)
	}
}

type suite struct{ open Opener }

func (s *suite) store(t *testing.T) *cas.Store {
	t.Helper()
	return s.openDir(t, filepath.Join(t.TempDir(), "cas"), cas.Options{})
}

func (s *suite) openDir(t *testing.T, dir string, o cas.Options) *cas.Store {
	t.Helper()
	store, err := s.open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func ingest(t *testing.T, s *cas.Store) *cas.Ingest {
	t.Helper()
	in, err := s.Ingest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	return in
}

func put(t *testing.T, s *cas.Store, content string) cas.Digest {
	t.Helper()
	d, err := s.Put(t.Context(), []byte(content))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func spool(t *testing.T, in *cas.Ingest, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(in.Path(), name), []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

func wantContent(t *testing.T, s *cas.Store, d cas.Digest, want string) {
	t.Helper()
	got, err := s.Read(d, 1<<20)
	if err != nil || string(got) != want {
		t.Errorf("Read() = %q, %v, want %q", got, err, want)
	}
}

func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

func blobPath(s *cas.Store, d cas.Digest) string {
	return filepath.Join(s.Dir(), "blobs/sha256", d.Hex())
}

func (s *suite) putAndRead(t *testing.T) {
	store := s.store(t)
	for _, content := range []string{"", "hello", string(bytes.Repeat([]byte("0123456789abcdef"), 100_000))} {
		d := put(t, store, content)
		if d != cas.Of([]byte(content)) || !store.Has(d) {
			t.Errorf("Put() = %s, want %s, there", d, cas.Of([]byte(content)))
		}
		if got, err := store.Read(d, 2<<20); err != nil || string(got) != content {
			t.Errorf("Read() = %d bytes, %v", len(got), err)
		}
		if err := store.Check(t.Context(), d); err != nil {
			t.Error(err)
		}
		f, size, err := store.Open(d)
		if err != nil || size != int64(len(content)) {
			t.Errorf("Open() = %d bytes, %v", size, err)
			continue
		}
		if _, err := f.Write([]byte("x")); err == nil {
			t.Error("an open blob can be written")
		}
		f.Close()
	}
	if _, err := store.Read(cas.Of([]byte("hello")), 4); err == nil {
		t.Error("Read() over the limit succeeded")
	}
}

func (s *suite) absent(t *testing.T) {
	store := s.store(t)
	d := cas.Of([]byte("absent"))
	if store.Has(d) {
		t.Error("Has() of what is absent")
	}
	_, err := store.Read(d, 100)
	wantError(t, "Read()", err, cas.ErrNotFound)
	_, _, err = store.Open(d)
	wantError(t, "Open()", err, cas.ErrNotFound)
	wantError(t, "Check()", store.Check(t.Context(), d), cas.ErrNotFound)
	wantError(t, "Keep()", ingest(t, store).Keep(t.Context(), d), cas.ErrNotFound)
	_, err = store.OpenDerived("test-1", d)
	wantError(t, "OpenDerived()", err, cas.ErrNotFound)
	if err := errors.Join(store.Remove(t.Context(), d), store.RemoveDerived(t.Context(), "test-1", d)); err != nil {
		t.Errorf("removing what is absent: %v", err)
	}
}

func (s *suite) corrupt(t *testing.T) {
	store := s.store(t)
	d := put(t, store, "content")
	if err := os.WriteFile(blobPath(store, d), []byte("kontent"), 0o400); err != nil {
		t.Fatal(err)
	}
	wantError(t, "Check()", store.Check(t.Context(), d), cas.ErrCorrupt)
	_, err := store.Read(d, 100)
	wantError(t, "Read()", err, cas.ErrCorrupt)
}

func (s *suite) hostileNames(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("content"), 0o400); err != nil {
		t.Fatal(err)
	}
	d := cas.Of([]byte("content"))
	for name, make := range map[string]func(path string) error{
		"symlink": func(path string) error { return os.Symlink(outside, path) },
		"fifo":    func(path string) error { return unix.Mkfifo(path, 0o400) },
		"folder":  func(path string) error { return os.Mkdir(path, 0o700) },
		"writable": func(path string) error {
			return errors.Join(os.WriteFile(path, []byte("content"), 0), os.Chmod(path, 0o666))
		},
		"foreign": func(path string) error {
			return errors.Join(os.WriteFile(path, []byte("content"), 0o400), os.Chown(path, 12345, 0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := s.store(t)
			if err := make(blobPath(store, d)); err != nil {
				t.Fatal(err)
			}
			_, _, err := store.Open(d)
			wantError(t, "Open()", err, cas.ErrCorrupt)
			wantError(t, "Check()", store.Check(t.Context(), d), cas.ErrCorrupt)
			seen := 0
			if err := store.WalkBlobs(func(cas.Digest, int64) error { seen++; return nil }); err != nil || seen != 1 {
				t.Errorf("WalkBlobs() shows %d, %v", seen, err)
			}
			if err := store.Remove(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			put(t, store, "content")
			wantContent(t, store, d, "content")
		})
	}
	store := s.store(t)
	stray := filepath.Join(store.Dir(), "blobs/sha256", "README")
	if err := os.WriteFile(stray, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if strays, err := store.Strays(); err != nil || !slices.Equal(strays, []string{stray}) {
		t.Errorf("Strays() = %q, %v", strays, err)
	}
}

func (s *suite) derived(t *testing.T) {
	store := s.store(t)
	in := ingest(t, store)
	d := put(t, store, "content")
	spool(t, in, "file", "index")
	if err := os.MkdirAll(filepath.Join(in.Path(), "folder/sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for kind, name := range map[string]string{"file-1": "file", "folder-1": "folder"} {
		if store.HasDerived(kind, d) {
			t.Errorf("HasDerived(%q) before", kind)
		}
		if err := in.CommitDerived(t.Context(), kind, d, name); err != nil {
			t.Fatal(err)
		}
		if !store.HasDerived(kind, d) {
			t.Errorf("HasDerived(%q) = false", kind)
		}
	}
	spool(t, in, "file", "other")
	if err := in.CommitDerived(t.Context(), "file-1", d, "file"); err != nil {
		t.Errorf("second CommitDerived() = %v", err)
	}
	if got, err := os.ReadFile(store.DerivedPath("file-1", d)); err != nil || len(got) != 5 {
		t.Errorf("derived file has %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(store.DerivedPath("folder-1", d), "sub")); err != nil {
		t.Error(err)
	}
	for _, kind := range []string{"", "..", "a/b", "A"} {
		spool(t, in, "file", "x")
		if err := in.CommitDerived(t.Context(), kind, d, "file"); err == nil {
			t.Errorf("CommitDerived() of the kind %q succeeded", kind)
		}
	}
	f, err := store.OpenDerived("folder-1", d)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := store.RemoveDerived(t.Context(), "folder-1", d); err != nil || store.HasDerived("folder-1", d) {
		t.Errorf("RemoveDerived() = %v", err)
	}
	if err := store.Remove(t.Context(), d); err != nil || store.HasDerived("file-1", d) || store.Has(d) {
		t.Errorf("Remove() = %v, or left something", err)
	}
}

func wantEmpty(t *testing.T, store *cas.Store) {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(store.Dir(), "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("tmp has %v, %v, want nothing", left, err)
	}
}

func (s *suite) remove(t *testing.T) {
	store := s.store(t)
	d, other := put(t, store, "content"), put(t, store, "other")
	f, _, err := store.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := store.Remove(t.Context(), d); err != nil || store.Has(d) || !store.Has(other) {
		t.Errorf("Remove() = %v; has it: %v, has the other: %v", err, store.Has(d), store.Has(other))
	}
	if n, err := f.Read(make([]byte, 10)); n != 7 || err != nil {
		t.Errorf("an open blob reads %d bytes, %v after its removal", n, err)
	}
}

func (s *suite) readOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cas")
	d := put(t, s.openDir(t, dir, cas.Options{}), "content")
	store := s.openDir(t, dir, cas.Options{ReadOnly: true})
	wantContent(t, store, d, "content")
	_, err := store.Put(t.Context(), []byte("x"))
	wantError(t, "Put()", err, cas.ErrReadOnly)
	_, err = store.Ingest(t.Context())
	wantError(t, "Ingest()", err, cas.ErrReadOnly)
	wantError(t, "Remove()", store.Remove(t.Context(), d), cas.ErrReadOnly)
	_, err = store.Sweep(t.Context(), noRoots, false)
	wantError(t, "Sweep()", err, cas.ErrReadOnly)
	release, err := store.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release()
	if _, err := s.open(filepath.Join(t.TempDir(), "absent"), cas.Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("open of an absent read-only store = %v", err)
	}
}

func (s *suite) permissions(t *testing.T) {
	for _, umask := range []int{0, 0o077, 0o777} {
		old := unix.Umask(umask)
		store := s.store(t)
		d := put(t, store, "content")
		in := ingest(t, store)
		spool(t, in, "derived", "x")
		err := in.CommitDerived(t.Context(), "test-1", d, "derived")
		unix.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		err = filepath.WalkDir(store.Dir(), func(path string, e os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			st, err := e.Info()
			if err != nil {
				return err
			}
			if mode := st.Mode().Perm(); mode&0o077 != 0 || mode&0o400 == 0 && e.IsDir() {
				t.Errorf("umask %#o: %s has mode %v", umask, path, mode)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	wide := t.TempDir()
	if err := os.Chmod(wide, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := s.open(wide, cas.Options{ReadOnly: true}); err == nil {
		t.Error("a folder that others can write to was opened")
	}
}
