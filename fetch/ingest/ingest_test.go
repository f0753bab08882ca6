package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"rkt/fetch/confined"
	"rkt/fetch/ingest/forge"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/image/layer"
)

// Media types of the images that the tests make.
const (
	ociIndex    = "application/vnd.oci.image.index.v1+json"
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociConfig   = "application/vnd.oci.image.config.v1+json"
	ociTar      = "application/vnd.oci.image.layer.v1.tar"
	ociGzip     = ociTar + "+gzip"
	ociZstd     = ociTar + "+zstd"
)

// testImage is an image in memory.
type testImage struct {
	tars     [][]byte // of the layers
	blobs    map[string][]byte
	layers   []string // digests
	config   string
	manifest string
}

func digestOf(b []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(b)) }

// object is a JSON object of a manifest.
type object = map[string]any

func descriptorOf(mediaType string, b []byte) object {
	return object{"mediaType": mediaType, "digest": digestOf(b), "size": len(b)}
}

// newImage makes an image of layer tars; types says how each is packed.
func newImage(t testing.TB, types []string, tars ...[]byte) *testImage {
	t.Helper()
	i := &testImage{tars: tars, blobs: map[string][]byte{}}
	var layers []object
	var diffs []string
	for n, tar := range tars {
		b := pack(t, types[n], tar)
		layers = append(layers, descriptorOf(types[n], b))
		i.layers = append(i.layers, i.add(b))
		diffs = append(diffs, digestOf(tar))
	}
	i.setConfig(t, diffs, layers)
	return i
}

// setConfig makes config and manifest.
func (i *testImage) setConfig(t testing.TB, diffs []string, layers []object) {
	config := encodeJSON(t, object{"os": "linux", "architecture": "amd64", "config": object{"Cmd": []string{"/bin/true"}}, "rootfs": object{"type": "layers", "diff_ids": diffs}})
	i.config = i.add(config)
	i.manifest = i.add(encodeJSON(t, object{"schemaVersion": 2, "mediaType": ociManifest, "config": descriptorOf(ociConfig, config), "layers": layers}))
}

func (i *testImage) add(b []byte) string {
	d := digestOf(b)
	i.blobs[d] = b
	return d
}

func encodeJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pack(t testing.TB, mediaType string, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser
	switch {
	case strings.HasSuffix(mediaType, "gzip"):
		w = gzip.NewWriter(&buf)
	case strings.HasSuffix(mediaType, "zstd"):
		z, err := zstd.NewWriter(&buf)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	default:
		return b
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// smallImage has a layer of each packing.
func smallImage(t testing.TB) *testImage {
	return newImage(t, []string{ociGzip, ociZstd, ociTar},
		forge.Tar(forge.Dir("etc"), forge.File("etc/passwd", "root:x:0:0::/root:\n"), forge.File("big", strings.Repeat("0123456789", 100000))),
		forge.Tar(forge.File("second", "2"), forge.File(".wh.big", "")),
		forge.Tar(forge.File("third", "3")))
}

// result is what one run of Serve left and said.
type result struct {
	dir      string
	messages []wire.Message
	err      error
}

// serveAll runs a request and wants all layers.
func serveAll(t testing.TB, request wire.Request, source *os.File) result {
	return serveRequest(t, request, source, func(n int) []bool {
		want := make([]bool, n)
		for i := range want {
			want[i] = true
		}
		return want
	})
}

// TestMain: the test binary is rkt-fetch too, when it is started under that name,
// so that every attack goes through the processes that it would go through.
func TestMain(m *testing.M) {
	if os.Args[0] == "rkt-fetch" {
		if err := Main(os.Args, Options{Pause: time.Millisecond}); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// serveRequest runs a request, confined as rkt does, and orders the layers that
// want says.
func serveRequest(t testing.TB, request wire.Request, source *os.File, want func(layers int) []bool) result {
	t.Helper()
	r := result{dir: t.TempDir()}
	spool, err := os.Open(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	request.Version = wire.Version
	if request.Mode == "" {
		request.Mode = wire.Fetch
	}
	if request.Platform.OS == "" {
		request.Platform = wire.Platform{OS: "linux", Arch: "amd64"}
	}
	s, err := confined.Start(context.Background(), confined.Options{Program: self, Demand: true}, spool, source, request)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		m, err := s.Receive(time.Minute)
		if err != nil {
			r.err = err
			return r
		}
		r.messages = append(r.messages, m)
		switch m.Type {
		case wire.Done:
			return r
		case wire.Failed:
			r.err = errors.New(m.Text)
			return r
		case wire.Resolved:
			if err := s.Order(r.layers(t, want)); err != nil {
				t.Fatalf("Order() = %v", err)
			}
		}
	}
}

// layers is the order.
func (r *result) layers(t testing.TB, want func(layers int) []bool) []confined.Layer {
	m, err := image.ParseManifest(r.file(t, wire.ManifestFile))
	if err != nil {
		t.Fatalf("manifest in the spool: %v", err)
	}
	var layers []confined.Layer
	for i, w := range want(len(m.Layers)) {
		packing, _ := m.Layers[min(i, len(m.Layers)-1)].Compression()
		layers = append(layers, confined.Layer{Want: w, Packing: string(packing)})
	}
	return layers
}

// path is where a file is: what the source makes has its own folder.
func (r *result) path(name string) string {
	path := filepath.Join(r.dir, name)
	if _, err := os.Stat(path); err != nil {
		path = filepath.Join(r.dir, "source", name)
	}
	return path
}

func (r *result) file(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(r.path(name))
	if err != nil {
		t.Errorf("read spool: %v", err)
	}
	return b
}

// last is the last message.
func (r *result) last() wire.Message {
	if len(r.messages) == 0 {
		return wire.Message{}
	}
	return r.messages[len(r.messages)-1]
}

// count counts the messages of a type.
func (r *result) count(typ wire.Type) int {
	n := 0
	for _, m := range r.messages {
		if m.Type == typ {
			n++
		}
	}
	return n
}

// wantImage checks that the spool has all of the image.
func (r *result) wantImage(t testing.TB, i *testImage) {
	t.Helper()
	if r.err != nil || r.last().Type != wire.Done {
		t.Fatalf("Serve() = %v, messages %+v", r.err, r.messages)
	}
	if got := r.file(t, wire.ConfigFile); digestOf(got) != i.config {
		t.Errorf("config = %s", got)
	}
	if n := r.count(wire.Layer); n != len(i.tars) {
		t.Errorf("%d layers were reported, want %d", n, len(i.tars))
	}
	for n, tar := range i.tars {
		if got := r.file(t, fmt.Sprintf(wire.LayerTar, n)); !bytes.Equal(got, tar) {
			t.Errorf("tar of layer %d has %d bytes, want the %d of the image", n, len(got), len(tar))
		}
		if _, err := layer.Build(layer.NewReader(bytes.NewReader(r.file(t, fmt.Sprintf(wire.LayerFacts, n)))), uint64(len(tar))); err != nil {
			t.Errorf("facts of layer %d: %v", n, err)
		}
	}
}

// wantFailure checks the code and the words of a refusal.
func (r *result) wantFailure(t testing.TB, code wire.Code, words string) {
	t.Helper()
	m := r.last()
	if r.err == nil || m.Type != wire.Failed || m.Code != code || !strings.Contains(m.Text, words) {
		t.Fatalf("Serve() = %v, last message %+v, want code %d with %q", r.err, m, code, words)
	}
	if r.count(wire.Done) != 0 {
		t.Error("it said Done as well")
	}
}
