package ingest

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rkt/fetch/ingest/forge"
	"rkt/fetch/wire"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

func TestRegistry(t *testing.T) {
	i := smallImage(t)
	e := newEvilRegistry(t, i, nil)
	r := serveAll(t, e.request(), nil)
	r.wantImage(t, i)
	if n := e.requests("/manifests/"); n != 1 {
		t.Errorf("RG-12: %d requests for manifests, want 1", n)
	}
	request := e.request()
	request.Source.Tag, request.Source.Digest = "", i.manifest
	r = serveAll(t, request, nil)
	r.wantImage(t, i)
}

// TestDownloadGoesOn: RG-11, trouble after which the image is whole all the same.
func TestDownloadGoesOn(t *testing.T) {
	image := newImage(t, []string{ociTar}, forge.Tar(forge.File("f", strings.Repeat("0123456789abcdef", 40000))))
	blob := image.blobs[image.layers[0]]
	half := len(blob) / 2
	rows := map[string]struct {
		times  int32 // how many requests for the layer meet it
		do     func(w http.ResponseWriter, r *http.Request)
		resume string // what a later request must ask for
	}{
		"500":    {2, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, ""},
		"502":    {1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, ""},
		"503":    {1, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, ""},
		"429":    {1, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "0"); w.WriteHeader(429) }, ""},
		"429 -5": {1, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "-5"); w.WriteHeader(429) }, ""},
		"429 odd": {1, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "soon")
			w.WriteHeader(429)
		}, ""},
		"429 date": {1, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
			w.WriteHeader(429)
		}, ""},
		"hangs up": {2, func(http.ResponseWriter, *http.Request) { hangUp() }, ""},
		"breaks in the middle": {1, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
			w.Write(blob[:half])
			w.(http.Flusher).Flush()
			hangUp()
		}, "bytes="},
		"stalls in the middle": {1, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
			w.Write(blob[:half])
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "bytes="},
		"answers nothing": {1, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, ""},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var met atomic.Int32
			var e *evilRegistry
			e = newEvilRegistry(t, image, func(w http.ResponseWriter, r *http.Request) bool {
				if !e.isLayer(r, 0) || met.Add(1) > row.times {
					return false
				}
				row.do(w, r)
				return true
			})
			r := serveAll(t, e.request(), nil)
			r.wantImage(t, image)
			if r.count(wire.Note) == 0 {
				t.Error("nobody was told")
			}
			if row.resume != "" && e.requests(row.resume) != 1 {
				t.Errorf("requests = %q, want one with %q", e.log, row.resume)
			}
		})
	}
}

// TestResume: RG-11, what a registry may do to a request for the rest of a blob.
func TestResume(t *testing.T) {
	image := newImage(t, []string{ociTar}, forge.Tar(forge.File("f", strings.Repeat("0123456789abcdef", 40000))))
	blob := image.blobs[image.layers[0]]
	half := len(blob) / 2
	tests := map[string]struct {
		again func(w http.ResponseWriter, from int)
		code  wire.Code // CodeOther = it succeeds
	}{
		"starts again with 200": {func(w http.ResponseWriter, _ int) { w.Write(blob) }, wire.CodeOther},
		"starts again with other bytes": {func(w http.ResponseWriter, _ int) {
			w.Write(flipLast(bytes.Clone(blob)))
		}, wire.CodeDigest},
		"206 of another range": {func(w http.ResponseWriter, from int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from-1, len(blob)-1, len(blob)))
			w.WriteHeader(206)
			w.Write(blob[from-1:])
		}, wire.CodeDigest},
		"206 of another size": {func(w http.ResponseWriter, from int) {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(blob), len(blob)+1))
			w.WriteHeader(206)
			w.Write(append(blob[from:], 0))
		}, wire.CodeDigest},
		"206 without a range": {func(w http.ResponseWriter, from int) {
			w.WriteHeader(206)
			w.Write(blob[from:])
		}, wire.CodeDigest},
		"416": {func(w http.ResponseWriter, _ int) { w.WriteHeader(416) }, wire.CodeDigest},
		"404": {func(w http.ResponseWriter, _ int) { w.WriteHeader(404) }, wire.CodeNotFound},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var e *evilRegistry
			e = newEvilRegistry(t, image, func(w http.ResponseWriter, r *http.Request) bool {
				from := 0
				if !e.isLayer(r, 0) {
					return false
				}
				if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
					test.again(w, from)
					return true
				}
				w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
				w.Write(blob[:half])
				w.(http.Flusher).Flush()
				hangUp()
				return true
			})
			r := serveAll(t, e.request(), nil)
			if test.code != wire.CodeOther {
				r.wantFailure(t, test.code, "layer 1 of 1")
				return
			}
			r.wantImage(t, image)
		})
	}
}

// TestGivesUp: RG-11, trouble that does not end is an error after a bounded time.
func TestGivesUp(t *testing.T) {
	image := newImage(t, []string{ociTar}, forge.Tar(forge.File("f", strings.Repeat("0123456789abcdef", 40000))))
	blob := image.blobs[image.layers[0]]
	rows := map[string]struct {
		do   func(w http.ResponseWriter, r *http.Request)
		code wire.Code
	}{
		"404 of a layer": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, wire.CodeNotFound},
		"drips": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
			for i := range blob {
				select {
				case <-r.Context().Done():
					return
				case <-time.After(100 * time.Millisecond):
				}
				w.Write(blob[i : i+1])
				w.(http.Flusher).Flush()
			}
		}, wire.CodeStall},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var e *evilRegistry
			e = newEvilRegistry(t, image, func(w http.ResponseWriter, r *http.Request) bool {
				if e.isLayer(r, 0) {
					row.do(w, r)
				}
				return e.isLayer(r, 0)
			})
			r := serveAll(t, e.request(), nil)
			r.wantFailure(t, row.code, "layer 1 of 1")
		})
	}
}

func TestTLS(t *testing.T) {
	image := smallImage(t)
	e := newEvilRegistry(t, image, nil)
	tests := map[string]struct {
		change func(*wire.Endpoint)
		code   wire.Code // CodeOther = it succeeds
	}{
		"RG-10 unknown authority": {func(e *wire.Endpoint) { e.CAs = "" }, wire.CodeNetwork},
		"RG-10 wrong name":        {func(e *wire.Endpoint) { e.Host = strings.Replace(e.Host, "127.0.0.1", "localhost", 1) }, wire.CodeNetwork},
		"RG-10 no verification":   {func(e *wire.Endpoint) { e.CAs, e.SkipTLSVerify = "", true }, wire.CodeOther},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			request := e.request()
			test.change(&request.Source.Endpoints[0])
			r := serveAll(t, request, nil)
			if test.code != wire.CodeOther {
				r.wantFailure(t, test.code, "x509")
				return
			}
			r.wantImage(t, image)
		})
	}
	t.Run("plain http", func(t *testing.T) {
		plain := httptest.NewServer(e)
		defer plain.Close()
		request := e.request()
		end := &request.Source.Endpoints[0]
		end.Host, end.CAs = plain.Listener.Addr().String(), ""
		r := serveAll(t, request, nil)
		r.wantFailure(t, wire.CodePlainHTTP, "http")
		end.HTTP = true
		r = serveAll(t, request, nil)
		r.wantImage(t, image)
	})
}

// Where nobody listens there is little to wait for, and nothing if there is
// somebody else to ask.
func TestConnectionsThatAreRefused(t *testing.T) {
	image := smallImage(t)
	nobody := newEvilRegistry(t, image, nil)
	refuses := nobody.endpoint()
	nobody.Close()

	e := newEvilRegistry(t, image, nil)
	request := e.request()
	request.Source.Endpoints = []wire.Endpoint{refuses}
	r := serveAll(t, request, nil)
	r.wantFailure(t, wire.CodeNetwork, "connection refused")
	if n := r.count(wire.Note); n != 3 {
		t.Errorf("%d notes, want 3 of trying again", n)
	}
	request.Source.Endpoints = []wire.Endpoint{refuses, e.endpoint()}
	r = serveAll(t, request, nil)
	r.wantImage(t, image)
	for _, m := range r.messages {
		if m.Type == wire.Note && strings.Contains(m.Text, "trying again") {
			t.Errorf("a mirror that refuses is tried again: %s", m.Text)
		}
	}
}

func TestMirrors(t *testing.T) {
	image := smallImage(t)
	tests := map[string]func(e *evilRegistry, w http.ResponseWriter, r *http.Request) bool{
		"has nothing": func(_ *evilRegistry, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(404); return true },
		"has no layers": func(_ *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			if isManifest(r) {
				return false
			}
			w.WriteHeader(404)
			return true
		},
		"has other bytes": func(e *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			if !e.isLayer(r, 1) {
				return false
			}
			w.Write(flip(bytes.Clone(e.image.blobs[e.image.layers[1]])))
			return true
		},
		"wants credentials": func(_ *evilRegistry, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(401); return true },
	}
	for name, do := range tests {
		t.Run(name, func(t *testing.T) {
			var mirror *evilRegistry
			mirror = newEvilRegistry(t, image, func(w http.ResponseWriter, r *http.Request) bool { return do(mirror, w, r) })
			e := newEvilRegistry(t, image, nil)
			request := e.request()
			request.Source.Endpoints[0].User, request.Source.Endpoints[0].Password = "me", "secret"
			request.Source.Endpoints = append([]wire.Endpoint{mirror.endpoint()}, request.Source.Endpoints...)
			r := serveAll(t, request, nil)
			r.wantImage(t, image)
			if r.count(wire.Note) == 0 || len(mirror.log) == 0 {
				t.Errorf("notes: %d, requests to the mirror: %q", r.count(wire.Note), mirror.log)
			}
			if mirror.requests("Basic") != 0 {
				t.Error("RG-17: the mirror has seen the registry's credentials")
			}
		})
	}
}
