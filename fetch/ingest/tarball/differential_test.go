package tarball

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rkt/image/layer"
)

// TestScanAgreesWithOtherTools makes real tars in each dialect and compares what
// the scanner finds with what archive/tar finds and what the files are.
func TestScanAgreesWithOtherTools(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir)
	for _, options := range [][]string{
		{"--format=gnu"}, {"--format=gnu", "--sparse"}, {"--format=ustar"}, {"--format=posix", "--xattrs"},
		{"--format=posix", "--sparse", "--sparse-version=0.0"}, {"--format=posix", "--sparse", "--sparse-version=0.1"},
		{"--format=posix", "--sparse", "--sparse-version=1.0"}, {"--format=v7"},
	} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			args := append([]string{"-C", dir, "-cf", "-", "--sort=name", "--numeric-owner"}, options...)
			if options[0] == "--format=ustar" || options[0] == "--format=v7" {
				args = append(args, "--exclude=*long*")
			}
			b, err := exec.Command("tar", append(args, ".")...).Output()
			if err != nil {
				t.Fatalf("tar: %v", err)
			}
			compareWithArchiveTar(t, b, mustScan(t, b))
		})
	}
}

func makeTree(t *testing.T, dir string) {
	t.Helper()
	long := filepath.Join(dir, "long", strings.Repeat("d", 150), strings.Repeat("e", 150))
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(long, 0o755))
	must(os.WriteFile(filepath.Join(long, "file"), []byte("deep"), 0o4711))
	must(os.Symlink(strings.Repeat("t", 200), filepath.Join(dir, "long", "link")))
	must(os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600))
	must(os.WriteFile(filepath.Join(dir, "big"), bytes.Repeat([]byte("0123456789"), 50000), 0o644))
	must(os.Link(filepath.Join(dir, "big"), filepath.Join(dir, "hard")))
	must(os.Mkdir(filepath.Join(dir, "sticky"), 0o755))
	must(os.Chmod(filepath.Join(dir, "sticky"), 0o777|os.ModeSticky))
	f, err := os.Create(filepath.Join(dir, "sparse"))
	must(err)
	for i := range 40 {
		_, err = f.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, 4096), int64(i)<<17)
		must(err)
	}
	must(f.Truncate(8<<20 + 123))
	must(f.Close())
	must(os.Chtimes(filepath.Join(dir, "big"), time.Unix(1234567890, 123456789), time.Unix(1234567890, 123456789)))
	if os.Getuid() == 0 {
		must(os.WriteFile(filepath.Join(dir, "long-ids"), nil, 0o644))
		must(os.Chown(filepath.Join(dir, "long-ids"), 3000000, 4000000))
	}
}

func compareWithArchiveTar(t *testing.T, b []byte, c *collected) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(b))
	for _, f := range c.facts {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("archive/tar: %v at %q", err, f.Path)
		}
		path, _, err := CleanName(h.Name)
		if err != nil || path != f.Path {
			t.Fatalf("path = %q, archive/tar has %q", f.Path, h.Name)
		}
		if f.Kind == layer.Hardlink {
			if link, _, _ := CleanName(h.Linkname); link != f.Link {
				t.Errorf("%s links to %q, archive/tar has %q", f.Path, f.Link, h.Linkname)
			}
			continue
		}
		if h.Mode&0o7777 != int64(f.Mode) || h.Uid != int(f.UID) || h.Gid != int(f.GID) || !h.ModTime.Equal(time.Unix(f.Seconds, int64(f.Nanos))) {
			t.Errorf("fact %+v, archive/tar has %+v", f, h)
		}
		if f.Kind == layer.Symlink && h.Linkname != f.Link {
			t.Errorf("%s links to %q, archive/tar has %q", f.Path, f.Link, h.Linkname)
		}
		want, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := content(b, f); !bytes.Equal(got, want) {
			t.Errorf("%s has %d bytes, archive/tar reads %d others", f.Path, len(got), len(want))
		}
	}
	if h, err := r.Next(); err != io.EOF {
		t.Errorf("archive/tar has one more: %+v, %v", h, err)
	}
}

// content are the bytes that the extents of a fact make of the tar.
func content(b []byte, f layer.Fact) []byte {
	out := make([]byte, f.Size)
	for _, e := range f.Extents {
		copy(out[e.Logical:], b[e.Offset:e.Offset+e.Length])
	}
	return out
}
