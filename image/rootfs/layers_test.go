package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/image/layer"
	"rkt/stage1/contract"
)

// stores is a writable store, with others behind it.
type stores struct{ list []*cas.Store }

func (s stores) CAS() *cas.Store { return s.list[0] }

func (s stores) Find(d cas.Digest) (*cas.Store, bool) {
	for _, one := range s.list {
		if one.Has(d) {
			return one, true
		}
	}
	return nil, false
}

// fakeTars scans with the scanner of these tests and unpacks with GNU tar.
type fakeTars struct {
	t     testing.TB
	scans *int
}

func (f fakeTars) Scan(ctx context.Context, tar, folder *os.File) (*os.File, error) {
	if f.scans != nil {
		*f.scans++
	}
	path := filepath.Join(folder.Name(), "facts")
	if err := os.WriteFile(path, factsOf(f.t, tar.Name()), 0o600); err != nil {
		return nil, err
	}
	return os.Open(path)
}

func (f fakeTars) Unpack(ctx context.Context, tar, folder *os.File) error {
	root := filepath.Join(folder.Name(), treeDir)
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	out, err := exec.Command("tar", "-C", root, "--xattrs", "--xattrs-include=*", "-xpf", tar.Name()).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return convertMarks(root)
}

// convertMarks gives the marks of a tar the form that an overlay reads.
func convertMarks(root string) error {
	return filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		dir, base := filepath.Split(p)
		rest, marked := strings.CutPrefix(base, ".wh.")
		if err != nil || !marked {
			return err
		}
		if err := os.Remove(p); err != nil {
			return err
		}
		if rest != ".wh..opq" {
			return unix.Mknod(dir+rest, unix.S_IFCHR, 0)
		}
		return errors.Join(unix.Setxattr(dir, "trusted.overlay.opaque", []byte("y"), 0), unix.Setxattr(dir, "user.overlay.opaque", []byte("y"), 0))
	})
}

// host is a store and a run directory.
type host struct {
	dir    string
	stores stores
	o      Options
}

func newHost(t testing.TB, driver string) *host {
	t.Helper()
	needRoot(t)
	h := &host{dir: scratch(t)}
	if err := os.MkdirAll(filepath.Join(h.dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.stores.list = []*cas.Store{openStore(t, filepath.Join(h.dir, "data", "cas"))}
	h.o = Options{Stores: h.stores, RunDir: filepath.Join(h.dir, "run"), Driver: driver, Tars: fakeTars{t: t}}
	before := mountsAndLoops(t)
	t.Cleanup(func() {
		if err := h.layers(t).Release(context.Background(), func(cas.Digest) bool { return false }); err != nil {
			t.Error(err)
		}
		if after := mountsAndLoops(t); after != before {
			t.Errorf("left behind\n%s\nbefore\n%s", after, before)
		}
	})
	return h
}

func openStore(t testing.TB, dir string) *cas.Store {
	t.Helper()
	store, err := cas.Open(dir, cas.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func (h *host) layers(t testing.TB) *Layers {
	t.Helper()
	l, err := Open(h.o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// mountsAndLoops is what a layer might leave on the host.
func mountsAndLoops(t testing.TB) string {
	t.Helper()
	var lines []string
	b, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, "rkt-rootfs-") {
			lines = append(lines, line)
		}
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range backing {
		b, err := os.ReadFile(file)
		if err == nil && strings.Contains(string(b), "rkt-rootfs-") {
			lines = append(lines, string(b))
		}
	}
	return strings.Join(lines, "")
}

// commit puts the tar into the store and returns its digest.
func (h *host) commit(t testing.TB, store *cas.Store, tarPath string) cas.Digest {
	t.Helper()
	b, err := os.ReadFile(tarPath)
	if err != nil {
		t.Fatal(err)
	}
	d, err := store.Put(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// derive commits the tar and derives the layer from it, as a fetch does.
func (h *host) derive(t testing.TB, l *Layers, tarPath string) cas.Digest {
	t.Helper()
	d := h.commit(t, h.stores.CAS(), tarPath)
	if err := h.tryDerive(t, l, d, factsOf(t, tarPath)); err != nil {
		t.Fatal(err)
	}
	return d
}

func (h *host) tryDerive(t testing.TB, l *Layers, d cas.Digest, facts []byte) error {
	t.Helper()
	in, err := h.stores.CAS().Ingest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	tar, _, err := h.stores.CAS().Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer tar.Close()
	path := filepath.Join(in.Path(), "facts")
	if err := os.WriteFile(path, facts, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return l.Derive(t.Context(), in, tar, f, d)
}

// within calls fn in the namespace that a layer is mounted in, with the path.
func within(t testing.TB, m contract.Mounted, fn func(path string)) {
	t.Helper()
	f, err := os.Open(m.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	ns := &namespace{file: f}
	err = ns.inside(func() error {
		var st unix.Statx_t
		if err := unix.Statx(unix.AT_FDCWD, m.Path, 0, 0, &st); err != nil {
			return err
		}
		if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
			return errors.New("not a mount point: " + m.Path)
		}
		fn(m.Path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// cloned is a path to a clone of the mount.
func cloned(t testing.TB, m contract.Mounted) string {
	t.Helper()
	return fdPath(clone(t, m)) + "/."
}

// clone clones the mount as stage1 does.
func clone(t testing.TB, m contract.Mounted) *os.File {
	t.Helper()
	var tree *os.File
	within(t, m, func(path string) {
		fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			t.Error(err)
			return
		}
		tree = os.NewFile(uintptr(fd), path)
	})
	if tree == nil {
		t.FailNow()
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// smallTar makes a tar of one file.
func smallTar(t testing.TB, dir, name, content string) string {
	t.Helper()
	root := filepath.Join(dir, name+".d")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "file"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name+".tar")
	run(t, "tar", "-C", root, "--format=posix", "-cf", path, ".")
	return path
}

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

func TestReleaseKeepsWhatIsWanted(t *testing.T) {
	for _, driver := range allDrivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t, driver)
			l := h.layers(t)
			a := h.derive(t, l, smallTar(t, h.dir, "a", "content of a"))
			b := h.derive(t, l, smallTar(t, h.dir, "b", "content of b"))
			mounted, err := l.Ensure(t.Context(), []cas.Digest{a, b})
			if err != nil {
				t.Fatal(err)
			}
			inUse := cloned(t, mounted[b.Hex()])
			if err := l.Release(t.Context(), func(d cas.Digest) bool { return d == a }); err != nil {
				t.Fatal(err)
			}
			within(t, mounted[a.Hex()], func(path string) {
				if _, err := os.Lstat(mounted[b.Hex()].Path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("mount point of a released layer: %v, want ErrNotExist", err)
				}
			})
			got, err := os.ReadFile(filepath.Join(inUse, "file"))
			if err != nil || string(got) != "content of b" {
				t.Errorf("a clone of a released layer shows %q, %v", got, err)
			}
			if _, err := l.Ensure(t.Context(), []cas.Digest{b}); err != nil {
				t.Fatal(err)
			}
			if err := l.Release(t.Context(), func(cas.Digest) bool { return false }); err != nil {
				t.Fatal(err)
			}
			if _, err := openNamespace(filepath.Join(h.o.RunDir, "layers")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("namespace after the last Release: %v, want ErrNotExist", err)
			}
		})
	}
}

// Processes that ensure and release at once all get what they asked for.
func TestManyProcesses(t *testing.T) {
	if list := os.Getenv("RKT_TEST_ENSURE"); list != "" {
		ensureInChild(t, list)
		return
	}
	h := newHost(t, DriverErofs)
	var list []string
	for i := range 5 {
		d := h.commit(t, h.stores.CAS(), smallTar(t, h.dir, fmt.Sprint(i), strings.Repeat(fmt.Sprint(i), 100_000)))
		list = append(list, d.Hex())
	}
	h.layers(t)
	var children []*exec.Cmd
	for range 6 {
		c := exec.Command(os.Args[0], "-test.run=^TestManyProcesses$")
		c.Env = append(os.Environ(), "RKT_TEST_ENSURE="+h.dir+" "+strings.Join(list, " "))
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, c)
	}
	for _, c := range children {
		if err := c.Wait(); err != nil {
			t.Errorf("%v\n%s", err, c.Stdout)
		}
	}
	ns, err := openNamespace(filepath.Join(h.o.RunDir, "layers"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	there, err := ns.layers()
	if err != nil || len(there) != len(list) {
		t.Errorf("mounted: %v, %v, want %d layers", there, err, len(list))
	}
}

func ensureInChild(t *testing.T, list string) {
	fields := strings.Fields(list)
	h := &host{dir: fields[0]}
	h.stores.list = []*cas.Store{openStore(t, filepath.Join(h.dir, "data", "cas"))}
	h.o = Options{Stores: h.stores, RunDir: filepath.Join(h.dir, "run"), Driver: DriverErofs, Tars: fakeTars{t: t}}
	l := h.layers(t)
	var layers []cas.Digest
	for _, hex := range fields[1:] {
		d, err := cas.FromHex(hex)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, d)
	}
	for range 10 {
		mounted, err := l.Ensure(t.Context(), layers)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range layers {
			if _, err := os.ReadFile(filepath.Join(cloned(t, mounted[d.Hex()]), "file")); err != nil {
				t.Fatal(err)
			}
		}
		// What others wait for stays, so this releases nothing but is in the way.
		if err := l.Release(t.Context(), func(d cas.Digest) bool { return slices.Contains(layers, d) }); err != nil {
			t.Fatal(err)
		}
	}
}

// What a process that was killed between two steps left is used or replaced.
func TestEnsureAfterAKill(t *testing.T) {
	damage := map[string]func(t *testing.T, s *state, d cas.Digest){
		"before the namespace was bound": func(t *testing.T, s *state, d cas.Digest) {
			if err := removeNamespace(s.dir); err != nil {
				t.Fatal(err)
			}
			if err := makePrivateMount(s.dir); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(s.dir, nsFile), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"before the mount was recorded": func(t *testing.T, s *state, d cas.Digest) {
			ns, err := openNamespace(s.dir)
			if err != nil {
				t.Fatal(err)
			}
			defer ns.Close()
			if err := s.forgetMounted(ns, d); err != nil {
				t.Fatal(err)
			}
		},
		"before the verification was whole": func(t *testing.T, s *state, d cas.Digest) {
			if err := os.Truncate(filepath.Join(s.boot, verifiedDir, d.Hex()), 5); err != nil {
				t.Fatal(err)
			}
		},
		"in another boot": func(t *testing.T, s *state, d cas.Digest) {
			if err := removeNamespace(s.dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(s.boot, filepath.Join(s.dir, bootPrefix+"of-old")); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, break_ := range damage {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, DriverErofs)
			l := h.layers(t)
			d := h.derive(t, l, smallTar(t, h.dir, "one", "content"))
			if _, err := l.Ensure(t.Context(), []cas.Digest{d}); err != nil {
				t.Fatal(err)
			}
			s, err := openState(h.o.RunDir)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			break_(t, s, d)
			mounted, err := l.Ensure(t.Context(), []cas.Digest{d})
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(cloned(t, mounted[d.Hex()]), "file"))
			if err != nil || string(got) != "content" {
				t.Errorf("content = %q, %v", got, err)
			}
			if old, _ := filepath.Glob(filepath.Join(s.dir, bootPrefix+"of-old")); len(old) > 0 {
				t.Errorf("records of another boot are still there: %v", old)
			}
		})
	}
}

// The namespace of the layers keeps nothing of the host busy.
func TestNamespaceIsEmpty(t *testing.T) {
	h := newHost(t, DriverErofs)
	l := h.layers(t)
	d := h.derive(t, l, smallTar(t, h.dir, "one", "content"))
	mounted, err := l.Ensure(t.Context(), []cas.Digest{d})
	if err != nil {
		t.Fatal(err)
	}
	proc, err := os.Open("/proc")
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	within(t, mounted[d.Hex()], func(string) {
		fd, err := unix.Openat(int(proc.Fd()), fmt.Sprintf("%d/task/%d/mountinfo", unix.Getpid(), unix.Gettid()), unix.O_RDONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		f := os.NewFile(uintptr(fd), "mountinfo")
		defer f.Close()
		b, err := io.ReadAll(f)
		if err != nil || strings.Count(string(b), "\n") != 2 {
			t.Errorf("mounts in the namespace: %v\n%s\nwant the tmpfs and one layer", err, b)
		}
	})
}

func TestProbe(t *testing.T) {
	h := newHost(t, "")
	l := h.layers(t)
	if l.Driver() != DriverErofs || l.Why() == "" {
		t.Errorf("driver %q because %q, want %q on this filesystem", l.Driver(), l.Why(), DriverErofs)
	}
	record := filepath.Join(h.dir, "data", probeFile)
	first, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(first), `"driver":"erofs"`, `"driver":"erofs","error":"because of the test"`, 1)
	if err := os.WriteFile(record, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	if l := h.layers(t); l.Driver() != DriverLoop || !strings.Contains(l.Why(), "because of the test") {
		t.Errorf("driver %q because %q, want %q by the record", l.Driver(), l.Why(), DriverLoop)
	}
	h.o.Driver = DriverErofs
	if _, err := Open(h.o); err == nil || !strings.Contains(err.Error(), "because of the test") {
		t.Errorf("Open with a driver that does not work = %v", err)
	}
	h.o.Driver = "floppy"
	if _, err := Open(h.o); err == nil {
		t.Error("Open with an unknown driver succeeded")
	}
	h.o.Driver = ""
	edited = strings.Replace(edited, `"boot":"`, `"boot":"another`, 1)
	if err := os.WriteFile(record, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	if l := h.layers(t); l.Driver() != DriverErofs {
		t.Errorf("driver %q after a boot, want %q", l.Driver(), DriverErofs)
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
