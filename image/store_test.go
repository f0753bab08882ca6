package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/cas"
)

func TestReadOnlyStores(t *testing.T) {
	dir, vendorDir := t.TempDir(), t.TempDir()
	vendor := openStore(t, vendorDir)
	theirs := makeImage(t, vendor, "docker.io/library/v:1", "v", "shared")
	hidden := makeImage(t, vendor, "docker.io/library/both:1", "h")
	s := openStore(t, dir, filepath.Join(t.TempDir(), "absent"), vendorDir)
	ours := makeImage(t, s, "docker.io/library/both:1", "o")
	for name, want := range map[string]ID{"v:1": theirs.ID, "both:1": ours.ID, hidden.ID.String(): hidden.ID} {
		got, err := s.Lookup(name)
		if err != nil || got.ID != want || got.ReadOnly != (want != ours.ID) {
			t.Errorf("Lookup(%q) = %+v, %v", name, got, err)
		}
	}
	if img, err := s.Load(&theirs); err != nil || img.ID != theirs.ID {
		t.Errorf("Load() = %+v, %v", img, err)
	}
	if store, ok := s.Find(theirs.Layers[0]); !ok || !store.ReadOnly() {
		t.Error("Find() does not find a layer of the read-only store")
	}
	// A record of ours may need layers that are there.
	named := theirs
	named.Reference = "docker.io/library/mine:1"
	if err := s.Save(t.Context(), named); err != nil {
		t.Error(err)
	}
	wantError(t, "Untag()", s.Untag(t.Context(), "v:1"), cas.ErrReadOnly)
	wantError(t, "Remove()", s.Remove(t.Context(), hidden.ID), cas.ErrReadOnly)
	list, err := s.List()
	var names []string
	for _, r := range list {
		names = append(names, r.Reference)
	}
	if want := []string{"docker.io/library/both:1", "docker.io/library/mine:1", "docker.io/library/v:1"}; err != nil || !slices.Equal(names[len(names)-3:], want) {
		t.Errorf("List() has %q, %v", names, err)
	}
	if _, err := s.CAS().Sweep(t.Context(), func(context.Context) (cas.Roots, error) { return s.Roots() }, false); err != nil {
		t.Error(err)
	}
	if _, err := s.Load(&theirs); err != nil {
		t.Errorf("after a sweep: %v", err)
	}
}

func TestStoreOnReadOnlyMedia(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=0700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	s := openStore(t, dir)
	r := makeImage(t, s, "docker.io/library/a:1", "x")
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, dir)
	got, err := s.Lookup("a:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(got); err != nil {
		t.Error(err)
	}
	release, err := s.CAS().Hold(t.Context())
	if err != nil {
		t.Errorf("Hold() = %v", err)
	} else {
		release()
	}
	wantError(t, "Save()", s.Save(t.Context(), r), cas.ErrReadOnly)
	wantError(t, "Untag()", s.Untag(t.Context(), "a:1"), cas.ErrReadOnly)
	_, err = s.CAS().Ingest(t.Context())
	wantError(t, "Ingest()", err, unix.EROFS)
}

func TestOpenStore(t *testing.T) {
	for name, c := range map[string]struct {
		make func(dir string) error
		want string // part of the error, "" = it opens
	}{
		"absent":         {func(dir string) error { return nil }, ""},
		"empty and wide": {func(dir string) error { return os.Mkdir(dir, 0o777) }, ""},
		"cut-off creation": {func(dir string) error {
			return errors.Join(os.MkdirAll(filepath.Join(dir, "images/refs"), 0o700), os.WriteFile(filepath.Join(dir, ".X.tmp"), nil, 0o600))
		}, ""},
		"only pods":     {func(dir string) error { return os.MkdirAll(filepath.Join(dir, "pods/run"), 0o700) }, ""},
		"other use":     {func(dir string) error { return os.MkdirAll(filepath.Join(dir, "home"), 0o755) }, `it has "home"`},
		"a file":        {func(dir string) error { return os.WriteFile(dir, nil, 0o600) }, "not a directory"},
		"newer":         {func(dir string) error { return writeVersion(dir, "2\n") }, "version 2, this program knows 1"},
		"no version":    {func(dir string) error { return writeVersion(dir, "one\n") }, "no version"},
		"version 0":     {func(dir string) error { return writeVersion(dir, "0\n") }, "no version"},
		"empty version": {func(dir string) error { return writeVersion(dir, "") }, "no version"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "rkt")
			if err := c.make(dir); err != nil {
				t.Fatal(err)
			}
			old := unix.Umask(0)
			s, err := OpenStore(dir, nil)
			unix.Umask(old)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("OpenStore() = %v, want an error with %q", err, c.want)
				}
				if name == "newer" {
					wantError(t, "OpenStore()", err, ErrNewerVersion)
					if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
						t.Errorf("a newer store was touched: %v, %v", entries, err)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			makeImage(t, s, "docker.io/library/a:1", "x")
			err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
				if err != nil {
					return err
				}
				if st, err := e.Info(); err != nil || st.Mode().Perm()&0o077 != 0 {
					t.Errorf("%s has mode %v, %v", path, st.Mode(), err)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func writeVersion(dir, content string) error {
	return errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "version"), []byte(content), 0o600))
}
