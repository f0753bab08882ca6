package ingest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The ways in which tests damage a layout.

func replaceFile(name, text string) func(*testing.T, string, *testImage) {
	return func(t *testing.T, dir string, _ *testImage) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func removeFile(name string) func(*testing.T, string, *testImage) {
	return func(t *testing.T, dir string, _ *testImage) {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

func symlinkFile(name string) func(*testing.T, string, *testImage) {
	return func(t *testing.T, dir string, _ *testImage) {
		path := filepath.Join(dir, name)
		if err := os.Rename(path, path+".real"); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(name+".real", path); err != nil {
			t.Fatal(err)
		}
	}
}

func blobPath(dir, digest string) string {
	return filepath.Join(dir, "blobs", "sha256", digest[len("sha256:"):])
}

// linkBlob replaces the first layer by what link makes.
func linkBlob(link func(to, path string) error) func(*testing.T, string, *testImage) {
	return func(t *testing.T, dir string, i *testImage) {
		path := blobPath(dir, i.layers[0])
		if err := os.Rename(path, path+".real"); err != nil {
			t.Fatal(err)
		}
		if err := link(path+".real", path); err != nil {
			t.Fatal(err)
		}
	}
}

func mkfifo(path string) error { return unix.Mkfifo(path, 0o644) }

func changeBlob(which func(*testImage) string, change func([]byte) []byte) func(*testing.T, string, *testImage) {
	return func(t *testing.T, dir string, i *testImage) {
		d := which(i)
		if err := os.WriteFile(blobPath(dir, d), change(bytes.Clone(i.blobs[d])), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func flip(b []byte) []byte { b[0] ^= 1; return b }

func flipLast(b []byte) []byte { b[len(b)-1] ^= 1; return b }

// nestedIndex makes the layout lead through two indexes.
func nestedIndex(t *testing.T, dir string, i *testImage) {
	platform := object{"os": "linux", "architecture": "amd64"}
	d := descriptorOf(ociManifest, i.blobs[i.manifest])
	d["platform"] = platform
	inner := encodeJSON(t, object{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []object{d}})
	d = descriptorOf(ociIndex, inner)
	d["platform"] = platform
	outer := encodeJSON(t, object{"schemaVersion": 2, "mediaType": ociIndex, "manifests": []object{d}})
	for _, b := range [][]byte{inner, outer} {
		if err := os.WriteFile(blobPath(dir, digestOf(b)), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	replaceFile("index.json", string(encodeJSON(t, object{"schemaVersion": 2, "manifests": []object{descriptorOf(ociIndex, outer)}})))(t, dir, i)
}
