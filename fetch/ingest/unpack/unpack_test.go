package unpack

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/fetch/ingest/forge"
	"rkt/image/layer"
)

// unpacked unpacks a tar and returns the folder.
func unpacked(t *testing.T, b []byte) (string, error) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: it makes files of other owners")
	}
	path := filepath.Join(t.TempDir(), "tar")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	tar, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer tar.Close()
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	err = Tar(tar, dir, "root")
	return filepath.Join(dir.Name(), "root"), err
}

func TestUnpackEqualsTar(t *testing.T) {
	source := t.TempDir()
	script := `set -e; cd "$1"; umask 022
mkdir -p a/b sticky; chmod 1777 sticky; echo hello > a/file; chmod 4755 a/file; chown 1000:2000 a/file
ln a/file a/b/hard; ln -s /etc/passwd a/link; ln a/link a/hardlink; mkfifo a/fifo; chown -h 7:8 a/link
dd if=/dev/urandom of=a/big bs=1M count=3 status=none; truncate -s 9M a/sparse; printf x | dd of=a/sparse bs=1 seek=5000000 conv=notrunc status=none
setfattr -n user.test -v value a/file; setfattr -n user.dir -v value a/b; mkdir a/closed; echo secret > a/closed/f; chmod 000 a/closed
touch -d '2001-02-03 04:05:06.123456789 UTC' a/file a/b; touch -d 1969-12-31T00:00:00Z a/big`
	if out, err := exec.Command("sh", "-c", script, "sh", source).CombinedOutput(); err != nil {
		t.Fatalf("make files: %v: %s", err, out)
	}
	for _, format := range []string{"--format=gnu", "--format=posix"} {
		b, err := exec.Command("tar", "-C", source, "-cf", "-", format, "--xattrs", "--sparse", "--sort=name", ".").Output()
		if err != nil {
			t.Fatal(err)
		}
		root, err := unpacked(t, b)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := describe(t, root, format), describe(t, source, format); got != want {
			t.Errorf("unpacked from %s:\n%s\nwant:\n%s", format, got, want)
		}
	}
}

// describe lists the tree in words of GNU tools: all but what the dialect loses.
func describe(t *testing.T, root, format string) string {
	t.Helper()
	script := `cd "$1"; find . -printf '%p %y %m %U:%G %n %s %l %T` + map[string]string{"--format=gnu": "s", "--format=posix": "@"}[format] + `\n' | sed '/ d /s/ [0-9]* [0-9]*  / /' | sort
find . -type f -exec sha256sum {} + | sort -k2; cd a; stat -c %i file b/hard | uniq | wc -l; stat -c %i link hardlink | uniq | wc -l`
	if format == "--format=posix" {
		script += `; cd ..; getfattr -R -d . | sort`
	} else {
		script = strings.ReplaceAll(script, "%Ts", "%TY-%Tm-%Td %TH:%TM")
	}
	out, err := exec.Command("sh", "-c", script, "sh", root).CombinedOutput()
	if err != nil {
		t.Fatalf("describe %s: %v: %s", root, err, out)
	}
	return string(out)
}

func TestUnpackWhiteouts(t *testing.T) {
	root, err := unpacked(t, forge.Tar(
		forge.File("a/.wh.gone", ""), forge.File("b/.wh..wh..opq", ""), forge.File("b/new", "x"),
		forge.File(".wh.c", ""), forge.Dir("c"), forge.File("d", "x"), forge.File(".wh.d", ""),
	))
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(root, "a/gone"), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("whiteout = %+v, %v, want a character device 0:0", st, err)
	}
	for name, want := range map[string]bool{"a": false, "b": true, "c": true, "": false} {
		value := make([]byte, 8)
		n, err := unix.Lgetxattr(filepath.Join(root, name), "user.overlay.opaque", value)
		if got := err == nil && string(value[:n]) == "y"; got != want {
			t.Errorf("%q is opaque: %v, %v, want %v", name, got, err, want)
		}
	}
	if b, err := os.ReadFile(filepath.Join(root, "d")); err != nil || string(b) != "x" {
		t.Errorf("file that the layer hides and has = %q, %v", b, err)
	}
}

// TestUnpackStaysInside: IM-01 to IM-04, the canary next to the root is untouched.
func TestUnpackStaysInside(t *testing.T) {
	canary := filepath.Join(t.TempDir(), "canary")
	if err := os.WriteFile(canary, []byte("alive"), 0o640); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(canary)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(canary)
	up := strings.Repeat("../", 20)
	var chain []forge.Entry
	for i := range 50 {
		chain = append(chain, forge.Symlink(fmt.Sprintf("l%d", i), fmt.Sprintf("l%d", i+1)))
	}
	tests := map[string][]forge.Entry{
		"IM-02 absolute symlink":     {forge.Symlink("d", dir), forge.File("d/canary", "dead")},
		"IM-02 relative symlink":     {forge.Symlink("d", up+dir), forge.File("d/canary", "dead")},
		"IM-02 chained":              {forge.Symlink("a", "b"), forge.Symlink("b", dir), forge.File("a/canary", "dead")},
		"IM-02 to itself":            {forge.Symlink("a", "a"), forge.File("a/canary", "dead")},
		"IM-02 long chain":           append(chain, forge.File("l0/canary", "dead")),
		"IM-02 folder over symlink":  {forge.Symlink("d", dir), forge.Dir("d/")},
		"IM-02 file over symlink":    {forge.Symlink("f", canary), forge.File("f", "dead")},
		"IM-04 link to symlink":      {forge.Symlink("s", canary), forge.Hardlink("h", "s"), forge.File("h", "dead")},
		"IM-04 through symlink":      {forge.Symlink("d", dir), forge.Hardlink("h", "d/canary")},
		"IM-04 absolute":             {forge.Hardlink("h", canary)},
		"IM-04 mode through link":    {forge.File("f", "x"), forge.Hardlink("h", "f"), {Name: "h", Mode: "7777", Data: "y"}},
		"IM-05 below symlink":        {forge.Symlink("d", dir), forge.File("d/.wh.canary", "")},
		"IM-05 opaque below symlink": {forge.Symlink("d", dir), forge.File("d/.wh..wh..opq", "")},
		"IM-09 file is a parent":     {forge.File("f", "x"), forge.File("f/g", "y")},
	}
	for name, entries := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := unpacked(t, forge.Tar(entries...))
			if err != nil && !errors.Is(err, layer.ErrMalformed) {
				t.Errorf("Tar() = %v, want none or ErrMalformed", err)
			}
			after, err := os.Stat(canary)
			if err != nil || after.Mode() != before.Mode() || !after.ModTime().Equal(before.ModTime()) {
				t.Errorf("canary = %v, %v, want %v", after, err, before)
			}
			if b, err := os.ReadFile(canary); err != nil || !bytes.Equal(b, []byte("alive")) {
				t.Errorf("canary = %q, %v", b, err)
			}
			if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
				t.Errorf("next to the canary: %v, %v", names, err)
			}
		})
	}
}
