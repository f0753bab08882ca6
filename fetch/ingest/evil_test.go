package ingest

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"rkt/fetch/wire"
)

// evilRegistry serves one image by the distribution protocol, and misbehaves
// where a test tells it to.
type evilRegistry struct {
	*httptest.Server
	image *testImage
	// before sees each request first; true means that it has answered.
	before func(w http.ResponseWriter, r *http.Request) bool

	mu  sync.Mutex
	log []string // METHOD PATH of each request, with range and authorization
}

const repository = "library/test"

// newEvilRegistry starts a registry with TLS, or plain http.
func newEvilRegistry(t testing.TB, i *testImage, before func(w http.ResponseWriter, r *http.Request) bool) *evilRegistry {
	t.Helper()
	e := &evilRegistry{image: i, before: before}
	e.Server = httptest.NewTLSServer(e)
	e.Config.ErrorLog = quiet()
	t.Cleanup(e.Close)
	return e
}

func (e *evilRegistry) host() string { return e.Listener.Addr().String() }

// ca is its certificate in PEM form.
func (e *evilRegistry) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.Certificate().Raw}))
}

func (e *evilRegistry) endpoint() wire.Endpoint {
	return wire.Endpoint{Host: e.host(), CAs: e.ca()}
}

// request asks for the image by its tag.
func (e *evilRegistry) request() wire.Request {
	return wire.Request{StallSeconds: 1, Source: wire.Source{Kind: wire.Registry, Repository: repository, Tag: "latest", Endpoints: []wire.Endpoint{e.endpoint()}}}
}

func (e *evilRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	e.log = append(e.log, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", r.Method, r.URL.Path, r.Header.Get("Range"), r.Header.Get("Authorization"))))
	e.mu.Unlock()
	if e.before != nil && e.before(w, r) {
		return
	}
	e.serve(w, r)
}

// serve answers as an honest registry does.
func (e *evilRegistry) serve(w http.ResponseWriter, r *http.Request) {
	rest, ok := strings.CutPrefix(r.URL.Path, "/v2/"+repository+"/")
	kind, name, _ := strings.Cut(rest, "/")
	if name == "latest" {
		name = e.image.manifest
	}
	b, found := e.image.blobs[name]
	if !ok || !found {
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprint(w, `{"errors":[{"code":"NOT_FOUND","message":"there is \u001b[31mnothing"}]}`)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if kind == "manifests" {
		w.Header().Set("Content-Type", mediaTypeOf(b))
		w.Header().Set("Docker-Content-Digest", name)
	}
	from := 0
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b)-1, len(b)))
		w.Header().Set("Content-Length", fmt.Sprint(len(b)-from))
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	}
	w.Write(b[from:])
}

func mediaTypeOf(b []byte) string {
	for _, t := range []string{ociIndex, ociManifest} {
		if strings.Contains(string(b), `"mediaType":"`+t+`"`) && !strings.Contains(string(b), `"manifests"`) || t == ociIndex && strings.Contains(string(b), `"manifests"`) {
			return t
		}
	}
	return "application/json"
}

// requests counts the requests that contain text.
func (e *evilRegistry) requests(text string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, line := range e.log {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// isLayer reports whether a request is for the n-th layer of the image.
func (e *evilRegistry) isLayer(r *http.Request, n int) bool {
	return strings.HasSuffix(r.URL.Path, "/blobs/"+e.image.layers[n])
}

func isManifest(r *http.Request) bool { return strings.Contains(r.URL.Path, "/manifests/") }

// hangUp ends the connection without an end of the answer.
func hangUp() { panic(http.ErrAbortHandler) }
