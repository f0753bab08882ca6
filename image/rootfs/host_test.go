package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rkt/cas"
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
	if driver == DriverErofs {
		needFileMounts(t)
	}
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
		after := mountsAndLoops(t)
		// The kernel frees a loop device after the last that has its mount is
		// gone: a process that was just forked may still be one.
		for deadline := time.Now().Add(10 * time.Second); after != before && time.Now().Before(deadline); after = mountsAndLoops(t) {
			time.Sleep(10 * time.Millisecond)
		}
		if after != before {
			t.Errorf("left behind\n%s\nbefore\n%s", after, before)
		}
	})
	return h
}

// needFileMounts skips where the kernel cannot mount EROFS from files.
func needFileMounts(t testing.TB) {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	release := unix.ByteSliceToString(name.Release[:])
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		t.Fatalf("read kernel release %q: %v", release, err)
	}
	if major < 6 || major == 6 && minor < 12 {
		t.Skipf("Linux %s mounts EROFS from block devices alone, files came with 6.12", release)
	}
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
