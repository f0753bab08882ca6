package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rkt/fetch"
	"rkt/fetch/confined"
	"rkt/fetch/ingest/forge"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/image/layer"
	"rkt/internal/mutant"
)

// program builds rkt-fetch.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rkt-fetch")
	cmd := exec.Command("go", append([]string{"build", "-o", path}, append(mutant.Tags(), ".")...)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v: %s", err, out)
	}
	return path
}

// run is one run of the program.
type run struct {
	dir      string
	messages []wire.Message
	err      error
	maxRSS   int64 // bytes, of the largest process
}

// start runs the program on a request as rkt does, and wants all layers.
func start(t *testing.T, program string, request wire.Request, source *os.File) (r run) {
	t.Helper()
	r = run{dir: t.TempDir()}
	spool, err := os.Open(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	request.Version = wire.Version
	s, err := confined.Start(t.Context(), confined.Options{Program: program, Demand: true}, spool, source, request)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for {
		m, err := s.Receive(time.Minute)
		r.maxRSS = max(r.maxRSS, largestChild(t)) // ten times a second, while there is progress
		if err != nil {
			r.err = err
			return r
		}
		r.messages = append(r.messages, m)
		switch m.Type {
		case wire.Done, wire.Failed:
			return r
		case wire.Resolved:
			b, err := os.ReadFile(filepath.Join(s.Folder().Name(), wire.ManifestFile))
			if err != nil {
				t.Fatal(err)
			}
			manifest, err := image.ParseManifest(b)
			if err != nil {
				t.Fatal(err)
			}
			var layers []confined.Layer
			for _, d := range manifest.Layers {
				packing, _ := d.Compression()
				layers = append(layers, confined.Layer{Want: true, Packing: string(packing)})
			}
			if err := s.Order(layers); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// largestChild is the most memory that a child of this process has ever had.
func largestChild(t *testing.T) int64 {
	t.Helper()
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil || len(lists) == 0 {
		t.Fatalf("no lists of children: %v", err)
	}
	var largest int64
	for _, list := range lists {
		b, _ := os.ReadFile(list) // of a thread that may have ended
		for _, pid := range strings.Fields(string(b)) {
			status, _ := os.ReadFile("/proc/" + pid + "/status")
			_, rest, _ := strings.Cut(string(status), "VmHWM:")
			var kib int64
			_, _ = fmt.Sscan(rest, &kib)
			largest = max(largest, kib<<10)
		}
	}
	return largest
}

func (r run) last() wire.Message {
	if len(r.messages) == 0 {
		return wire.Message{}
	}
	return r.messages[len(r.messages)-1]
}

func TestScanAndUnpack(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: unpacking makes files of other owners")
	}
	program := program(t)
	path := filepath.Join(t.TempDir(), "tar")
	tar := forge.Tar(forge.Dir("d"), forge.File("d/f", "hello"), forge.File(".wh.x", ""))
	if err := os.WriteFile(path, tar, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []wire.Mode{wire.Scan, wire.Unpack} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		dir, err := os.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		tars := fetch.Tars{Program: program, Demand: true}
		if mode == wire.Unpack {
			if err := tars.Unpack(t.Context(), f, dir); err != nil {
				t.Fatal(err)
			}
			if b, err := os.ReadFile(filepath.Join(dir.Name(), wire.UnpackDir, "d/f")); err != nil || string(b) != "hello" {
				t.Errorf("unpacked file = %q, %v", b, err)
			}
			continue
		}
		facts, err := tars.Scan(t.Context(), f, dir)
		if err != nil {
			t.Fatal(err)
		}
		defer facts.Close()
		tree, err := layer.Build(layer.NewReader(facts), uint64(len(tar)))
		if err != nil || len(tree.Inodes) != 4 {
			t.Errorf("facts: %+v, %v, want 4 inodes", tree, err)
		}
	}
}

func TestByHand(t *testing.T) {
	out, err := exec.Command(program(t)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "started by rkt") {
		t.Errorf("run by hand: %v, %q", err, out)
	}
}

// zeroLayer is a layer of one file of so many bytes of zeros, compressed: of
// many gzip members, so that it costs nothing to make.
type zeroLayer struct {
	head, middle, tail []byte
	times              int
	sum                hash.Hash
}

const zeroMember = 64 << 20

func newZeroLayer(t *testing.T, size int64) *zeroLayer {
	t.Helper()
	member := func(b []byte) []byte {
		var buf bytes.Buffer
		w := gzip.NewWriter(&buf)
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	z := &zeroLayer{times: int(size / zeroMember), sum: sha256.New()}
	z.head = member(forge.Open(forge.PAX("size", fmt.Sprint(size)), forge.File("zeros", "")))
	z.middle, z.tail = member(make([]byte, zeroMember)), member(make([]byte, 1024))
	if _, err := z.WriteTo(z.sum); err != nil {
		t.Fatal(err)
	}
	return z
}

func (z *zeroLayer) size() int64 {
	return int64(len(z.head) + z.times*len(z.middle) + len(z.tail))
}

func (z *zeroLayer) WriteTo(w io.Writer) (int64, error) {
	_, err := w.Write(z.head)
	for i := 0; i < z.times && err == nil; i++ {
		_, err = w.Write(z.middle)
	}
	if err == nil {
		_, err = w.Write(z.tail)
	}
	return z.size(), err
}

// TestHugeLayer: IM-12, a layer of 10 GB takes little memory, and one of zeros
// little disk.
func TestHugeLayer(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 10 s")
	}
	const size = 10 << 30
	z := newZeroLayer(t, size)
	type object = map[string]any
	encode := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	describe := func(mediaType string, b []byte) object {
		return object{"mediaType": mediaType, "digest": fmt.Sprintf("sha256:%x", sha256.Sum256(b)), "size": len(b)}
	}
	const oci = "application/vnd.oci.image."
	blob := fmt.Sprintf("sha256:%x", z.sum.Sum(nil))
	config := encode(object{"os": "linux", "architecture": "amd64", "rootfs": object{"type": "layers", "diff_ids": []string{blob}}})
	manifest := encode(object{"schemaVersion": 2, "mediaType": oci + "manifest.v1+json", "config": describe(oci+"config.v1+json", config),
		"layers": []object{{"mediaType": oci + "layer.v1.tar+gzip", "digest": blob, "size": z.size()}}})
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/manifests/big"):
			w.Write(manifest)
		case strings.HasSuffix(r.URL.Path, blob):
			z.WriteTo(w)
		default:
			w.Write(config)
		}
	}))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	r := start(t, program(t), wire.Request{Mode: wire.Fetch, Platform: wire.Platform{OS: "linux", Arch: "amd64"}, Source: wire.Source{
		Kind: wire.Registry, Repository: "big", Tag: "big", Endpoints: []wire.Endpoint{{Host: server.Listener.Addr().String(), CAs: string(ca)}},
	}}, nil)
	if r.err != nil || r.last().Type != wire.Done {
		t.Fatalf("rkt-fetch: %v, %+v", r.err, r.last())
	}
	info, err := os.Stat(filepath.Join(r.dir, fmt.Sprintf(wire.LayerTar, 0)))
	if err != nil || info.Size() < size {
		t.Fatalf("tar: %v, %v", info, err)
	}
	used := info.Sys().(*syscall.Stat_t).Blocks * 512
	t.Logf("%d MiB of memory, %d KiB of disk", r.maxRSS>>20, used>>10)
	if r.maxRSS == 0 || r.maxRSS > 64<<20 || used > 1<<20 {
		t.Errorf("it took %d MiB of memory and %d KiB of disk, want at most 64 MiB and 1 MiB", r.maxRSS>>20, used>>10)
	}
}

// TestDebianRegistry fetches from a registry that is not of our making.
func TestDebianRegistry(t *testing.T) {
	for _, name := range []string{"docker-registry", "skopeo"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s", name)
		}
	}
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {addr: %q}\n", dir, host)
	path := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	registry := exec.CommandContext(ctx, "docker-registry", "serve", path)
	if err := registry.Start(); err != nil {
		t.Fatal(err)
	}
	defer registry.Wait()
	defer cancel()
	waitFor(t, host)
	archive := filepath.Join(dir, "image.tar")
	if err := os.WriteFile(archive, dockerArchive(t), 0o600); err != nil {
		t.Fatal(err)
	}
	for tag, format := range map[string]string{"oci": "oci", "docker": "v2s2"} {
		out, err := exec.Command("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", "--format", format, "docker-archive:"+archive, "docker://"+host+"/team/app:"+tag).CombinedOutput()
		if err != nil {
			t.Fatalf("skopeo: %v: %s", err, out)
		}
		r := start(t, program(t), wire.Request{Mode: wire.Fetch, Platform: wire.Platform{OS: "linux", Arch: "amd64"}, Source: wire.Source{
			Kind: wire.Registry, Repository: "team/app", Tag: tag, Endpoints: []wire.Endpoint{{Host: host, HTTP: true}},
		}}, nil)
		if r.err != nil || r.last().Type != wire.Done {
			t.Fatalf("%s: %v, %+v", tag, r.err, r.last())
		}
		if b, err := os.ReadFile(filepath.Join(r.dir, fmt.Sprintf(wire.LayerTar, 0))); err != nil || !bytes.Equal(b, appTar()) {
			t.Errorf("%s: layer of %d bytes, %v", tag, len(b), err)
		}
	}
}

func waitFor(t *testing.T, host string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		resp, err := http.Get("http://" + host + "/v2/")
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("registry does not start: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func appTar() []byte {
	return forge.Tar(forge.Dir("bin"), forge.File("bin/app", strings.Repeat("app", 10000)))
}

func dockerArchive(t *testing.T) []byte {
	t.Helper()
	config := fmt.Sprintf(`{"os":"linux","architecture":"amd64","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%x"]}}`, sha256.Sum256(appTar()))
	name := fmt.Sprintf("%x.json", sha256.Sum256([]byte(config)))
	return forge.Tar(forge.File(name, config), forge.File("layer.tar", string(appTar())),
		forge.File("manifest.json", `[{"Config":"`+name+`","RepoTags":["app:1"],"Layers":["layer.tar"]}]`))
}
