package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/image/layer"
)

// claim writes facts by hand.
func claim(t testing.TB, tarSize uint64, facts ...*layer.Fact) []byte {
	t.Helper()
	var b bytes.Buffer
	w := layer.NewWriter(&b)
	for _, f := range facts {
		if err := w.Fact(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(layer.Summary{TarSize: tarSize}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// writeTar writes bytes that serve as a tar.
func writeTar(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(scratch(t), "tar")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// eachMount calls fn with the mounted layer in all ways that use an index.
func eachMount(t *testing.T, tarPath string, facts []byte, fn func(t *testing.T, root string)) {
	t.Helper()
	indexPath := index(t, tarPath, facts)
	for _, driver := range []string{DriverErofs, DriverLoop} {
		for _, directIO := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,directio=%v", driver, directIO), func(t *testing.T) {
				fn(t, mounted(t, driver, directIO, tarPath, indexPath))
			})
		}
	}
}

// The kernel shows files that are not simply one run of blocks of the tar.
func TestKernelReadsSparseFiles(t *testing.T) {
	needRoot(t)
	tar := make([]byte, 64<<10+77)
	for i := range tar {
		tar[i] = byte(i>>9) ^ byte(i*7)
	}
	regular := func(path string, size uint64, extents ...layer.Extent) *layer.Fact {
		return &layer.Fact{Path: path, Kind: layer.Regular, Mode: 0o644, Size: size, Extents: extents}
	}
	var many []layer.Extent
	for i := range uint64(500) {
		many = append(many, layer.Extent{Logical: i * 6000, Offset: i * 100, Length: 90})
	}
	files := []*layer.Fact{
		regular("plain", 1000, layer.Extent{Offset: 512, Length: 1000}),
		regular("empty", 0),
		regular("hole", 5_000_000),
		regular("unaligned", 3000, layer.Extent{Offset: 513, Length: 3000}),
		regular("in-the-cut-block", 50, layer.Extent{Offset: 64 << 10, Length: 50}),
		regular("into-the-cut-block", 5197, layer.Extent{Offset: 64<<10 - 5120, Length: 5197}),
		regular("hole-first", 8192, layer.Extent{Logical: 4096, Offset: 1024, Length: 4096}),
		regular("hole-last", 10_000_000, layer.Extent{Offset: 1024, Length: 700}),
		regular("holes", 9000, layer.Extent{Logical: 100, Offset: 2000, Length: 1}, layer.Extent{Logical: 512, Offset: 4096, Length: 512},
			layer.Extent{Logical: 1024, Offset: 3000, Length: 2}, layer.Extent{Logical: 1026, Offset: 3002, Length: 600}, layer.Extent{Logical: 5000, Offset: 9, Length: 4000}),
		regular("many", 3<<20, many...),
	}
	eachMount(t, writeTar(t, tar), claim(t, uint64(len(tar)), files...), func(t *testing.T, root string) {
		for _, f := range files {
			want := make([]byte, f.Size)
			for _, e := range f.Extents {
				copy(want[e.Logical:e.Logical+e.Length], tar[e.Offset:])
			}
			got, err := os.ReadFile(filepath.Join(root, f.Path))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: wrong content (%v)", f.Path, err)
			}
		}
	})
}

// GNU tar's sparse files come out as they went in.
func TestKernelReadsGNUSparse(t *testing.T) {
	needRoot(t)
	dir := scratch(t)
	root := filepath.Join(dir, "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one", "two"} {
		f, err := os.Create(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			if _, err := f.WriteAt(bytes.Repeat([]byte(name), 1000+i), int64(i*i*100_000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(f.Truncate(60_000_000), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	stamp(t, root)
	tarPath := filepath.Join(dir, "layer.tar")
	run(t, "tar", "-C", root, "--format=posix", "--sparse", "--sparse-version=0.1", "-cf", tarPath, ".")
	want := describe(t, root)
	eachMount(t, tarPath, factsOf(t, tarPath), func(t *testing.T, root string) { sameTree(t, describe(t, root), want) })
}

func TestKernelReadsLargeXattrs(t *testing.T) {
	needRoot(t)
	const files = 5
	value := func(i, n int) []byte { return bytes.Repeat([]byte{byte(i)}, n) }
	var facts []*layer.Fact
	for i := range files {
		f := &layer.Fact{Path: fmt.Sprint(i), Kind: layer.Regular}
		for j := range layer.MaxXattrs {
			f.Xattrs = append(f.Xattrs, layer.Xattr{Name: fmt.Sprintf("user.%d", j), Value: value(j, (i*layer.MaxXattrs+j)*4096/(files*layer.MaxXattrs))})
		}
		facts = append(facts, f)
	}
	facts = append(facts, &layer.Fact{Path: "max", Kind: layer.Regular, Xattrs: []layer.Xattr{{Name: "user." + strings.Repeat("n", 250), Value: value(7, layer.MaxXattr)}}})
	eachMount(t, writeTar(t, make([]byte, 1024)), claim(t, 1024, facts...), func(t *testing.T, root string) {
		buf := make([]byte, layer.MaxXattr+1)
		for _, f := range facts {
			for _, x := range f.Xattrs {
				n, err := unix.Lgetxattr(filepath.Join(root, f.Path), x.Name, buf)
				if err != nil || !bytes.Equal(buf[:n], x.Value) {
					t.Fatalf("%s of %s: %d bytes, %v, want %d bytes", x.Name, f.Path, n, err, len(x.Value))
				}
			}
		}
	})
}

// One folder of 100,000 names, some as long as names can be.
func TestKernelListsLargeFolders(t *testing.T) {
	needRoot(t)
	const entries = 100_000
	var facts []*layer.Fact
	for i := range entries {
		facts = append(facts, &layer.Fact{Path: fmt.Sprintf("d/%0*d", 6+i%250, i), Kind: layer.Regular, Mode: 0o600, UID: uint32(i)})
	}
	eachMount(t, writeTar(t, make([]byte, 1024)), claim(t, 1024, facts...), func(t *testing.T, root string) {
		d, err := os.Open(filepath.Join(root, "d"))
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		names, err := d.Readdirnames(-1)
		if err != nil || len(names) != entries {
			t.Errorf("%d names, %v, want %d", len(names), err, entries)
		}
		for i := 0; i < entries; i += 997 {
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(root, facts[i].Path), &st); err != nil || st.Uid != uint32(i) {
				t.Fatalf("%s: owner %d, %v", facts[i].Path, st.Uid, err)
			}
		}
		if _, err := os.Lstat(filepath.Join(root, "d/no such name")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("lstat of a name that is not there = %v", err)
		}
	})
}

// Files of more than 4 GiB, behind as much.
func TestKernelReadsLargeFiles(t *testing.T) {
	needRoot(t)
	const size = 5 << 30
	path := filepath.Join(scratch(t), "tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(2*size + 1024); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("the end"), 2*size-7); err != nil {
		t.Fatal(err)
	}
	facts := claim(t, 2*size+1024, &layer.Fact{Path: "large", Kind: layer.Regular, Size: size, Extents: []layer.Extent{{Offset: size, Length: size}}})
	// The real digest of a file of holes takes long and means nothing here.
	tree, err := layer.Build(layer.NewReader(bytes.NewReader(facts)), 2*size+1024)
	if err != nil {
		t.Fatal(err)
	}
	indexPath := path + ".erofs"
	writeIndex(t, indexPath, tree, f, 2*size+1024, [32]byte{1})
	for _, driver := range []string{DriverErofs, DriverLoop} {
		t.Run(driver, func(t *testing.T) {
			large, err := os.Open(filepath.Join(mounted(t, driver, true, path, indexPath), "large"))
			if err != nil {
				t.Fatal(err)
			}
			defer large.Close()
			got := make([]byte, 10)
			if n, err := large.ReadAt(got, size-7); n != 7 || err != io.EOF || string(got[:n]) != "the end" {
				t.Errorf("end of the file = %q, %v", got[:n], err)
			}
		})
	}
}
