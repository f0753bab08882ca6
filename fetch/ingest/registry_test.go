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

// TestRegistryMisbehaves has one misbehaviour in each row, named by attack.
func TestRegistryMisbehaves(t *testing.T) {
	big := func(w http.ResponseWriter, n int) {
		chunk := bytes.Repeat([]byte(" "), 64<<10)
		for ; n > 0; n -= len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}
	status := func(code int) func(*evilRegistry, http.ResponseWriter, *http.Request) bool {
		return func(_ *evilRegistry, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(code); return true }
	}
	manifest := func(body string) func(*evilRegistry, http.ResponseWriter, *http.Request) bool {
		return func(_ *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			if isManifest(r) {
				io.WriteString(w, body)
			}
			return isManifest(r)
		}
	}
	layerBody := func(send func(w http.ResponseWriter, b []byte)) func(*evilRegistry, http.ResponseWriter, *http.Request) bool {
		return func(e *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			if e.isLayer(r, 0) {
				send(w, bytes.Clone(e.image.blobs[e.image.layers[0]]))
				return true
			}
			return false
		}
	}
	tests := map[string]struct {
		do    func(*evilRegistry, http.ResponseWriter, *http.Request) bool
		code  wire.Code
		words string
	}{
		"not there":         {status(404), wire.CodeNotFound, "404"},
		"forbidden":         {status(403), wire.CodeDenied, "403"},
		"wants credentials": {status(401), wire.CodeDenied, "wants credentials"},
		"RG-01 lying digest header": {func(e *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			if isManifest(r) {
				w.Header().Set("Docker-Content-Digest", e.image.config)
				w.Write(e.image.blobs[e.image.manifest])
			}
			return isManifest(r)
		}, wire.CodeDigest, "says that manifest"},
		"RG-06 broken digest header": {func(e *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Docker-Content-Digest", "sha256:../../x")
			w.Write(e.image.blobs[e.image.manifest])
			return true
		}, wire.CodeDigest, "digest"},
		"RG-01 first byte": {layerBody(func(w http.ResponseWriter, b []byte) { w.Write(flip(b)) }), wire.CodeDigest, "got the digest"},
		"RG-18 last byte":  {layerBody(func(w http.ResponseWriter, b []byte) { w.Write(flipLast(b)) }), wire.CodeDigest, "got the digest"},
		"RG-02 longer": {layerBody(func(w http.ResponseWriter, b []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(b)+1))
			w.Write(append(b, 0))
		}), wire.CodeDigest, "want"},
		"RG-02 longer, chunked": {layerBody(func(w http.ResponseWriter, b []byte) { w.Write(b); w.(http.Flusher).Flush(); w.Write([]byte{0}) }), wire.CodeDigest, "more than"},
		"RG-02 endless": {layerBody(func(w http.ResponseWriter, b []byte) {
			w.(http.Flusher).Flush()
			for {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}), wire.CodeDigest, "more than"},
		"RG-02 shorter, chunked": {layerBody(func(w http.ResponseWriter, b []byte) { w.(http.Flusher).Flush(); w.Write(b[:len(b)-1]) }), wire.CodeDigest, "want"},
		"RG-02 empty":            {layerBody(func(w http.ResponseWriter, b []byte) {}), wire.CodeDigest, "0 bytes"},
		"RG-03 manifest 5 MB": {func(_ *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			big(w, 5<<20)
			return true
		}, wire.CodeTooLarge, "larger than"},
		"RG-03 endless manifest": {func(_ *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			w.(http.Flusher).Flush()
			big(w, 1<<30)
			return true
		}, wire.CodeTooLarge, "larger than"},
		"RG-03 giant header": {func(_ *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("X", strings.Repeat("x", 256<<10))
			return true
		}, wire.CodeNetwork, "header"},
		"RG-04 schema 1":          {manifest(`{"schemaVersion":1,"fsLayers":[]}`), wire.CodeType, "schema 1"},
		"RG-04 both":              {manifest(`{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}`), wire.CodeType, "both"},
		"RG-04 neither":           {manifest(`{"schemaVersion":2}`), wire.CodeType, "neither"},
		"RG-03 nested":            {manifest(strings.Repeat(`{"a":`, 100000)), wire.CodeType, "nested"},
		"RG-04 no JSON":           {manifest(`<html>`), wire.CodeType, "manifest"},
		"RG-05 index for nobody":  {manifest(`{"schemaVersion":2,"mediaType":"` + ociIndex + `","manifests":[{"mediaType":"` + ociManifest + `","digest":"sha256:` + strings.Repeat("0a", 32) + `","size":7,"platform":{"os":"plan9","architecture":"mips"}}]}`), wire.CodePlatform, "plan9/mips"},
		"RG-06 digest with slash": {manifest(`{"schemaVersion":2,"mediaType":"` + ociManifest + `","config":{"mediaType":"` + ociConfig + `","size":2,"digest":"sha256:../../../../etc/shadow"},"layers":[]}`), wire.CodeType, "digest"},
		"RG-04 announced as another": {func(e *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			if isManifest(r) {
				w.Header().Set("Content-Type", ociIndex)
				w.Write(e.image.blobs[e.image.manifest])
			}
			return isManifest(r)
		}, wire.CodeType, "announced as"},
		"RG-09 loop": {func(_ *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}, wire.CodeNetwork, "redirects"},
		"RG-09 to http": {func(_ *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", "http://"+r.Host+r.URL.Path)
			w.WriteHeader(307)
			return true
		}, wire.CodeNetwork, "from https to http"},
		"RG-09 to a file": {func(_ *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", "file:///etc/shadow")
			w.WriteHeader(307)
			return true
		}, wire.CodeNetwork, "redirects to"},
		"RG-09 with a user": {func(_ *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", "https://a:b@"+r.Host+"/")
			w.WriteHeader(307)
			return true
		}, wire.CodeNetwork, "user name"},
		"RG-09 to metadata": {func(_ *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", "https://169.254.169.254/latest")
			w.WriteHeader(307)
			return true
		}, wire.CodeNetwork, "169.254.169.254"},
		"RG-08 token server with http": {func(_ *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://127.0.0.1:1/token",service="x"`)
			w.WriteHeader(401)
			return true
		}, wire.CodeDenied, "not https"},
		"RG-08 401 for ever": {func(_ *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				io.WriteString(w, `{"token":"t"}`)
				return true
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+r.Host+`/token"`)
			w.WriteHeader(401)
			return true
		}, wire.CodeDenied, "401"},
		"RG-08 endless token": {func(_ *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				big(w, 100<<20)
				return true
			}
			w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+r.Host+`/token"`)
			w.WriteHeader(401)
			return true
		}, wire.CodeDenied, "more than"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var e *evilRegistry
			e = newEvilRegistry(t, smallImage(t), func(w http.ResponseWriter, r *http.Request) bool { return test.do(e, w, r) })
			r := serveAll(t, e.request(), nil)
			r.wantFailure(t, test.code, test.words)
		})
	}
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

func TestCredentials(t *testing.T) {
	image := smallImage(t)
	challenge := func(w http.ResponseWriter, text string) bool {
		w.Header().Set("WWW-Authenticate", text)
		w.WriteHeader(401)
		return true
	}
	basic := func(w http.ResponseWriter, r *http.Request) bool {
		if user, password, ok := r.BasicAuth(); !ok || user != "me" || password != "secret" {
			return challenge(w, `Basic realm="x"`)
		}
		return false
	}
	bearer := func(realm func(r *http.Request) string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				if r.FormValue("scope") != "repository:"+repository+":pull" || r.FormValue("service") != "reg" {
					w.WriteHeader(400)
				} else if _, password, _ := r.BasicAuth(); password == "secret" || r.FormValue("refresh_token") == "refresh" {
					io.WriteString(w, `{"access_token":"good"}`)
				} else {
					io.WriteString(w, `{"token":"anonymous"}`)
				}
				return true
			}
			if r.Header.Get("Authorization") != "Bearer good" {
				return challenge(w, `Bearer realm="`+realm(r)+`",service="reg",scope="repository:everything:push,pull"`)
			}
			return false
		}
	}
	own := func(r *http.Request) string { return "https://" + r.Host + "/token" }
	tests := map[string]struct {
		before func(http.ResponseWriter, *http.Request) bool
		change func(*wire.Endpoint)
		words  string // of the failure; "" = it succeeds
	}{
		"basic":                  {basic, func(e *wire.Endpoint) { e.User, e.Password = "me", "secret" }, ""},
		"basic, wrong":           {basic, func(e *wire.Endpoint) { e.User, e.Password = "me", "wrong" }, "does not accept the credentials"},
		"basic, none":            {basic, func(e *wire.Endpoint) {}, "wants credentials"},
		"RG-10 basic, no verify": {basic, func(e *wire.Endpoint) { e.User, e.Password, e.CAs, e.SkipTLSVerify = "me", "secret", "", true }, "not verified"},
		"token":                  {bearer(own), func(e *wire.Endpoint) { e.User, e.Password = "me", "secret" }, ""},
		"token, wrong":           {bearer(own), func(e *wire.Endpoint) { e.User, e.Password = "me", "wrong" }, "does not accept"},
		"token, anonymous":       {bearer(own), func(e *wire.Endpoint) {}, "wants credentials"},
		"identity token":         {bearer(own), func(e *wire.Endpoint) { e.IdentityToken = "refresh" }, ""},
		"registry token":         {bearer(own), func(e *wire.Endpoint) { e.RegistryToken = "good" }, ""},
		"two challenges": {func(w http.ResponseWriter, r *http.Request) bool {
			if basic(httptest.NewRecorder(), r) {
				return challenge(w, `Negotiate, Digest realm="a\"b", Basic realm="x"`)
			}
			return false
		}, func(e *wire.Endpoint) { e.User, e.Password = "me", "secret" }, ""},
		"realm with a user": {bearer(func(r *http.Request) string { return "https://a:b@" + r.Host + "/token" }), func(e *wire.Endpoint) {}, "user name"},
		"no realm":          {bearer(func(r *http.Request) string { return "" }), func(e *wire.Endpoint) {}, "token server"},
		"token is no token": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				io.WriteString(w, `{"token":"a\r\nX-Evil: b"}`)
				return true
			}
			return challenge(w, `Bearer realm="`+own(r)+`"`)
		}, func(e *wire.Endpoint) {}, "something else than a token"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := newEvilRegistry(t, image, test.before)
			request := e.request()
			test.change(&request.Source.Endpoints[0])
			r := serveAll(t, request, nil)
			if test.words != "" {
				r.wantFailure(t, wire.CodeDenied, test.words)
				if strings.Contains(r.last().Text, "secret") {
					t.Errorf("the failure tells the password: %q", r.last().Text)
				}
				return
			}
			r.wantImage(t, image)
		})
	}
}

// TestCredentialsStayHome: RG-08 and RG-09, another host never sees a secret.
func TestCredentialsStayHome(t *testing.T) {
	image := smallImage(t)
	for name, test := range map[string]struct {
		listed bool
		words  string
	}{
		"token server that is not listed": {false, "not configured to get the credentials"},
		"token server that is listed":     {true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			other := newEvilRegistry(t, image, func(w http.ResponseWriter, r *http.Request) bool {
				io.WriteString(w, `{"token":"good"}`)
				return true
			})
			otherHost := strings.Replace(other.host(), "127.0.0.1", "localhost", 1)
			e := newEvilRegistry(t, image, func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Authorization") == "Bearer good" {
					return false
				}
				w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+otherHost+`/token"`)
				w.WriteHeader(401)
				return true
			})
			request := e.request()
			end := &request.Source.Endpoints[0]
			end.User, end.Password = "me", "secret"
			end.SkipTLSVerify = false
			end.CAs = e.ca() + other.ca()
			if test.listed {
				end.TokenHosts = []string{otherHost}
			}
			r := serveAll(t, request, nil)
			if test.words != "" {
				r.wantFailure(t, wire.CodeDenied, test.words)
				if len(other.log) != 0 {
					t.Errorf("the other host was asked: %q", other.log)
				}
				return
			}
			// Its certificate is not for that name: nothing is sent to it.
			r.wantFailure(t, wire.CodeNetwork, "certificate")
		})
	}
	t.Run("redirect", func(t *testing.T) {
		other := newEvilRegistry(t, image, nil)
		e := newEvilRegistry(t, image, func(w http.ResponseWriter, r *http.Request) bool {
			if r.Header.Get("Authorization") == "" {
				w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
				w.WriteHeader(401)
				return true
			}
			if strings.Contains(r.URL.Path, "/blobs/") {
				http.Redirect(w, r, "https://"+other.host()+r.URL.Path, http.StatusTemporaryRedirect)
				return true
			}
			return false
		})
		request := e.request()
		end := &request.Source.Endpoints[0]
		end.User, end.Password, end.CAs = "me", "secret", e.ca()+other.ca()
		r := serveAll(t, request, nil)
		r.wantImage(t, image)
		if other.requests("/blobs/") == 0 || other.requests("Basic") != 0 {
			t.Errorf("requests to the other host = %q", other.log)
		}
	})
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
