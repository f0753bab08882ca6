package tests

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// knows makes h trust the registry's certificate and have its account.
func (h *host) knows(r *registry) {
	h.t.Helper()
	h.config("registries.d/test.json", map[string]any{"host": r.addr, "ca": r.ca})
	h.config("auth.d/test.json", map[string]any{
		"rktKind": "dockerAuth", "rktVersion": "v1", "registries": []string{r.addr},
		"credentials": map[string]string{"user": registryUser, "password": registryPassword},
	})
}

// config writes a configuration file of h that only root can read.
func (h *host) config(name string, v any) {
	h.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		h.t.Fatal(err)
	}
	path := filepath.Join(h.conf, name)
	write(h.t, path, string(b))
	if err := os.Chmod(path, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func TestFetchFromARegistryWithTokens(t *testing.T) {
	h := newHost(t)
	r := newRegistry(t)
	ref := r.push("layers", "tests/layers")

	h.refuses([]string{"fetch", ref}, "trust add") // no rule, no terminal
	h.must("trust", "add", "--accept", r.addr+"/tests")
	h.refuses([]string{"fetch", ref}, "certificate")
	h.knows(r)
	id := h.must("fetch", ref)
	if !strings.HasPrefix(id, "sha256:") || len(id) != 71 || strings.Contains(id, "\n") {
		t.Errorf("fetch printed %q, want one image ID", id)
	}
	if again := h.must("fetch", "--pull-policy=never", ref); again != id {
		t.Errorf("never: %q", again)
	}
	if update := h.must("fetch", "--pull-policy=update", ref); update != id {
		t.Errorf("update: %q", update)
	}
	if got := h.must("run", "--rm", ref, "--", "cat", "/kept"); got != "replaced by the last layer" {
		t.Errorf("run: %q", got)
	}
	if !strings.Contains(h.must("image", "list"), "tests/layers") {
		t.Errorf("image list lacks the image")
	}
	h.refuses([]string{"fetch", r.addr + "/tests/absent:latest"}, "absent")
	h.refuses([]string{"fetch", "--pull-policy=never", r.addr + "/tests/absent:latest"}, "absent")
}

func TestFetchFromFilesOfEveryKind(t *testing.T) {
	h := newHost(t)
	source := layout(t, "layers")
	dir := t.TempDir()
	want := h.must("fetch", "oci:"+source)
	copies := map[string]string{
		"oci-archive:" + filepath.Join(dir, "oci.tar"):       "oci-archive:" + filepath.Join(dir, "oci.tar") + ":latest",
		"docker-archive:" + filepath.Join(dir, "docker.tar"): "docker-archive:" + filepath.Join(dir, "docker.tar") + ":tests/layers:latest",
	}
	for ref, target := range copies {
		if out, err := exec.Command("skopeo", "copy", "--insecure-policy", "oci:"+source+":latest", target).CombinedOutput(); err != nil {
			t.Fatalf("skopeo copy: %s", out)
		}
		if id := h.must("fetch", ref); id != want && !strings.HasPrefix(ref, "docker-archive:") {
			t.Errorf("%s: %s, want %s", ref, id, want)
		}
		_, path, _ := strings.Cut(ref, ":")
		if id := h.must("fetch", path); !strings.HasPrefix(id, "sha256:") {
			t.Errorf("%s as a path: %s", path, id)
		}
		r := h.rktWith(func(c *exec.Cmd) {
			f, err := os.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			c.Stdin = f
		}, "fetch", "-")
		if r.code != 0 || !strings.HasPrefix(r.stdout, "sha256:") {
			t.Errorf("%s on stdin: %d %q %q", path, r.code, r.stdout, r.stderr)
		}
	}
}

// breaking is a proxy in front of a plain-http registry that misbehaves.
type breaking struct {
	*httputil.ReverseProxy
	mu     sync.Mutex
	counts map[string]int
	edit   func(b *breaking, n int, w http.ResponseWriter, q *http.Request) bool // true = answered
}

func (b *breaking) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	b.mu.Lock()
	b.counts[q.Method+" "+q.URL.Path]++
	n := b.counts[q.Method+" "+q.URL.Path]
	b.mu.Unlock()
	if b.edit != nil && b.edit(b, n, w, q) {
		return
	}
	b.ReverseProxy.ServeHTTP(w, q)
}

// blobs counts the downloads of blobs.
func (b *breaking) blobs() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := map[string]int{}
	for k, n := range b.counts {
		if strings.HasPrefix(k, "GET ") && strings.Contains(k, "/blobs/") {
			m[k] = n
		}
	}
	return m
}

// plainRegistry serves the layout of a test image over http through a proxy.
func plainRegistry(t *testing.T, image string, edit func(*breaking, int, http.ResponseWriter, *http.Request) bool) (*breaking, string) {
	t.Helper()
	addr := freeAddress(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "config.yml")
	write(t, config, fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %q}\n", filepath.Join(dir, "data"), addr))
	cmd := exec.Command(program("tests/registry"), "serve", config)
	cmd.Env = []string{"OTEL_TRACES_EXPORTER=none"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	eventually(t, func() error {
		resp, err := http.Get("http://" + addr + "/v2/")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	if out, err := exec.Command("skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "oci:"+layout(t, image)+":latest", "docker://"+addr+"/i:latest").CombinedOutput(); err != nil {
		t.Fatalf("push: %s", out)
	}
	b := &breaking{ReverseProxy: httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr}), counts: map[string]int{}, edit: edit}
	front := freeAddress(t)
	server := &http.Server{Addr: front, Handler: b}
	go server.ListenAndServe()
	t.Cleanup(func() { server.Close() })
	eventually(t, func() error {
		resp, err := http.Get("http://" + front + "/v2/")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	return b, front + "/i:latest"
}

var anyImage = []string{"--insecure-options=image,http"}

func TestFetchNeedsAWordForPlainHTTP(t *testing.T) {
	h := newHost(t)
	_, ref := plainRegistry(t, "busybox", nil)
	h.refuses([]string{"--insecure-options=image", "fetch", ref}, "--insecure-options=http")
	h.must(append(anyImage, "fetch", ref)...)
}

func TestFetchGoesOnAfterBreaks(t *testing.T) {
	h := newHost(t)
	b, ref := plainRegistry(t, "nginx", func(b *breaking, n int, w http.ResponseWriter, q *http.Request) bool {
		if q.Method != http.MethodGet || !strings.Contains(q.URL.Path, "/blobs/") {
			return false
		}
		switch n {
		case 1: // the connection breaks in the middle
			rec := &cut{ResponseWriter: w, left: 200}
			b.ReverseProxy.ServeHTTP(rec, q)
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				c.Close()
			}
			return true
		case 2:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
			return true
		case 3:
			w.WriteHeader(http.StatusBadGateway)
			return true
		}
		return false
	})
	h.must(append(anyImage, "fetch", ref)...)
	for k, n := range b.blobs() {
		if n < 4 {
			t.Errorf("%s was asked for %d times; the breaks were not met", k, n)
		}
	}
	if got := h.must(append(anyImage, "run", "--rm", ref, "--exec=/bin/cat", "--", "/var/www/html/index.html")...); got != "served from a pod" {
		t.Errorf("got %q", got)
	}
}

// cut passes on so many bytes of a body, then breaks the connection.
type cut struct {
	http.ResponseWriter
	left int
}

func (c *cut) Write(p []byte) (int, error) {
	if len(p) > c.left {
		c.ResponseWriter.Write(p[:c.left])
		http.NewResponseController(c.ResponseWriter).Flush()
		c.left = 0
		return 0, io.ErrClosedPipe
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

func TestFetchTwiceAtOnceBringsEachBlobOnce(t *testing.T) {
	h := newHost(t)
	b, ref := plainRegistry(t, "nginx", nil)
	var all []*process
	for range 6 {
		all = append(all, h.start(append(anyImage, "fetch", ref)...))
	}
	first := all[0].line()
	for _, p := range all[1:] {
		if id := p.line(); id != first {
			t.Errorf("two fetches of one image gave %s and %s", first, id)
		}
	}
	for _, p := range all {
		if code := p.wait(); code != 0 {
			t.Errorf("exit code %d: %s", code, p.stderr)
		}
	}
	for k, n := range b.blobs() {
		if n != 1 {
			t.Errorf("%s was brought %d times", k, n)
		}
	}
}

// Bytes that are not what they should be never get into the store.
func TestFetchRefusesWrongBytes(t *testing.T) {
	blob := func(q *http.Request) bool {
		return q.Method == http.MethodGet && strings.Contains(q.URL.Path, "/blobs/")
	}
	for _, c := range []struct {
		name string
		edit func(*breaking, int, http.ResponseWriter, *http.Request) bool
		want string
	}{
		{"wrong digest", func(b *breaking, _ int, w http.ResponseWriter, q *http.Request) bool {
			if blob(q) {
				b.ReverseProxy.ServeHTTP(&flip{ResponseWriter: w}, q)
			}
			return blob(q)
		}, "digest"},
		{"endless body", func(_ *breaking, _ int, w http.ResponseWriter, q *http.Request) bool {
			if blob(q) {
				junk := make([]byte, 1<<16)
				for q.Context().Err() == nil {
					if _, err := w.Write(junk); err != nil {
						break
					}
				}
			}
			return blob(q)
		}, ""},
		{"no such blob", func(_ *breaking, _ int, w http.ResponseWriter, q *http.Request) bool {
			if blob(q) {
				w.WriteHeader(http.StatusNotFound)
			}
			return blob(q)
		}, "404 Not Found"},
		{"manifest of 5 MB", func(_ *breaking, _ int, w http.ResponseWriter, q *http.Request) bool {
			m := strings.Contains(q.URL.Path, "/manifests/")
			if m {
				w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
				io.WriteString(w, `{"schemaVersion":2,"x":"`+strings.Repeat("a", 5<<20)+`"}`)
			}
			return m
		}, "larger than"},
		{"unknown media type", func(_ *breaking, _ int, w http.ResponseWriter, q *http.Request) bool {
			m := strings.Contains(q.URL.Path, "/manifests/")
			if m {
				w.Header().Set("Content-Type", "application/x-unheard-of")
				io.WriteString(w, `{"schemaVersion":2,"mediaType":"application/x-unheard-of"}`)
			}
			return m
		}, "application/x-unheard-of"},
		{"digest with slashes", func(_ *breaking, _ int, w http.ResponseWriter, q *http.Request) bool {
			m := strings.Contains(q.URL.Path, "/manifests/")
			if m {
				w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
				io.WriteString(w, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:../../../../etc/passwd","size":2},"layers":[]}`)
			}
			return m
		}, "digest"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			_, ref := plainRegistry(t, "busybox", c.edit)
			h.refuses(append(anyImage, "fetch", ref), c.want)
			if left := h.must("image", "list", "--no-legend"); left != "" {
				t.Errorf("an image is listed: %s", left)
			}
			if blobs, _ := filepath.Glob(filepath.Join(h.data, "cas/blobs/sha256/*")); len(blobs) > 0 && c.name != "wrong digest" {
				t.Errorf("blobs are stored: %v", blobs)
			}
		})
	}
}

// flip changes the last byte of a body.
type flip struct{ http.ResponseWriter }

func (f *flip) Write(p []byte) (int, error) {
	q := append([]byte(nil), p...)
	q[len(q)-1] ^= 1
	return f.ResponseWriter.Write(q)
}

func TestFetchOnAFullDisk(t *testing.T) {
	h := newHost(t)
	disk := loopDisk(t, 24<<20)
	h.data = filepath.Join(disk, "data")
	r := h.refuses([]string{"fetch", "oci:" + layout(t, "redis")}, "space")
	if strings.Contains(r.stdout, "sha256:") {
		t.Errorf("an ID was printed: %s", r.stdout)
	}
	h.must("gc", "--images")
	h.must("fetch", "oci:"+layout(t, "busybox"))
	h.collect()
}

// loopDisk is an ext4 of its own of so many bytes, mounted for the test.
func loopDisk(t *testing.T, size int64) string {
	t.Helper()
	base, err := os.MkdirTemp("/var/tmp", "rkt-disk-")
	if err != nil {
		t.Fatal(err)
	}
	file, dir := filepath.Join(base, "file"), filepath.Join(base, "mnt")
	for _, argv := range [][]string{
		{"truncate", "-s", fmt.Sprint(size), file}, {"mkfs.ext4", "-q", file}, {"mkdir", dir}, {"mount", "-o", "loop", file, dir},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", argv, out)
		}
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
		os.RemoveAll(base)
	})
	return dir
}
