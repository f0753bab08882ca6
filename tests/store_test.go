package tests

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// tree describes every entry of a folder: type, mode, owner, link count of
// files, target, attributes and bytes. Device nodes are left out.
func tree(t testing.TB, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		if rel == "proc" || rel == "sys" || rel == "dev" {
			return fs.SkipDir // rkt mounts there
		}
		if s, ok := describe(t, p); ok {
			all[rel] = s
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func describe(t testing.TB, p string) (string, bool) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(p, &st); err != nil {
		t.Fatal(err)
	}
	s := fmt.Sprintf("%o %d:%d", st.Mode, st.Uid, st.Gid)
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR, unix.S_IFBLK, unix.S_IFSOCK:
		return "", false
	case unix.S_IFLNK:
		target, err := os.Readlink(p)
		if err != nil {
			t.Fatal(err)
		}
		s += " -> " + target
	case unix.S_IFREG:
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(b)
		s += fmt.Sprintf(" links %d size %d time %d.%d sha256 %s", st.Nlink, st.Size, st.Mtim.Sec, st.Mtim.Nsec, hex.EncodeToString(sum[:]))
	}
	return s + attributes(t, p), true
}

func attributes(t testing.TB, p string) string {
	t.Helper()
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, list)
	if err != nil {
		return ""
	}
	names := strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00")
	sort.Strings(names)
	var s strings.Builder
	for _, name := range names {
		if !strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(p, name, value)
		if err != nil {
			t.Fatalf("%s: attribute %s: %v", p, name, err)
		}
		fmt.Fprintf(&s, " %s=%q", name, value[:n])
	}
	return s.String()
}

// unpacked is what umoci makes of a test image.
func unpacked(t testing.TB, name string) string {
	t.Helper()
	base, err := os.MkdirTemp("/var/tmp", "rkt-umoci-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	dir := filepath.Join(base, "bundle")
	if out, err := exec.Command("umoci", "unpack", "--image", layout(t, name)+":latest", dir).CombinedOutput(); err != nil {
		t.Fatalf("umoci unpack: %v: %s", err, out)
	}
	return filepath.Join(dir, "rootfs")
}

// linuxBefore says whether the kernel is older than a version.
func linuxBefore(t testing.TB, major, minor int) bool {
	t.Helper()
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	var have [2]int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &have[0], &have[1]); err != nil {
		t.Fatalf("the kernel's release %q: %v", u.Release, err)
	}
	return have[0] < major || have[0] == major && have[1] < minor
}

// drivers are those that this kernel has.
func drivers(t testing.TB) []string {
	t.Helper()
	if linuxBefore(t, 6, 12) { // mounts no files
		return []string{"erofs-loop", "dir"}
	}
	return []string{"erofs", "erofs-loop", "dir"}
}

// The root that an app sees is what another implementation makes of the same
// image, with each driver.
func TestRootsEqualWhatUmociUnpacks(t *testing.T) {
	for _, image := range []string{"layers", "redis", "python"} {
		want := tree(t, unpacked(t, image))
		for _, driver := range drivers(t) {
			t.Run(image+" "+driver, func(t *testing.T) {
				h := newHost(t)
				h.flags = []string{"--driver=" + driver}
				ref := h.image(image)
				if got := h.must("version", "--verbose"); !strings.Contains(got, driver) {
					t.Errorf("version --verbose does not name the driver %s:\n%s", driver, got)
				}
				p := h.start("run", "--name=root", "--private-users=no", ref, "--exec=/bin/busybox", "--", "sh", "-c", "echo ready; exec sleep 1000")
				p.line()
				got := tree(t, fmt.Sprintf("/proc/%d/root/.", h.appPID("root")))
				compare(t, got, want)
				p.stop()
			})
		}
	}
}

// compare names what differs, apart from what rkt mounts over an image.
func compare(t *testing.T, got, want map[string]string) {
	t.Helper()
	ours := func(p string) bool {
		return p == "etc" || p == "etc/hosts" || p == "etc/resolv.conf" || p == "etc/hostname" || p == "etc/mtab" || p == "."
	}
	shown := 0
	report := func(format string, args ...any) {
		if shown++; shown <= 20 {
			t.Errorf(format, args...)
		}
	}
	for p, w := range want {
		if ours(p) {
			continue
		}
		if g, there := got[p]; !there {
			report("%s is missing; umoci has %s", p, w)
		} else if g != w {
			report("%s differs:\n  rkt   %s\n  umoci %s", p, g, w)
		}
	}
	for p, g := range got {
		if _, there := want[p]; !there && !ours(p) {
			report("%s is there and umoci has nothing: %s", p, g)
		}
	}
}

// Page cache is shared: a second pod reads the layers from memory (design).
func TestImagesShareLayersAndSurviveRemoval(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	p := h.ready("user")
	h.must("image", "rm", ref)
	out := h.must("gc", "--images")
	if !strings.Contains(out, "user") && !strings.Contains(out, h.firstPod()) {
		t.Errorf("gc --images does not say that a pod keeps the layers:\n%s", out)
	}
	if got := h.must("enter", "user", "--", "cat", "/etc/group"); !strings.Contains(got, "nogroup") {
		t.Errorf("the pod lost its image: %q", got)
	}
	p.stop()
	h.must("gc", "--grace-period=0")
	h.must("gc", "--images")
	if left, _ := filepath.Glob(filepath.Join(h.data, "cas/blobs/sha256/*")); len(left) > 0 {
		t.Errorf("blobs are left: %v", left)
	}
}

func TestFsckFindsNamesAndRepairsDamage(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, data string) // of the largest file that matches
		glob   string
	}{
		{"a flipped byte in a blob", flipByte, "cas/blobs/sha256/*"},
		{"a truncated blob", func(t *testing.T, p string) {
			chattr(t, p)
			if err := os.Truncate(p, 1000); err != nil {
				t.Fatal(err)
			}
		}, "cas/blobs/sha256/*"},
		{"a missing blob", func(t *testing.T, p string) {
			if err := os.Remove(p); err != nil {
				t.Fatal(err)
			}
		}, "cas/blobs/sha256/*"},
		{"a flipped byte in an index", flipByte, "cas/derived/erofs-1/*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			ref := h.image("busybox")
			h.must("fsck")
			c.damage(t, largest(t, filepath.Join(h.data, c.glob)))
			r := h.rkt("fsck")
			if r.code == 0 || !strings.Contains(r.stdout+r.stderr, "busybox") {
				t.Errorf("fsck: code %d; the damaged image is not named:\n%s%s", r.code, r.stdout, r.stderr)
			}
			h.rkt("fsck", "--repair")
			h.must("fsck")
			h.must("fetch", ref)
			if got := h.must("run", "--rm", ref, "--", "echo", "whole"); got != "whole" {
				t.Errorf("after repair: %q", got)
			}
		})
	}
}

func largest(t *testing.T, glob string) string {
	t.Helper()
	all, err := filepath.Glob(glob)
	if err != nil || len(all) == 0 {
		t.Fatalf("nothing at %s", glob)
	}
	sort.Slice(all, func(i, j int) bool { return sizeOf(t, all[i]) > sizeOf(t, all[j]) })
	return all[0]
}

func sizeOf(t *testing.T, p string) int64 {
	t.Helper()
	st, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

func chattr(t *testing.T, p string) {
	t.Helper()
	if err := os.Chmod(p, 0o600); err != nil {
		t.Fatal(err)
	}
}

func flipByte(t *testing.T, p string) {
	t.Helper()
	chattr(t, p)
	f, err := os.OpenFile(p, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	at := sizeOf(t, p) / 2
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b[:], at); err != nil {
		t.Fatal(err)
	}
}

func TestNewerStoreIsRefused(t *testing.T) {
	h := newHost(t)
	h.image("busybox")
	path := filepath.Join(h.data, "version")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, "999\n")
	for _, args := range [][]string{{"list"}, {"image", "list"}, {"gc"}, {"run", "--rm", "oci:" + layout(t, "busybox")}} {
		h.refuses(args, "999")
	}
	write(t, path, string(old))
	h.must("list")
}

func TestReadOnlyStore(t *testing.T) {
	h := newHost(t)
	disk := loopDisk(t, 64<<20)
	base := h.data
	h.data = filepath.Join(disk, "data")
	ref := h.image("busybox")
	// The kernel may still be closing the files of a process that is gone.
	eventually(t, func() error { return syscall.Mount("", disk, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, "") })
	r := h.rkt("fetch", "oci:"+layout(t, "layers"))
	if r.code != 125 || !strings.Contains(r.stderr, "read-only") {
		t.Errorf("fetch into a read-only store: %d %q", r.code, r.stderr)
	}
	// A writable store can use the read-only one beside it.
	readOnly := h.data
	h.data = base
	h.flags = []string{"--read-only-store=" + readOnly}
	if got := h.must("run", "--rm", "--pull-policy=never", ref, "--", "echo", "from the read-only store"); got != "from the read-only store" {
		t.Errorf("got %q", got)
	}
	h.must("gc", "--grace-period=0")
	h.must("gc", "--images")
}

func TestStoreIsClosedToOthers(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	h := newHost(t)
	ref := h.image("busybox")
	h.must("run", ref, "--", "true")
	for _, root := range []string{h.data, h.run} {
		st, err := os.Stat(root)
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", root, st.Mode())
		}
	}
}

func TestImageListFormats(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	var images []map[string]any
	if err := json.Unmarshal([]byte(h.must("image", "list", "--format=json")), &images); err != nil || len(images) != 1 {
		t.Fatalf("image list --format=json: %v, %d images", err, len(images))
	}
	for _, args := range [][]string{{"image", "cat-manifest", ref}, {"image", "cat-config", ref}} {
		var v map[string]any
		if err := json.Unmarshal([]byte(h.must(args...)), &v); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	h.refuses([]string{"image", "rm", "absent"}, "absent")
}
