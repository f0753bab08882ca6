package ingest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"rkt/fetch/wire"
)

// misbehaviour answers a request and returns true, or leaves it to the registry.
type misbehaviour struct {
	do    answer
	code  wire.Code
	words string
}

type answer = func(*evilRegistry, http.ResponseWriter, *http.Request) bool

// misbehaviours are what a registry does to all or some requests, by attack, and
// how rkt-fetch refuses it.
var misbehaviours = map[string]misbehaviour{
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

// big writes n bytes.
func big(w http.ResponseWriter, n int) {
	chunk := bytes.Repeat([]byte(" "), 64<<10)
	for ; n > 0; n -= len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func status(code int) answer {
	return func(_ *evilRegistry, w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(code); return true }
}

func manifest(body string) answer {
	return func(_ *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
		if isManifest(r) {
			io.WriteString(w, body)
		}
		return isManifest(r)
	}
}

// layerBody answers requests for the first layer.
func layerBody(send func(w http.ResponseWriter, b []byte)) answer {
	return func(e *evilRegistry, w http.ResponseWriter, r *http.Request) bool {
		if e.isLayer(r, 0) {
			send(w, bytes.Clone(e.image.blobs[e.image.layers[0]]))
			return true
		}
		return false
	}
}

// TestRegistryMisbehaves has one misbehaviour in each row, named by attack.
func TestRegistryMisbehaves(t *testing.T) {
	for name, test := range misbehaviours {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var e *evilRegistry
			e = newEvilRegistry(t, smallImage(t), func(w http.ResponseWriter, r *http.Request) bool { return test.do(e, w, r) })
			r := serveAll(t, e.request(), nil)
			r.wantFailure(t, test.code, test.words)
		})
	}
}
