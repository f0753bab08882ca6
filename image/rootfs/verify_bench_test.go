package rootfs

import (
	"archive/tar"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"rkt/cas"
)

// imageLayers and layerBytes make an image of 1 GB.
const (
	imageLayers = 8
	layerBytes  = 128 << 20
)

// The first start of an image of 1 GB after a boot hashes it: "x-sha256" is how
// many times as long that takes as SHA-256 of its layers on all processors. Both
// read from the page cache.
func BenchmarkFirstEnsureAfterBoot(b *testing.B) {
	h := newHost(b, "")
	l := h.layers(b)
	var layers []cas.Digest
	var paths []string
	for i := range imageLayers {
		d := h.derive(b, l, randomTar(b, h.dir, uint64(i)))
		layers = append(layers, d)
		paths = append(paths, filepath.Join(h.dir, "data/cas/blobs/sha256", d.Hex()))
	}
	b.SetBytes(imageLayers * layerBytes)
	var hashing, ensuring time.Duration
	for b.Loop() {
		b.StopTimer()
		hashAll(b, paths) // into the page cache
		begin := time.Now()
		hashAll(b, paths)
		hashing += time.Since(begin)
		if err := l.Release(b.Context(), func(cas.Digest) bool { return false }); err != nil {
			b.Fatal(err)
		}
		if err := os.RemoveAll(h.o.RunDir); err != nil { // as after a boot
			b.Fatal(err)
		}
		b.StartTimer()
		begin = time.Now()
		if _, err := l.Ensure(b.Context(), layers); err != nil {
			b.Fatal(err)
		}
		ensuring += time.Since(begin)
	}
	b.ReportMetric(ensuring.Seconds()/hashing.Seconds(), "x-sha256")
	b.ReportMetric(hashing.Seconds()*1000/float64(b.N), "ms-sha256")
}

// randomTar makes a tar with one file.
func randomTar(b *testing.B, dir string, seed uint64) string {
	b.Helper()
	path := filepath.Join(dir, "random.tar")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	if err := w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: layerBytes}); err != nil {
		b.Fatal(err)
	}
	if _, err := io.CopyN(w, rand.NewChaCha8([32]byte{byte(seed)}), layerBytes); err != nil {
		b.Fatal(err)
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

// hashAll hashes the files on all processors.
func hashAll(b *testing.B, paths []string) {
	b.Helper()
	var group errgroup.Group
	group.SetLimit(maxParallel())
	for _, path := range paths {
		group.Go(func() error {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.CopyBuffer(struct{ io.Writer }{sha256.New()}, struct{ io.Reader }{f}, make([]byte, 1<<20))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}
