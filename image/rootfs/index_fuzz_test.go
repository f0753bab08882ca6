package rootfs

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"testing"

	"rkt/image/layer"
	"rkt/image/rootfs/erofs"
)

// maxFuzzTar bounds the tar of the fuzzer, in bytes.
const maxFuzzTar = 1 << 20

// Whatever facts a process that has read a hostile layer claims: they are
// refused, or there is an index of them that is sound, that a second writing
// equals byte by byte, and that any changed byte makes unsound; and accounts that
// come back.
func FuzzIndex(f *testing.F) {
	dir := f.TempDir()
	for i, content := range []string{"", "content", string(bytes.Repeat([]byte("x"), 5000))} {
		path := smallTar(f, dir, string(rune('a'+i)), content)
		tar, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(factsOf(f, path), tar)
	}
	f.Fuzz(func(t *testing.T, facts, tar []byte) {
		if len(tar) > maxFuzzTar {
			return
		}
		tree, err := layer.Build(layer.NewReader(bytes.NewReader(facts)), uint64(len(tar)))
		if err != nil {
			return
		}
		sum := sha256.Sum256(tar)
		first := filepath.Join(t.TempDir(), "index")
		if fuzzWrite(t, first, tree, tar, sum) != nil {
			return // no index can hold it
		}
		second := first + "2"
		if err := fuzzWrite(t, second, tree, tar, sum); err != nil {
			t.Fatalf("written once, but not twice: %v", err)
		}
		a, b := readFile(t, first), readFile(t, second)
		if !bytes.Equal(a, b) {
			t.Fatal("two indexes of one tree differ")
		}
		verify := func() error {
			index, err := os.Open(first)
			if err != nil {
				t.Fatal(err)
			}
			defer index.Close()
			return erofs.Verify(t.Context(), index, sum)
		}
		if err := verify(); err != nil {
			t.Fatalf("a fresh index is not sound: %v", err)
		}
		flip(t, first, int64(sum[0])*int64(len(a)-1)/255)
		if verify() == nil {
			t.Fatal("a changed index is sound")
		}
	})
}

func fuzzWrite(t *testing.T, path string, tree *layer.Tree, tar []byte, sum [32]byte) error {
	t.Helper()
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	return erofs.Write(t.Context(), out, tree, erofs.Tar{ReaderAt: bytes.NewReader(tar), Size: uint64(len(tar)), Digest: sum})
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
