package ingest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rkt/fetch/wire"
)

// writeLayout writes the image as an OCI layout and opens it.
func writeLayout(t testing.TB, i *testImage, tag string) *os.File {
	t.Helper()
	dir := t.TempDir()
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		t.Fatal(err)
	}
	d := descriptorOf(ociManifest, i.blobs[i.manifest])
	if tag != "" {
		d["annotations"] = object{"org.opencontainers.image.ref.name": tag}
	}
	files := map[string][]byte{
		"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`),
		"index.json": encodeJSON(t, object{"schemaVersion": 2, "manifests": []object{d}}),
	}
	for digest, b := range i.blobs {
		files["blobs/sha256/"+digest[len("sha256:"):]] = b
	}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLayout(t *testing.T) {
	i := smallImage(t)
	for name, s := range map[string]wire.Source{
		"the only one": {},
		"by tag":       {Tag: "v1"},
		"by digest":    {Digest: i.manifest},
	} {
		t.Run(name, func(t *testing.T) {
			s.Kind = wire.Layout
			r := serveAll(t, wire.Request{Source: s, KeepBlob: name == "by tag"}, writeLayout(t, i, "v1"))
			r.wantImage(t, i)
			if name == "by tag" {
				for n, d := range i.layers {
					if got := r.file(t, fmt.Sprintf(wire.LayerBlob, n)); digestOf(got) != d {
						t.Errorf("kept blob %d has the digest %s, want %s", n, digestOf(got), d)
					}
				}
			}
		})
	}
}

func TestOrderLeavesLayersOut(t *testing.T) {
	r := serveRequest(t, wire.Request{Source: wire.Source{Kind: wire.Layout}}, writeLayout(t, smallImage(t), ""), func(int) []bool { return []bool{false, true, false} })
	if r.err != nil || r.count(wire.Layer) != 1 || r.last().Type != wire.Done {
		t.Fatalf("Serve() = %v, messages %+v", r.err, r.messages)
	}
	if _, err := os.Stat(filepath.Join(r.dir, fmt.Sprintf(wire.LayerTar, 0))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a layer that nobody wants: %v", err)
	}
}

func TestOrderForAnotherImage(t *testing.T) {
	r := serveRequest(t, wire.Request{Source: wire.Source{Kind: wire.Layout}}, writeLayout(t, smallImage(t), ""), func(int) []bool { return []bool{true} })
	r.wantFailure(t, wire.CodeOther, "order for 1 layers")
}

// TestLayoutRefuses: IM-17 and what a folder can have wrong.
func TestLayoutRefuses(t *testing.T) {
	tests := map[string]struct {
		change func(t *testing.T, dir string, i *testImage)
		source wire.Source
		code   wire.Code
		words  string
	}{
		"other version":           {replaceFile("oci-layout", `{"imageLayoutVersion":"2.0.0"}`), wire.Source{}, wire.CodeType, "version"},
		"not a layout":            {removeFile("oci-layout"), wire.Source{}, wire.CodeNotFound, "oci-layout"},
		"no index":                {removeFile("index.json"), wire.Source{}, wire.CodeNotFound, "index.json"},
		"index is no JSON":        {replaceFile("index.json", "x"), wire.Source{}, wire.CodeType, "index.json"},
		"index too large":         {replaceFile("index.json", strings.Repeat(" ", 5<<20)), wire.Source{}, wire.CodeTooLarge, "limit"},
		"nothing in it":           {replaceFile("index.json", `{"schemaVersion":2,"manifests":[]}`), wire.Source{}, wire.CodeNotFound, "0 images"},
		"unknown tag":             {nil, wire.Source{Tag: "v2"}, wire.CodeNotFound, `"v1"`},
		"unknown digest":          {nil, wire.Source{Digest: "sha256:" + strings.Repeat("0a", 32)}, wire.CodeNotFound, "not there"},
		"IM-17 symlink":           {linkBlob(os.Symlink), wire.Source{}, wire.CodeOther, "symbolic link"},
		"IM-17 fifo":              {linkBlob(func(_, path string) error { return mkfifo(path) }), wire.Source{}, wire.CodeType, "not a plain file"},
		"IM-17 symlinked index":   {symlinkFile("index.json"), wire.Source{}, wire.CodeOther, "symbolic link"},
		"RG-01 config changed":    {changeBlob(func(i *testImage) string { return i.config }, flip), wire.Source{}, wire.CodeDigest, "digest"},
		"RG-01 manifest changed":  {changeBlob(func(i *testImage) string { return i.manifest }, flip), wire.Source{}, wire.CodeDigest, "digest"},
		"RG-01 first byte":        {changeBlob(func(i *testImage) string { return i.layers[0] }, flip), wire.Source{}, wire.CodeDigest, "got the digest"},
		"RG-01 last byte":         {changeBlob(func(i *testImage) string { return i.layers[1] }, flipLast), wire.Source{}, wire.CodeDigest, "got the digest"},
		"RG-01 plain layer":       {changeBlob(func(i *testImage) string { return i.layers[2] }, flip), wire.Source{}, wire.CodeDigest, "got the digest"},
		"RG-02 appended":          {changeBlob(func(i *testImage) string { return i.layers[0] }, func(b []byte) []byte { return append(b, 0) }), wire.Source{}, wire.CodeDigest, "bytes"},
		"RG-02 truncated":         {changeBlob(func(i *testImage) string { return i.layers[0] }, func(b []byte) []byte { return b[:len(b)-1] }), wire.Source{}, wire.CodeDigest, "bytes"},
		"RG-02 layer is missing":  {changeBlob(func(i *testImage) string { return i.layers[0] }, func([]byte) []byte { return nil }), wire.Source{}, wire.CodeDigest, "layer 1 of 3"},
		"RG-06 digest upwards":    {replaceFile("index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"`+ociManifest+`","size":1,"digest":"sha256:../../../../etc/shadow"}]}`), wire.Source{}, wire.CodeType, "digest"},
		"RG-06 other algorithm":   {replaceFile("index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"`+ociManifest+`","size":1,"digest":"md5:00"}]}`), wire.Source{}, wire.CodeType, "digest"},
		"RG-05 index in an index": {nestedIndex, wire.Source{}, wire.CodeType, "index leads to"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			i := smallImage(t)
			f := writeLayout(t, i, "v1")
			if test.change != nil {
				test.change(t, f.Name(), i)
			}
			test.source.Kind = wire.Layout
			r := serveAll(t, wire.Request{Source: test.source}, f)
			r.wantFailure(t, test.code, test.words)
		})
	}
}
