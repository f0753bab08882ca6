package safepath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func openDir(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(filepath.Base(path)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOpenStaysBelow(t *testing.T) {
	base := t.TempDir()
	root := filepath.Join(base, "root")
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(base, "secret"))
	write(t, filepath.Join(root, "etc/passwd"))
	write(t, filepath.Join(root, "secret"))
	for name, target := range map[string]string{"abs": "/etc/passwd", "up": "../secret", "in": "etc/passwd", "magic": "/proc/self/fd/0"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	dir := openDir(t, root)
	for _, c := range []struct{ path, inRoot, beneath string }{
		{"etc/passwd", "passwd", "passwd"},
		{"abs", "passwd", ""},
		{"/etc/passwd", "passwd", ""},
		{"in", "passwd", ""},
		{"up", "secret", ""}, // the one in the root
		{"../secret", "secret", ""},
		{"etc/../secret", "secret", "secret"},
		{"magic", "", ""},
		{"absent", "", ""},
	} {
		for how, open := range map[string]func(*os.File, string, int, os.FileMode) (*os.File, error){"OpenInRoot": OpenInRoot, "OpenBeneath": OpenBeneath} {
			want := c.inRoot
			if how == "OpenBeneath" {
				want = c.beneath
			}
			f, err := open(dir, c.path, unix.O_RDONLY, 0)
			if err != nil {
				if want != "" {
					t.Errorf("%s(%q) = %v, want %q", how, c.path, err, want)
				}
				continue
			}
			b := make([]byte, 100)
			n, _ := f.Read(b)
			f.Close()
			if got := string(b[:n]); got != want {
				t.Errorf("%s(%q) reads %q, want %q", how, c.path, got, want)
			}
		}
	}
}

func TestPrivateDir(t *testing.T) {
	base := t.TempDir()
	old := unix.Umask(0o777)
	err := PrivateDir(filepath.Join(base, "new"))
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(base, "wide"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := PrivateDir(filepath.Join(base, "wide")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"new", "wide"} {
		if st, err := os.Stat(filepath.Join(base, name)); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("mode of %s is %v, %v", name, st.Mode(), err)
		}
	}

	if err := os.Symlink("new", filepath.Join(base, "link")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(base, "file"))
	if err := os.Mkdir(filepath.Join(base, "foreign"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(filepath.Join(base, "foreign"), 12345, 0); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "file", "foreign", "absent/below"} {
		if err := PrivateDir(filepath.Join(base, name)); err == nil {
			t.Errorf("PrivateDir(%q) succeeded", name)
		}
	}
}

func removed(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is still there: %v", path, err)
	}
}

func TestRemoveAllFollowsNothing(t *testing.T) {
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	if err := os.MkdirAll(filepath.Join(base, "tree/sub/zero"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(outside, "canary"))
	write(t, filepath.Join(base, "tree/sub/zero/file"))
	for _, name := range []string{"tree/link", "tree/sub/link", "top"} {
		if err := os.Symlink(outside, filepath.Join(base, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(base, "tree/fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(base, "tree/sub/zero"), 0); err != nil {
		t.Fatal(err)
	}
	dir := openDir(t, base)
	for _, name := range []string{"tree", "top", "absent"} {
		if err := RemoveAll(dir, name); err != nil {
			t.Error(err)
		}
		removed(t, filepath.Join(base, name))
	}
	if _, err := os.Stat(filepath.Join(outside, "canary")); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "/", "outside/../outside"} {
		if err := RemoveAll(dir, name); err == nil {
			t.Errorf("RemoveAll(%q) succeeded", name)
		}
	}
}

func TestRemoveAllDeepAndWide(t *testing.T) {
	base := t.TempDir()
	dir := openDir(t, base)
	// 3000 levels with a long name are beyond PATH_MAX and beyond any limit on
	// open files; each has a neighbour and every tenth a name that RemoveAll uses.
	name := strings.Repeat("d", 200)
	at, err := unix.Dup(int(dir.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	for level := range 3000 {
		if err := unix.Mkdirat(at, name, 0o700); err != nil {
			t.Fatal(err)
		}
		if level%10 == 0 && level > 0 {
			if err := unix.Mkdirat(at, ".deep.1", 0o700); err != nil {
				t.Fatal(err)
			}
		}
		next, err := unix.Openat(at, name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(at)
		at = next
	}
	unix.Close(at)
	for i := range 3 * batch {
		write(t, filepath.Join(base, name, fmt.Sprint(i)))
	}
	if err := os.Mkdir(filepath.Join(base, name, ".deep.2"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := RemoveAll(dir, name); err != nil {
		t.Fatal(err)
	}
	removed(t, filepath.Join(base, name))
}

func TestRemoveAllStopsAtMounts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	base := t.TempDir()
	mounted := filepath.Join(base, "tree/sub/mnt")
	if err := os.MkdirAll(mounted, 0o755); err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(base, "outside")
	if err := os.Mkdir(outside, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(outside, "canary"))
	// A bind mount is of the same filesystem: a comparison of devices does not see it.
	if err := unix.Mount(outside, mounted, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(mounted, unix.MNT_DETACH) })
	dir := openDir(t, base)
	err := RemoveAll(dir, "tree")
	if !errors.Is(err, ErrMount) || !strings.Contains(err.Error(), mounted) {
		t.Errorf("RemoveAll() = %v, want ErrMount naming %s", err, mounted)
	}
	if _, err := os.Stat(filepath.Join(outside, "canary")); err != nil {
		t.Error(err)
	}
	if err := unix.Unmount(mounted, 0); err != nil {
		t.Fatal(err)
	}
	if err := RemoveAll(dir, "tree"); err != nil {
		t.Error(err)
	}
	removed(t, filepath.Join(base, "tree"))
}

func TestRemoveAllTakesImmutableMarks(t *testing.T) {
	base := t.TempDir()
	tree := filepath.Join(base, "tree")
	if err := os.MkdirAll(filepath.Join(tree, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(tree, "dir/file"))
	for _, name := range []string{"dir/file", "dir", "."} {
		f := openDir(t, filepath.Join(tree, name))
		if err := unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, unix.STATX_ATTR_IMMUTABLE); err != nil {
			t.Skipf("this filesystem has no immutable files: %v", err)
		}
	}
	if err := RemoveAll(openDir(t, base), "tree"); err != nil {
		t.Fatal(err)
	}
	removed(t, tree)
}
