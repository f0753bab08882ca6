package erofs

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	goerofs "github.com/erofs/go-erofs"

	"rkt/image/layer"
)

var update = flag.Bool("update", false, "write the golden files")

// treeOf builds a tree from facts that claim a tar of that size.
func treeOf(t testing.TB, size uint64, facts ...*layer.Fact) *layer.Tree {
	t.Helper()
	var b bytes.Buffer
	w := layer.NewWriter(&b)
	for _, f := range facts {
		if err := w.Fact(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(layer.Summary{TarSize: size}); err != nil {
		t.Fatal(err)
	}
	tree, err := layer.Build(layer.NewReader(&b), size)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func tryWrite(t testing.TB, tree *layer.Tree, tar []byte) (*os.File, error) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "index"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, Write(t.Context(), f, tree, Tar{ReaderAt: bytes.NewReader(tar), Size: uint64(len(tar)), Digest: sha256.Sum256(tar)})
}

func mustWrite(t testing.TB, tree *layer.Tree, tar []byte) *os.File {
	t.Helper()
	f, err := tryWrite(t, tree, tar)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// pattern is a tar in which each byte tells where it is.
func pattern(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i>>9) ^ byte(i*7)
	}
	return b
}

// content is what the extents of a file say its bytes are.
func content(f *layer.Fact, tar []byte) []byte {
	b := make([]byte, f.Size)
	for _, e := range f.Extents {
		copy(b[e.Logical:e.Logical+e.Length], tar[e.Offset:])
	}
	return b
}

var sparseTar = pattern(64<<10 + 77)

// sparseFiles are files whose bytes are not simply one run of blocks.
var sparseFiles = []*layer.Fact{
	{Path: "plain", Kind: layer.Regular, Size: 1000, Extents: []layer.Extent{{Offset: 512, Length: 1000}}},
	{Path: "empty", Kind: layer.Regular},
	{Path: "all-hole", Kind: layer.Regular, Size: 5_000_000},
	{Path: "unaligned", Kind: layer.Regular, Size: 3000, Extents: []layer.Extent{{Offset: 513, Length: 3000}}},
	{Path: "in-the-cut-block", Kind: layer.Regular, Size: 50, Extents: []layer.Extent{{Offset: 64 << 10, Length: 50}}},
	{Path: "ends-in-the-cut-block", Kind: layer.Regular, Size: 10*512 + 77, Extents: []layer.Extent{{Offset: 64<<10 - 10*512, Length: 10*512 + 77}}},
	{Path: "hole-first", Kind: layer.Regular, Size: 8192, Extents: []layer.Extent{{Logical: 4096, Offset: 1024, Length: 4096}}},
	{Path: "hole-last", Kind: layer.Regular, Size: 10_000_000, Extents: []layer.Extent{{Offset: 1024, Length: 700}}},
	{Path: "holes", Kind: layer.Regular, Size: 9000, Extents: []layer.Extent{
		{Logical: 100, Offset: 2000, Length: 1}, {Logical: 512, Offset: 4096, Length: 512}, {Logical: 1024, Offset: 3000, Length: 2},
		{Logical: 1026, Offset: 3002, Length: 600}, {Logical: 5000, Offset: 9, Length: 4000}}},
	{Path: "joined", Kind: layer.Regular, Size: 2048, Extents: []layer.Extent{{Offset: 512, Length: 5}, {Logical: 5, Offset: 517, Length: 2043}}},
	{Path: "same-data", Kind: layer.Regular, Size: 512, Extents: []layer.Extent{{Offset: 512, Length: 512}}},
	{Path: "many", Kind: layer.Regular, Size: 3 << 20, Extents: manyExtents(500)},
}

func manyExtents(n int) (all []layer.Extent) {
	for i := range uint64(n) {
		all = append(all, layer.Extent{Logical: i * 6000, Offset: i * 100, Length: 90})
	}
	return all
}

// open gives the oracle the image and its tar.
func open(t testing.TB, f *os.File, tar []byte) fs.FS {
	t.Helper()
	image, err := goerofs.Open(f, goerofs.WithExtraDevices(bytes.NewReader(tar)))
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func TestSparseFiles(t *testing.T) {
	f := mustWrite(t, treeOf(t, uint64(len(sparseTar)), sparseFiles...), sparseTar)
	image := open(t, f, sparseTar)
	for _, fact := range sparseFiles {
		got, err := fs.ReadFile(image, fact.Path)
		if err != nil {
			t.Errorf("%s: %v", fact.Path, err)
		} else if !bytes.Equal(got, content(fact, sparseTar)) {
			t.Errorf("%s has wrong content", fact.Path)
		}
	}
	if st, err := f.Stat(); err != nil || st.Size() > 8<<20 {
		t.Errorf("index has %d bytes (%v)", st.Size(), err)
	}
}

// variety is a layer with everything in it.
func variety() (facts []*layer.Fact, tar []byte) {
	tar = pattern(1 << 20)
	x := func(name, value string) layer.Xattr { return layer.Xattr{Name: name, Value: []byte(value)} }
	facts = []*layer.Fact{
		{Path: ".", Kind: layer.Dir, Mode: 0o755, Seconds: 1700000000, Nanos: 5},
		{Path: "bin", Kind: layer.Dir, Mode: 0o1777, UID: 5, GID: 1 << 31, Seconds: -100, Nanos: 999999999},
		{Path: "bin/a", Kind: layer.Regular, Mode: 0o6755, Size: 5000, Extents: []layer.Extent{{Offset: 512, Length: 5000}},
			Xattrs: []layer.Xattr{x("security.capability", "\x01\x00\x00\x02"), x("user.same", "shared")}},
		{Path: "bin/b", Kind: layer.Regular, Xattrs: []layer.Xattr{x("user.same", "shared"), x("user.big", strings.Repeat("big", 130)), x("user.none", "")}},
		{Path: "bin/c", Kind: layer.Hardlink, Link: "bin/a"},
		{Path: "short", Kind: layer.Symlink, Mode: 0o777, Link: "bin/a", Xattrs: []layer.Xattr{x("user.dropped", "no symlink has it")}},
		{Path: "long", Kind: layer.Symlink, Mode: 0o777, Link: strings.Repeat("l/", 300)},
		{Path: "edge", Kind: layer.Symlink, Mode: 0o777, Link: strings.Repeat("e", 448)},
		{Path: "pipe", Kind: layer.Fifo, Mode: 0o600, Seconds: 1 << 40},
		{Path: "gone", Kind: layer.Whiteout},
		{Path: "bin/gone", Kind: layer.Whiteout},
		{Path: "new", Kind: layer.Dir, Mode: 0o755, Xattrs: []layer.Xattr{x("user.mine", "too")}},
		{Path: "new", Kind: layer.Opaque},
		{Path: "new2", Kind: layer.Opaque},
		{Path: "implied/in/here", Kind: layer.Dir, Mode: 0},
	}
	for i := range 400 {
		facts = append(facts, &layer.Fact{Path: fmt.Sprintf("many/%s%03d", strings.Repeat("x", i%252), i), Kind: layer.Regular, Size: uint64(i),
			Extents: []layer.Extent{{Offset: uint64(i) * 512, Length: uint64(i)}}[:min(i, 1)]})
	}
	return append(facts, &layer.Fact{Path: "sparse", Kind: layer.Regular, Size: 9000, Extents: []layer.Extent{{Logical: 4000, Offset: 7, Length: 2000}}}), tar
}

// The image of a layer is the same bytes for ever: pods of an older rkt use it.
func TestGolden(t *testing.T) {
	facts, tar := variety()
	f := mustWrite(t, treeOf(t, uint64(len(tar)), facts...), tar)
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	got := hex.EncodeToString(h.Sum(nil)) + "\n"
	golden := filepath.Join("testdata", "variety.sha256")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("image has the digest %swant %sa change of the format needs a new kind of derived data", got, want)
	}
}

// An independent reader of the format finds in the image what the tree has.
func TestOracle(t *testing.T) {
	facts, tar := variety()
	tree := treeOf(t, uint64(len(tar)), facts...)
	image := open(t, mustWrite(t, tree, tar), tar)
	seen := 0
	var check func(path string, n *layer.Inode)
	check = func(path string, n *layer.Inode) {
		seen++
		compare(t, image, path, n, tar)
		var names []string
		for _, e := range n.Entries {
			names = append(names, e.Name)
			check(strings.TrimPrefix(path+"/"+e.Name, "./"), e.Inode)
		}
		if n.Kind != layer.Dir {
			return
		}
		list, err := fs.ReadDir(image, path)
		if err != nil {
			t.Errorf("list %s: %v", path, err)
		}
		var got []string
		for _, e := range list {
			got = append(got, e.Name())
		}
		if slices.Sort(got); !slices.Equal(got, names) {
			t.Errorf("%s has %q, want %q", path, got, names)
		}
	}
	check(".", tree.Root)
	if seen < 400 {
		t.Errorf("compared %d names", seen)
	}
}

// lstater is what the oracle offers besides io/fs.
type lstater interface {
	Lstat(name string) (fs.FileInfo, error)
	ReadLink(name string) (string, error)
}

func compare(t *testing.T, image fs.FS, path string, n *layer.Inode, tar []byte) {
	t.Helper()
	reader := image.(lstater)
	info, err := reader.Lstat(path)
	if err != nil {
		t.Errorf("lstat %s: %v", path, err)
		return
	}
	st := info.Sys().(*goerofs.Stat)
	if st.UID != n.UID || st.GID != n.GID || uint32(st.Nlink) != n.Nlink || int64(st.Mtime) != n.Seconds || st.MtimeNs != n.Nanos {
		t.Errorf("%s: %+v, want %+v with %d links", path, st, n.Fact, n.Nlink)
	}
	want := map[string]string{}
	for _, x := range xattrsOf(n) {
		want[x.Name] = string(x.Value)
	}
	if fmt.Sprint(st.Xattrs) != fmt.Sprint(want) {
		t.Errorf("%s has the attributes %.200q, want %.200q", path, st.Xattrs, want)
	}
	switch n.Kind {
	case layer.Symlink:
		if link, err := reader.ReadLink(path); err != nil || link != n.Link {
			t.Errorf("%s leads to %q (%v), want %q", path, link, err, n.Link)
		}
	case layer.Regular:
		if b, err := fs.ReadFile(image, path); err != nil || !bytes.Equal(b, content(&n.Fact, tar)) {
			t.Errorf("%s has wrong content (%v)", path, err)
		}
	case layer.Whiteout:
		if info.Mode()&fs.ModeCharDevice == 0 || st.Rdev != 0 {
			t.Errorf("whiteout %s is %v with the device %d", path, info.Mode(), st.Rdev)
		}
	}
}

func TestWriteRefuses(t *testing.T) {
	tar := pattern(4096)
	all := layer.Extent{Offset: 1, Length: 4000}
	var copies []*layer.Fact
	for i := range 50 {
		copies = append(copies, &layer.Fact{Path: fmt.Sprint(i), Kind: layer.Regular, Size: 4000, Extents: []layer.Extent{all}})
	}
	var holes []*layer.Fact
	for i := range 5 {
		holes = append(holes, &layer.Fact{Path: fmt.Sprint(i), Kind: layer.Regular, Size: 1 << 40,
			Extents: []layer.Extent{{Logical: 1<<40 - 1, Length: 1}}})
	}
	padded := &layer.Fact{Path: "padded", Kind: layer.Regular, Size: 1 << 38}
	for i := range uint64(2000) {
		padded.Extents = append(padded.Extents, layer.Extent{Logical: i << 22, Offset: i, Length: 1})
	}
	tests := []struct {
		name  string
		facts []*layer.Fact
		want  error
	}{
		{"the same data copied again and again", copies, layer.ErrMalformed},
		{"sparse files in many chunks", holes, ErrTooLarge},
		{"one byte here and there", []*layer.Fact{padded}, ErrTooLarge},
		{"sparse file of a pebibyte", []*layer.Fact{{Path: "a", Kind: layer.Regular, Size: layer.MaxSize, Extents: []layer.Extent{{Length: 1}}}}, ErrTooLarge},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := tryWrite(t, treeOf(t, uint64(len(tar)), test.facts...), tar); !errors.Is(err, test.want) {
				t.Errorf("Write() = %v, want %v", err, test.want)
			}
		})
	}
	t.Run("tar of 2 TiB", func(t *testing.T) {
		f, err := os.Create(filepath.Join(t.TempDir(), "index"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		const size = 2 << 40
		if err := Write(t.Context(), f, treeOf(t, size), Tar{ReaderAt: bytes.NewReader(nil), Size: size}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("Write() = %v, want ErrTooLarge", err)
		}
	})
	t.Run("tar cut off while it is copied", func(t *testing.T) {
		tree := treeOf(t, 4096, copies[0])
		f, err := os.Create(filepath.Join(t.TempDir(), "index"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := Write(t.Context(), f, tree, Tar{ReaderAt: bytes.NewReader(tar[:100]), Size: 4096}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("Write() = %v, want ErrUnexpectedEOF", err)
		}
	})
}

func TestVerify(t *testing.T) {
	facts, tar := variety()
	f := mustWrite(t, treeOf(t, uint64(len(tar)), facts...), tar)
	digest := sha256.Sum256(tar)
	if err := Verify(t.Context(), f, digest); err != nil {
		t.Fatalf("Verify() = %v", err)
	}
	if err := Verify(t.Context(), f, sha256.Sum256(nil)); !errors.Is(err, ErrDamaged) {
		t.Errorf("Verify for another layer = %v, want ErrDamaged", err)
	}
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	for _, offset := range []int64{0, 20, superOffset, superOffset + 200, st.Size() / 2, st.Size() - 1} {
		flip(t, f, offset)
		if err := Verify(t.Context(), f, digest); !errors.Is(err, ErrDamaged) {
			t.Errorf("Verify with the byte %d changed = %v, want ErrDamaged", offset, err)
		}
		flip(t, f, offset)
	}
	if err := f.Truncate(700); err != nil {
		t.Fatal(err)
	}
	if err := Verify(t.Context(), f, digest); !errors.Is(err, ErrDamaged) {
		t.Errorf("Verify of a short file = %v, want ErrDamaged", err)
	}
}

func flip(t *testing.T, f *os.File, offset int64) {
	t.Helper()
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
}
