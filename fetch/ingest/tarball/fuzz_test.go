package tarball

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"rkt/fetch/ingest/forge"
	"rkt/image/layer"
)

func BenchmarkScan(b *testing.B) {
	var entries []forge.Entry
	for i := range 1000 {
		entries = append(entries, forge.File(fmt.Sprintf("usr/lib/package/file%d", i), strings.Repeat("x", 17000)))
	}
	t := forge.Tar(entries...)
	b.SetBytes(int64(len(t)))
	b.ReportAllocs()
	for b.Loop() {
		s := NewScanner(layer.NewWriter(io.Discard))
		for rest := t; len(rest) > 0; {
			n := min(256<<10, len(rest))
			if _, err := s.Write(rest[:n]); err != nil {
				b.Fatal(err)
			}
			rest = rest[n:]
		}
		if _, err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzScanner(f *testing.F) {
	seed := func(b []byte) {
		f.Add(b, false)
		f.Add(b, true)
	}
	seed(forge.Tar(forge.Dir("d"), forge.File("d/f", "hello"), forge.Symlink("s", "d"), forge.Hardlink("h", "d/f")))
	seed(forge.Tar(forge.PAX("path", "long", "mtime", "1.5", "SCHILY.xattr.user.a", "b"), forge.File("x", "y")))
	seed(forge.Tar(forge.LongName("long"), forge.LongLink("link"), forge.Symlink("s", "x")))
	seed(forge.Tar(forge.PAX("GNU.sparse.size", "4096", "GNU.sparse.map", "0,512"), forge.File("f", strings.Repeat("x", 512))))
	seed(forge.Tar(forge.PAX("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "9"), forge.File("f", "0\n"+strings.Repeat("\x00", 510))))
	seed(sparseHeader(strings.Repeat("00000001000\x0000000000000\x00", 22), 0, 512))
	seed(forge.Tar(forge.File("etc/passwd", "root:x:0:0::/:/bin/sh\n"), forge.File("etc/group", "root:x:0:a,b\n"), forge.File(".wh.a", "")))
	f.Fuzz(func(t *testing.T, b []byte, sums bool) {
		if sums {
			b = withSums(b)
		}
		whole, err := scan(b, len(b)+1)
		pieces, err2 := scan(b, 37)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("scan = %v, in pieces %v", err, err2)
		}
		if err != nil {
			if !errors.Is(err, layer.ErrMalformed) {
				t.Fatalf("scan = %v, want ErrMalformed", err)
			}
			return
		}
		if !reflect.DeepEqual(whole, pieces) {
			t.Fatalf("scan = %+v, in pieces %+v", whole, pieces)
		}
		for _, fact := range whole.facts {
			for _, e := range fact.Extents {
				if e.Offset+e.Length > uint64(len(b)) || e.Offset%512 != 0 {
					t.Fatalf("extent %+v of %q is outside of a tar of %d bytes", e, fact.Path, len(b))
				}
			}
		}
	})
}

// withSums gives each block of b the checksum of a header, so that a fuzzer gets
// past it.
func withSums(b []byte) []byte {
	b = bytes.Clone(b)
	for at := 0; at+512 <= len(b); at += 512 {
		block := b[at : at+512]
		if block[257] != 'u' {
			continue
		}
		copy(block[148:156], "        ")
		sum := 0
		for _, c := range block {
			sum += int(c)
		}
		copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
	}
	return b
}
