package ingest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"rkt/fetch/ingest/fault"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/internal/mutant"
)

// maxWindow is how far back the data of a zstd layer may refer, in bytes: what
// zstd(1) accepts without being asked. That much memory is needed to read it.
const maxWindow = 128 << 20

// usualWindow is the window of zstd -19 and of the Go encoder by default.
const usualWindow = 8 << 20

var (
	gzipMagic = []byte{0x1f, 0x8b}
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
	// skipMagic begins a frame of zstd without data, but for its first byte.
	skipMagic = []byte{0x2a, 0x4d, 0x18}
	// Packings that no media type of a layer stands for.
	otherMagic = map[string][]byte{
		"xz":    {0xfd, '7', 'z', 'X', 'Z', 0},
		"bzip2": {'B', 'Z', 'h'},
		"lz4":   {0x04, 0x22, 0x4d, 0x18},
	}
)

// packing tells by the first bytes how data is compressed.
func packing(magic []byte) (image.Compression, error) {
	switch {
	case bytes.HasPrefix(magic, gzipMagic):
		return image.Gzip, nil
	case bytes.HasPrefix(magic, zstdMagic),
		len(magic) >= 4 && magic[0]&0xf0 == 0x50 && bytes.Equal(magic[1:4], skipMagic):
		return image.Zstd, nil
	}
	for name, prefix := range otherMagic {
		if bytes.HasPrefix(magic, prefix) {
			return "", fault.New(wire.CodeType, "it is compressed with %s", name)
		}
	}
	return image.Plain, nil
}

// newDecoder returns a reader of what r holds. The packing that was promised and
// the one that the bytes show must agree: a decoder is never chosen by the
// bytes alone. memory is told how much the decoder is going to need.
func newDecoder(r *bufio.Reader, promised image.Compression, memory func(bytes int64) error) (io.ReadCloser, error) {
	magic, err := r.Peek(zstd.HeaderMaxSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	shown, err := packing(magic)
	if err != nil {
		return nil, err
	}
	if shown != promised && !mutant.On("anypacking") {
		return nil, fault.New(wire.CodeType, "its media type says %s, its bytes are %s", packingName(promised), packingName(shown))
	}
	switch shown {
	case image.Gzip:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, packed(err)
		}
		return z, nil
	case image.Zstd:
		return newZstd(r, magic, memory)
	}
	return io.NopCloser(r), nil
}

func newZstd(r io.Reader, magic []byte, memory func(bytes int64) error) (io.ReadCloser, error) {
	// A layer may be of many frames, and the first one says nothing about the
	// others: what encoders use unless they are told to is always allowed for.
	window := uint64(usualWindow)
	var head zstd.Header
	if err := head.Decode(magic); err == nil && !head.Skippable {
		window = max(window, head.WindowSize)
	}
	if window > maxWindow && !mutant.On("anywindow") {
		return nil, fault.New(wire.CodeTooLarge, "it needs %d MiB of memory to be decompressed, limit is %d", window>>20, maxWindow>>20)
	}
	if err := memory(int64(window)); err != nil {
		return nil, err
	}
	z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(window), zstd.WithDecoderMaxMemory(maxTars))
	if err != nil {
		return nil, packed(err)
	}
	return z.IOReadCloser(), nil
}

// packed says that compressed data is damaged.
func packed(err error) error { return fault.New(wire.CodeLayer, "decompress: %w", err) }

func packingName(c image.Compression) string {
	if c == image.Plain {
		return "uncompressed"
	}
	return fmt.Sprintf("compressed with %s", c)
}
