package ingest

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"rkt/fetch/ingest/forge"
	"rkt/fetch/wire"
)

// gzipWith packs with a header that has an extra field and a name.
func gzipWith(t *testing.T, b []byte, extra, name int) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	w.Extra, w.Name = bytes.Repeat([]byte("e"), extra), strings.Repeat("n", name)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// zstdFrame is the header of a frame whose window has 2^log bytes, with one raw
// block of b.
func zstdFrame(log int, b []byte) []byte {
	frame := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00}, byte((log-10)<<3))
	frame = append(frame, byte(len(b)<<3|1), byte(len(b)>>5), byte(len(b)>>13)) // last, raw
	return append(frame, b...)
}

// TestPackings: IM-11, whatever is done to the compressed form of a layer, it is
// the tar that was meant, or refused. The digest is right each time.
func TestPackings(t *testing.T) {
	tar := forge.Tar(forge.File("f", strings.Repeat("0123456789", 10000)))
	small := forge.Tar(forge.File("f", "x"))
	gz, zs := pack(t, ociGzip, tar), pack(t, ociZstd, tar)
	half := len(tar) / 2 / 512 * 512
	skippable := append([]byte{0x5a, 0x2a, 0x4d, 0x18}, binary.LittleEndian.AppendUint32(nil, 5)...)
	skippable = append(skippable, "skip!"...)
	dictionary := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x01, byte(10 << 3), 7}, zs[6:]...)
	tests := map[string]struct {
		mediaType string
		packed    []byte
		tar       []byte // nil = refused
		words     string
	}{
		"members":                {ociGzip, append(pack(t, ociGzip, tar[:half]), pack(t, ociGzip, tar[half:])...), tar, ""},
		"empty member":           {ociGzip, append(pack(t, ociGzip, nil), gz...), tar, ""},
		"long header":            {ociGzip, gzipWith(t, tar, 65535, 500), tar, ""},
		"very long name":         {ociGzip, gzipWith(t, tar, 0, 70000), nil, "decompress"},
		"garbage behind":         {ociGzip, append(bytes.Clone(gz), "garbage"...), nil, "decompress"},
		"zeros behind":           {ociGzip, append(bytes.Clone(gz), make([]byte, 600)...), nil, "decompress"},
		"truncated":              {ociGzip, gz[:len(gz)-9], nil, "decompress"},
		"without trailer":        {ociGzip, gz[:len(gz)-4], nil, "decompress"},
		"wrong sum":              {ociGzip, flipAt(gz, len(gz)-8), nil, "decompress"},
		"wrong length":           {ociGzip, flipAt(gz, len(gz)-4), nil, "decompress"},
		"header only":            {ociGzip, gz[:10], nil, "decompress"},
		"gzip in gzip":           {ociGzip, pack(t, ociGzip, gz), nil, ""},
		"frames":                 {ociZstd, append(pack(t, ociZstd, tar[:half]), pack(t, ociZstd, tar[half:])...), tar, ""},
		"frame to be skipped":    {ociZstd, append(bytes.Clone(skippable), zs...), tar, ""},
		"skipped behind":         {ociZstd, append(bytes.Clone(zs), skippable...), tar, ""},
		"zstd truncated":         {ociZstd, zs[:len(zs)-5], nil, ""},
		"zstd garbage behind":    {ociZstd, append(bytes.Clone(zs), "garbage!!"...), nil, "decompress"},
		"dictionary":             {ociZstd, dictionary, nil, "decompress"},
		"window of 1 MiB":        {ociZstd, zstdFrame(20, small), small, ""},
		"window of 128 MiB":      {ociZstd, zstdFrame(27, small), small, ""},
		"window of 256 MiB":      {ociZstd, zstdFrame(28, small), nil, "limit is 128"},
		"window of 2 GiB":        {ociZstd, zstdFrame(31, small), nil, "limit is 128"},
		"gzip says zstd":         {ociZstd, gz, nil, "its bytes are compressed with gzip"},
		"zstd says gzip":         {ociGzip, zs, nil, "its bytes are compressed with zstd"},
		"plain says gzip":        {ociGzip, tar, nil, "its bytes are uncompressed"},
		"gzip says plain":        {ociTar, gz, nil, "its bytes are compressed with gzip"},
		"bzip2 says gzip":        {ociGzip, []byte("BZh91AY&SY"), nil, "bzip2"},
		"xz says gzip":           {ociGzip, []byte("\xfd7zXZ\x00 and so on"), nil, "xz"},
		"nothing":                {ociGzip, nil, nil, ""},
		"second frame is larger": {ociZstd, append(zstdFrame(20, small[:512]), zstdFrame(31, small[512:])...), nil, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := &testImage{tars: [][]byte{test.tar}, blobs: map[string][]byte{}}
			i.layers = []string{i.add(test.packed)}
			i.setConfig(t, []string{digestOf(test.tar)}, []object{descriptorOf(test.mediaType, test.packed)})
			r := serveAll(t, wire.Request{Source: wire.Source{Kind: wire.Layout}}, writeLayout(t, i, ""))
			if test.tar != nil {
				r.wantImage(t, i)
				return
			}
			m := r.last()
			if m.Type != wire.Failed || !strings.Contains(m.Text, test.words) || m.Code == wire.CodeOther {
				t.Errorf("got %+v, %v, want a failure with %q", m, r.err, test.words)
			}
		})
	}
}

func flipAt(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// TestBudgetOfALayer: IM-12, a layer that is larger than it may be ends there.
func TestBudgetOfALayer(t *testing.T) {
	dir := t.TempDir()
	var z bytes.Buffer
	w, err := zstd.NewWriter(&z)
	if err != nil {
		t.Fatal(err)
	}
	head := forge.Open(forge.PAX("size", fmt.Sprint(1<<34)), forge.File("zeros", ""))
	if _, err := w.Write(head); err != nil {
		t.Fatal(err)
	}
	for range 64 {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	packed := fileOf(t, z.Bytes())
	i := &inflater{packing: "", from: packed, budget: newBudget(32 << 20)}
	if i.tar, err = os.Create(filepath.Join(dir, "tar")); err != nil {
		t.Fatal(err)
	}
	if i.facts, err = os.Create(filepath.Join(dir, "facts")); err != nil {
		t.Fatal(err)
	}
	zr, err := zstd.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	defer zr.Close()
	i.plain = newStream(plainBuffers, plainSize)
	go func() {
		defer i.plain.end()
		for {
			buf, err := i.plain.empty(t.Context())
			if err != nil {
				return
			}
			n, err := fill(zr, buf)
			i.plain.send(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	if err := i.consume(); err == nil || !strings.Contains(err.Error(), "when decompressed") {
		t.Errorf("consume() = %v, want that it is too large", err)
	}
}

// TestFailuresLeakNothing: IM-15, a process that meets many bad images keeps
// neither files nor goroutines of them.
func TestFailuresLeakNothing(t *testing.T) {
	i := smallImage(t)
	changed := i.blobs[i.layers[0]]
	i.blobs[i.layers[0]] = flip(bytes.Clone(changed))
	layout := writeLayout(t, i, "")
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	before := 0
	for n := range 20 {
		r := serveAll(t, wire.Request{Source: wire.Source{Kind: wire.Layout}}, layout)
		r.wantFailure(t, wire.CodeDigest, "got the digest")
		if n == 4 {
			before = count()
		}
	}
	if after := count(); after > before+3 {
		t.Errorf("%d files are open after 20 failures, %d after 5", after, before)
	}
}
