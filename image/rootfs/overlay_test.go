package rootfs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/cas"
)

// entry is a line of a tar made by hand.
type entry struct {
	name string
	kind byte
	mode int64
	body string
}

func makeTar(t testing.TB, path string, entries ...entry) {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Typeflag: e.kind, Mode: e.mode, Size: int64(len(e.body))}
		if e.kind == tar.TypeSymlink || e.kind == tar.TypeLink {
			h.Linkname, h.Size = e.body, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, e.body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

const reg, folder = tar.TypeReg, tar.TypeDir

var lowerLayer = []entry{
	{"./", folder, 0o755, ""},
	{"gone", reg, 0o644, "lower"}, {"file", reg, 0o4755, "lower"},
	{"opaque/", folder, 0o755, ""}, {"opaque/old", reg, 0o644, "lower"},
	{"merged/", folder, 0o755, ""}, {"merged/hidden", reg, 0o644, "lower"}, {"merged/seen", reg, 0o644, "lower"},
	{"was-dir/", folder, 0o755, ""}, {"was-dir/old", reg, 0o644, "lower"},
	{"was-file", reg, 0o644, "lower"},
	{"replaced/", folder, 0o755, ""}, {"replaced/old", reg, 0o644, "lower"},
	{"lib64", tar.TypeSymlink, 0o777, "lib"},
	{"lib/", folder, 0o755, ""}, {"lib/old", reg, 0o644, "lower"},
}

var upperLayer = []entry{
	{".wh.gone", reg, 0, ""},
	{"opaque/", folder, 0o711, ""}, {"opaque/new", reg, 0o644, "upper"}, {"opaque/.wh..wh..opq", reg, 0, ""},
	{"merged/", folder, 0o755, ""}, {"merged/.wh.hidden", reg, 0, ""}, {"merged/new", reg, 0o644, "upper"},
	{"was-dir", reg, 0o644, "upper"},
	{"was-file/", folder, 0o755, ""}, {"was-file/new", reg, 0o644, "upper"},
	{"lib64/", folder, 0o755, ""}, {"lib64/x", reg, 0o644, "upper"},
}

// wantOverlay is what the two layers show together.
var wantOverlay = strings.Join([]string{
	"file 104755 0:0 lower", "lib/", "lib/old 100644 0:0 lower", "lib64/", "lib64/x 100644 0:0 upper",
	"merged/", "merged/new 100644 0:0 upper", "merged/seen 100644 0:0 lower",
	"opaque/", "opaque/new 100644 0:0 upper",
	"replaced/", "replaced/old 100644 0:0 lower",
	"was-dir 100644 0:0 upper", "was-file/", "was-file/new 100644 0:0 upper",
}, "\n")

// Clones of mounted layers, mapped to the ids of a user namespace, are lower
// layers of an overlay that is made in it: whiteouts hide, opaque folders hide,
// owners are right, and it can be written to.
func TestOverlayInUserNamespace(t *testing.T) {
	if os.Getenv("RKT_TEST_OVERLAY") != "" {
		overlayChild(t)
		return
	}
	for _, driver := range allDrivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t, driver)
			l := h.layers(t)
			lower, upper := filepath.Join(h.dir, "lower.tar"), filepath.Join(h.dir, "upper.tar")
			makeTar(t, lower, lowerLayer...)
			makeTar(t, upper, upperLayer...)
			layers := []cas.Digest{h.derive(t, l, lower), h.derive(t, l, upper)}
			mounted, err := l.Ensure(t.Context(), layers)
			if err != nil {
				t.Fatal(err)
			}
			var clones []*os.File
			for _, d := range []cas.Digest{layers[1], layers[0]} {
				clones = append(clones, clone(t, mounted[d.Hex()]))
			}
			writable := filepath.Join(h.dir, "writable")
			for _, dir := range []string{writable, writable + "/upper", writable + "/work"} {
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			clones = append(clones, cloneOf(t, writable))
			got := inUserNamespace(t, clones)
			if got != wantOverlay {
				t.Errorf("got\n%s\nwant\n%s", got, wantOverlay)
			}
			var st unix.Stat_t
			if err := unix.Stat(writable+"/upper/made", &st); err != nil || st.Uid != 0 {
				t.Errorf("file written in the overlay: owner %d, %v, want 0", st.Uid, err)
			}
		})
	}
}

func cloneOf(t *testing.T, path string) *os.File {
	t.Helper()
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { f.Close() })
	return f
}

// inUserNamespace runs overlayChild in a user namespace, with the mounts mapped
// to it, and returns what it printed.
func inUserNamespace(t *testing.T, mounts []*os.File) string {
	t.Helper()
	c := exec.Command("/proc/self/exe", "-test.run=^TestOverlayInUserNamespace$", "-test.v")
	c.Env = append(os.Environ(), "RKT_TEST_OVERLAY=1")
	c.ExtraFiles = mounts
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 524288, Size: 65536}}
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, UidMappings: ids, GidMappings: ids,
		GidMappingsEnableSetgroups: true, Credential: &syscall.Credential{},
	}
	stdin, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", c.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	for _, m := range mounts {
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV, Userns_fd: uint64(ns.Fd())}
		if err := unix.MountSetattr(int(m.Fd()), "", unix.AT_EMPTY_PATH, attr); err != nil {
			t.Errorf("map ids of %s: %v", m.Name(), err)
		}
	}
	stdin.Close() // go
	if err := c.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	_, text, _ := strings.Cut(out.String(), "<<<\n")
	text, _, _ = strings.Cut(text, "\n>>>")
	return text
}

// overlayChild is root of a user namespace. Its descriptors 3 to 5 are the
// layers, topmost first, and the writable folder.
func overlayChild(t *testing.T) {
	runtime.LockOSThread()
	if _, err := io.ReadAll(os.Stdin); err != nil {
		t.Fatal(err)
	}
	const base = "/tmp"
	if err := unix.Mount("tmpfs", base, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.FsconfigSetFlag(fs, "userxattr"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		dir := fmt.Sprintf("%s/%d", base, i)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.MoveMount(3+i, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			t.Fatal(err)
		}
	}
	for _, option := range [][2]string{{"lowerdir", base + "/0:" + base + "/1"}, {"upperdir", base + "/2/upper"}, {"workdir", base + "/2/work"}} {
		if err := unix.FsconfigSetString(fs, option[0], option[1]); err != nil {
			t.Fatalf("%s: %v", option[0], configError(fs, option[0], err))
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		t.Fatal(configError(fs, "create", err))
	}
	m, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		t.Fatal(err)
	}
	root := fmt.Sprintf("/proc/self/fd/%d/.", m)
	fmt.Printf("<<<\n%s\n>>>\n", listOverlay(t, root))
	if err := os.WriteFile(root+"/made", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/merged/seen", []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(root + "/was-file"); err != nil {
		t.Fatal(err)
	}
}

func listOverlay(t *testing.T, root string) string {
	var lines []string
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil || p == root {
			return err
		}
		name := strings.TrimPrefix(strings.TrimPrefix(p, filepath.Clean(root)), root)
		name = strings.TrimPrefix(name, "/")
		if d.IsDir() {
			lines = append(lines, name+"/")
			return nil
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		b, err := os.ReadFile(p)
		lines = append(lines, fmt.Sprintf("%s %o %d:%d %s", name, st.Mode, st.Uid, st.Gid, b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
