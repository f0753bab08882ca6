package rootfs

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rkt/cas"
	"rkt/image/layer"
)

var allDrivers = []string{DriverErofs, DriverLoop, DriverDir}

func TestEnsureShowsTheLayer(t *testing.T) {
	for _, driver := range allDrivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t, driver)
			root := filepath.Join(h.dir, "tree")
			fill(t, root)
			tarPath := filepath.Join(h.dir, "layer.tar")
			run(t, "tar", "-C", root, "--format=posix", "--xattrs", "--xattrs-include=*", "--sort=name", "-cf", tarPath, ".")
			l := h.layers(t)
			d := h.derive(t, l, tarPath)

			mounted, err := l.Ensure(t.Context(), []cas.Digest{d, d})
			if err != nil {
				t.Fatal(err)
			}
			if len(mounted) != 1 {
				t.Fatalf("Ensure() = %v, want one layer", mounted)
			}
			sameTree(t, describe(t, cloned(t, mounted[d.Hex()])), describe(t, root))

			again, err := l.Ensure(t.Context(), []cas.Digest{d})
			if err != nil || again[d.Hex()] != mounted[d.Hex()] {
				t.Errorf("second Ensure() = %v, %v, want %v", again, err, mounted)
			}
			if err := l.Check(t.Context(), d); err != nil {
				t.Errorf("Check() = %v", err)
			}
		})
	}
}

// A layer that only the blob is left of is derived again by the TarReader, and
// one of a read-only store is, too.
func TestEnsureDerivesWhatIsMissing(t *testing.T) {
	for _, driver := range allDrivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t, driver)
			other := openStore(t, filepath.Join(h.dir, "other"))
			h.stores.list = append(h.stores.list, other)
			scans := 0
			h.o.Stores, h.o.Tars = h.stores, fakeTars{t, &scans}
			l := h.layers(t)
			ours := h.commit(t, h.stores.CAS(), smallTar(t, h.dir, "ours", "our file"))
			theirs := h.commit(t, other, smallTar(t, h.dir, "theirs", "their file"))
			mounted, err := l.Ensure(t.Context(), []cas.Digest{ours, theirs})
			if err != nil {
				t.Fatal(err)
			}
			for d, want := range map[cas.Digest]string{ours: "our file", theirs: "their file"} {
				got, err := os.ReadFile(filepath.Join(cloned(t, mounted[d.Hex()]), "file"))
				if err != nil || string(got) != want {
					t.Errorf("content = %q, %v, want %q", got, err, want)
				}
			}
			if driver != DriverDir && scans != 2 {
				t.Errorf("%d scans, want 2", scans)
			}
			h.o.Tars = nil
			lost := h.commit(t, other, smallTar(t, h.dir, "lost", "x"))
			if _, err := h.layers(t).Ensure(t.Context(), []cas.Digest{lost}); !errors.Is(err, cas.ErrNotFound) {
				t.Errorf("Ensure without a TarReader = %v, want ErrNotFound", err)
			}
		})
	}
}

func TestEnsureOfAnAbsentLayer(t *testing.T) {
	h := newHost(t, "")
	_, err := h.layers(t).Ensure(t.Context(), []cas.Digest{cas.Of([]byte("nobody has it"))})
	if !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("Ensure() = %v, want ErrNotFound", err)
	}
}

// flip changes one byte of a file, whatever its mode.
func flip(t testing.TB, path string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
}

// One changed byte, anywhere in what a mount shows, is found before the first
// mount of a boot, and by Check.
func TestDamageIsFound(t *testing.T) {
	tests := []struct {
		name, driver string
		path         func(h *host, d cas.Digest) string
		offset       int64
	}{
		{"tar", DriverErofs, func(h *host, d cas.Digest) string { return filepath.Join(h.dir, "data/cas/blobs/sha256", d.Hex()) }, 1024},
		{"tar by loop", DriverLoop, func(h *host, d cas.Digest) string { return filepath.Join(h.dir, "data/cas/blobs/sha256", d.Hex()) }, 700},
		{"mark of the index", DriverErofs, func(h *host, d cas.Digest) string { return h.stores.CAS().DerivedPath(kindIndex, d) }, 20},
		{"super block", DriverErofs, func(h *host, d cas.Digest) string { return h.stores.CAS().DerivedPath(kindIndex, d) }, 1024 + 40},
		{"inode", DriverErofs, func(h *host, d cas.Digest) string { return h.stores.CAS().DerivedPath(kindIndex, d) }, 1536 + 5},
		{"unpacked file", DriverDir, func(h *host, d cas.Digest) string {
			return filepath.Join(h.stores.CAS().DerivedPath(kindDir, d), treeDir, "file")
		}, 3},
		{"sum", DriverDir, func(h *host, d cas.Digest) string {
			return filepath.Join(h.stores.CAS().DerivedPath(kindDir, d), sumFile)
		}, 3},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t, test.driver)
			l := h.layers(t)
			d := h.derive(t, l, smallTar(t, h.dir, "one", "content"))
			if _, err := l.Ensure(t.Context(), []cas.Digest{d}); err != nil {
				t.Fatal(err)
			}
			none := func(cas.Digest) bool { return false }
			if err := l.Release(t.Context(), none); err != nil {
				t.Fatal(err)
			}
			flip(t, test.path(h, d), test.offset)
			if err := os.RemoveAll(h.o.RunDir); err != nil { // as after a boot
				t.Fatal(err)
			}
			if _, err := l.Ensure(t.Context(), []cas.Digest{d}); !errors.Is(err, cas.ErrCorrupt) {
				t.Errorf("Ensure() = %v, want ErrCorrupt", err)
			}
			if !strings.HasPrefix(test.name, "tar") {
				if err := l.Check(t.Context(), d); !errors.Is(err, cas.ErrCorrupt) {
					t.Errorf("Check() = %v, want ErrCorrupt", err)
				}
				if err := l.Forget(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				if _, err := l.Ensure(t.Context(), []cas.Digest{d}); err != nil {
					t.Errorf("Ensure after Forget = %v", err)
				}
			}
		})
	}
}

// A fresh layer is not hashed again, a file that was changed since is.
func TestVerifiedOncePerBoot(t *testing.T) {
	h := newHost(t, DriverErofs)
	l := h.layers(t)
	d := h.derive(t, l, smallTar(t, h.dir, "one", "content"))
	blob := filepath.Join(h.dir, "data/cas/blobs/sha256", d.Hex())
	flip(t, blob, 1024)
	if _, err := l.Ensure(t.Context(), []cas.Digest{d}); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("Ensure of a changed file = %v, want ErrCorrupt", err)
	}
	flip(t, blob, 1024)
	if _, err := l.Ensure(t.Context(), []cas.Digest{d}); err != nil {
		t.Errorf("Ensure of the restored file = %v", err)
	}
}

func TestDeriveRefusesHostileFacts(t *testing.T) {
	h := newHost(t, DriverErofs)
	l := h.layers(t)
	tarPath := smallTar(t, h.dir, "one", "content")
	d := h.commit(t, h.stores.CAS(), tarPath)
	good := factsOf(t, tarPath)
	if err := h.tryDerive(t, l, d, good[:len(good)-1]); !errors.Is(err, layer.ErrMalformed) {
		t.Errorf("Derive from facts cut short = %v, want ErrMalformed", err)
	}
	if h.stores.CAS().HasDerived(kindIndex, d) || h.stores.CAS().HasDerived(kindAccounts, d) {
		t.Error("something was derived from bad facts")
	}
	if err := h.tryDerive(t, l, d, good); err != nil {
		t.Errorf("Derive = %v", err)
	}
}

// Nothing is derived from a damaged blob: it would outlive the damage.
func TestDamagedBlobIsNotDerivedFrom(t *testing.T) {
	for _, driver := range allDrivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t, driver)
			l := h.layers(t)
			d := h.commit(t, h.stores.CAS(), smallTar(t, h.dir, "one", "content"))
			flip(t, filepath.Join(h.dir, "data/cas/blobs/sha256", d.Hex()), 1024)
			if _, err := l.Ensure(t.Context(), []cas.Digest{d}); !errors.Is(err, cas.ErrCorrupt) {
				t.Errorf("Ensure() = %v, want ErrCorrupt", err)
			}
			for _, kind := range []string{kindIndex, kindDir, kindAccounts} {
				if h.stores.CAS().HasDerived(kind, d) {
					t.Errorf("%s was derived", kind)
				}
			}
		})
	}
}

func TestAccounts(t *testing.T) {
	h := newHost(t, "")
	l := h.layers(t)
	derive := func(name string, a *layer.Accounts, facts ...*layer.Fact) cas.Digest {
		t.Helper()
		tarPath := filepath.Join(h.dir, name)
		if err := os.WriteFile(tarPath, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		w := layer.NewWriter(&b)
		for _, f := range facts {
			if err := w.Fact(f); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(w.Accounts(a), w.Close(layer.Summary{TarSize: uint64(len(name))})); err != nil {
			t.Fatal(err)
		}
		d := h.commit(t, h.stores.CAS(), tarPath)
		if err := h.tryDerive(t, l, d, b.Bytes()); err != nil {
			t.Fatal(err)
		}
		return d
	}
	base := derive("base", &layer.Accounts{
		HasPasswd: true, Users: []layer.User{{Name: "root", Home: "/root"}, {Name: "old", UID: 5}},
		HasGroup: true, Groups: []layer.Group{{Name: "root"}, {Name: "wheel", GID: 10, Members: []string{"web", "old"}}, {Name: "www", GID: 33, Members: []string{"web", "web"}}},
	})
	top := derive("top", &layer.Accounts{HasPasswd: true, Users: []layer.User{{Name: "web", UID: 33, GID: 33}, {Name: "web", UID: 34}}})
	plain := derive("plain", &layer.Accounts{})
	gone := derive("gone", &layer.Accounts{HasPasswd: true})
	broken := derive("broken", &layer.Accounts{HasPasswd: true, Problem: "it is a FIFO"})
	opaque := derive("opaque", &layer.Accounts{}, &layer.Fact{Path: ".", Kind: layer.Opaque})

	get := func(layers ...cas.Digest) *Accounts {
		t.Helper()
		a, err := l.Accounts(t.Context(), layers)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	a := get(base, top, plain)
	if u, ok, err := a.User("web"); !ok || err != nil || u.UID != 33 {
		t.Errorf("User(web) = %+v, %v, %v", u, ok, err)
	}
	if u, ok, err := a.UID(34); !ok || err != nil || u.Name != "web" {
		t.Errorf("UID(34) = %+v, %v, %v", u, ok, err)
	}
	if _, ok, err := a.User("old"); ok || err != nil {
		t.Errorf("User(old) = %v, %v, want none: a layer above has another passwd", ok, err)
	}
	if g, ok, err := a.Group("wheel"); !ok || err != nil || g.GID != 10 {
		t.Errorf("Group(wheel) = %+v, %v, %v", g, ok, err)
	}
	if gids, err := a.GroupsOf("web"); err != nil || !slices.Equal(gids, []uint32{10, 33}) {
		t.Errorf("GroupsOf(web) = %v, %v, want [10 33]", gids, err)
	}
	if _, ok, err := get(base, gone).User("root"); ok || err != nil {
		t.Errorf("User(root) without passwd = %v, %v", ok, err)
	}
	if _, _, err := get(base, broken).User("root"); err == nil {
		t.Error("User(root) with an unreadable passwd succeeded")
	}
	if _, ok, err := get(base, opaque).User("root"); ok || err != nil {
		t.Errorf("User(root) below an opaque root = %v, %v", ok, err)
	}
	all := []cas.Digest{base, top, opaque, plain}
	if got, err := l.Visible(t.Context(), all); err != nil || !slices.Equal(got, all[2:]) {
		t.Errorf("Visible() = %v, %v, want %v", got, err, all[2:])
	}
}
