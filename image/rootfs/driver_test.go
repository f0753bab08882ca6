package rootfs

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fill makes a tree with everything that an image can have.
func fill(t testing.TB, root string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name string, size int) {
		t.Helper()
		must(os.MkdirAll(filepath.Join(root, filepath.Dir(name)), 0o755))
		must(os.WriteFile(filepath.Join(root, name), bytes.Repeat([]byte(name+"\n"), size/(len(name)+1)+1)[:size], 0o644))
	}
	for _, size := range []int{0, 1, 511, 512, 513, 4095, 4096, 4097, 100_000, 3_000_001} {
		write(fmt.Sprintf("sizes/%d", size), size)
	}
	must(os.Chmod(filepath.Join(root, "sizes/1"), 0o4755|os.ModeSetuid))
	must(os.Chown(filepath.Join(root, "sizes/1"), 1000, 1<<31))
	for i := range 700 {
		write(fmt.Sprintf("many/%s%d", strings.Repeat("n", i%250), i), i)
	}
	// These sort before "." and "..".
	for _, name := range []string{"!", "+a", "-", " ", "\x01", "...", "..a", ".a", "\xff\xfe", "a\nb", strings.Repeat("x", 255)} {
		write("names/"+name, 10)
	}
	must(os.MkdirAll(filepath.Join(root, "empty"), 0o755))
	must(os.Chmod(filepath.Join(root, "empty"), os.ModeSticky|0o777))
	for i, target := range []string{"x", "/absolute", "../../..", strings.Repeat("long/", 80), strings.Repeat("longer/", 100), strings.Repeat("z", 4095)} {
		must(os.Symlink(target, filepath.Join(root, fmt.Sprintf("link%d", i))))
	}
	must(unix.Mkfifo(filepath.Join(root, "fifo"), 0o600))
	for i := range 5 {
		must(os.Link(filepath.Join(root, "sizes/4097"), filepath.Join(root, fmt.Sprintf("many/hard%d", i))))
	}
	must(os.Link(filepath.Join(root, "link1"), filepath.Join(root, "hardsymlink")))
	xattr := func(name, key, value string) {
		t.Helper()
		must(unix.Lsetxattr(filepath.Join(root, name), key, []byte(value), 0))
	}
	xattr("sizes/512", "user.alone", "one")
	xattr("sizes/513", "user.empty", "")
	xattr("sizes/513", "user."+strings.Repeat("k", 250), strings.Repeat("v", 300))
	xattr("sizes/4096", "user.big", strings.Repeat("big", 600))
	for i := range 20 {
		xattr(fmt.Sprintf("many/%s%d", strings.Repeat("n", i), i), "user.same", "shared value")
	}
	xattr("sizes/1", "security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	xattr("many", "user.dir", "on a directory")
	must(os.MkdirAll(filepath.Join(root, "closed/in"), 0o755))
	must(os.Chmod(filepath.Join(root, "closed"), 0))

	when := []time.Time{time.Unix(0, 0), time.Unix(-5, 250), time.Unix(1<<33, 999_999_999), time.Unix(1700000000, 123456789)}
	var i int
	must(filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i++
		at := unix.NsecToTimespec(0)
		at.Sec, at.Nsec = when[i%4].Unix(), int64(when[i%4].Nanosecond())
		defer unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
		return nil
	}))
	stamp(t, root)
}

// stamp sets the times of all folders, whose filling has changed them.
func stamp(t testing.TB, root string) {
	t.Helper()
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		at := unix.Timespec{Sec: 1600000000, Nsec: int64(len(p))}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{at, at}, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// The mounted index of a tar that GNU tar made shows what the tar was made of.
func TestMountEqualsTree(t *testing.T) {
	needRoot(t)
	dir := scratch(t)
	root := filepath.Join(dir, "root")
	fill(t, root)
	tarPath := filepath.Join(dir, "layer.tar")
	run(t, "tar", "-C", root, "--format=posix", "--xattrs", "--xattrs-include=*", "--sort=name", "-cf", tarPath, ".")
	want := describe(t, root)
	indexPath := index(t, tarPath, factsOf(t, tarPath))

	for _, driver := range []string{DriverErofs, DriverLoop} {
		for _, directIO := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,directio=%v", driver, directIO), func(t *testing.T) {
				sameTree(t, describe(t, mounted(t, driver, directIO, tarPath, indexPath)), want)
			})
		}
	}
	if len(want) < 700 {
		t.Errorf("only %d names compared", len(want))
	}
}

func TestIndexIsDeterministic(t *testing.T) {
	dir := scratch(t)
	tarPath := filepath.Join(dir, "layer.tar")
	f, err := os.Create(tarPath)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	for i := range 300 {
		h := &tar.Header{Name: fmt.Sprintf("d%d/f%d", i%7, i), Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(i)}
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.k": fmt.Sprint(i % 3)}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	facts := factsOf(t, tarPath)
	first, err := os.ReadFile(index(t, tarPath, facts))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		again, err := os.ReadFile(index(t, tarPath, facts))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first, again) {
			t.Fatal("two indexes of one layer differ")
		}
	}
}
