package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"rkt/cas"
	"rkt/fetch/ingest/fault"
	"rkt/fetch/ingest/registry"
	"rkt/fetch/ingest/signature"
	"rkt/fetch/wire"
)

const typeIndex = "application/vnd.oci.image.index.v1+json"

// signatureRegistry has signatures of one image.
type signatureRegistry struct {
	t testing.TB
	*httptest.Server
	mu    sync.Mutex
	asked []string
	// answers by path, with the query if it matters; a func answers itself.
	answers map[string]func(w http.ResponseWriter)
}

func newSignatureRegistry(t testing.TB) *signatureRegistry {
	s := &signatureRegistry{t: t, answers: map[string]func(http.ResponseWriter){}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		path := strings.TrimPrefix(q.URL.Path, "/v2/team/app/")
		s.mu.Lock()
		s.asked = append(s.asked, path)
		answer := s.answers[path+"?"+q.URL.RawQuery]
		if answer == nil {
			answer = s.answers[path]
		}
		s.mu.Unlock()
		if answer == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		answer(w)
	}))
	t.Cleanup(s.Close)
	return s
}

func body(mediaType string, b []byte) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", mediaType)
		w.Write(b)
	}
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// bundle stores an artifact with a bundle about the image and returns the entry
// for a list of referrers.
func (s *signatureRegistry) bundle(subject cas.Digest, payload string) map[string]any {
	blob := []byte(payload)
	m := marshal(s.t, map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": bundleType,
		"layers":  []any{map[string]any{"mediaType": bundleType, "digest": cas.Of(blob).String(), "size": len(blob)}},
		"subject": map[string]any{"digest": subject.String()},
	})
	s.answers["blobs/"+cas.Of(blob).String()] = body("application/octet-stream", blob)
	s.answers["manifests/"+cas.Of(m).String()] = body("application/vnd.oci.image.manifest.v1+json", m)
	return map[string]any{"digest": cas.Of(m).String(), "size": len(m), "artifactType": bundleType}
}

func indexOf(t testing.TB, entries ...map[string]any) []byte {
	return marshal(t, map[string]any{"schemaVersion": 2, "mediaType": typeIndex, "manifests": entries})
}

// find looks for signatures of the digests at the registries, in order.
func find(t testing.TB, digests []cas.Digest, from ...*signatureRegistry) (signature.Set, error) {
	t.Helper()
	s := wire.Source{Kind: wire.Registry, Repository: "team/app", Tag: "latest"}
	for _, r := range from {
		s.Endpoints = append(s.Endpoints, wire.Endpoint{Host: strings.TrimPrefix(r.URL, "http://"), HTTP: true})
	}
	r, err := newRegistrySource(s, registry.Options{Pause: time.Millisecond}, &reporter{w: discard{}, gone: func(error) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return r.signatures(ctx, digests)
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

func payloads(s signature.Set) string {
	var list []string
	for _, i := range s.Items {
		list = append(list, string(i.Form)+":"+string(i.Payload))
	}
	return strings.Join(list, " ")
}

func TestSignaturesAreFoundInEveryPlace(t *testing.T) {
	s := newSignatureRegistry(t)
	manifest, index := cas.Of([]byte("manifest")), cas.Of([]byte("index"))
	s.answers["referrers/"+index.String()] = body(typeIndex, indexOf(t, s.bundle(index, "of the index")))
	other := s.bundle(manifest, "an attestation")
	other["annotations"] = map[string]string{annotationPredicate: "https://slsa.dev/provenance/v1"}
	foreign := s.bundle(manifest, "another artifact")
	foreign["artifactType"] = "application/sbom"
	s.answers["referrers/"+manifest.String()] = body(typeIndex, indexOf(t, other, foreign, s.bundle(manifest, "of the manifest")))
	payload := []byte("simple")
	s.answers["blobs/"+cas.Of(payload).String()] = body("", payload)
	s.answers["manifests/sha256-"+manifest.Hex()+".sig"] = body("application/vnd.oci.image.manifest.v1+json", marshal(t, map[string]any{
		"schemaVersion": 2, "layers": []any{map[string]any{
			"mediaType": simpleType, "digest": cas.Of(payload).String(), "size": len(payload),
			"annotations": map[string]string{"dev.cosignproject.cosign/signature": "c2ln", "other": "x"},
		}},
	}))
	set, err := find(t, []cas.Digest{index, manifest}, s)
	if err != nil || set.More {
		t.Fatalf("find() = %v, %v", set, err)
	}
	if got, want := payloads(set), "bundle:of the index bundle:of the manifest simplesigning:simple"; got != want {
		t.Errorf("found %s, want %s", got, want)
	}
	if a := set.Items[2].Annotations; len(a) != 1 {
		t.Errorf("annotations %v", a)
	}
	for _, path := range s.asked {
		if strings.HasPrefix(path, "manifests/sha256-") && !strings.HasSuffix(path, ".sig") {
			t.Errorf("asked for the tag %s although there is the API", path)
		}
	}
}

// The tag for referrers is asked for where there is no API, and only there.
func TestReferrersByTag(t *testing.T) {
	d := cas.Of([]byte("manifest"))
	s := newSignatureRegistry(t)
	s.answers["manifests/sha256-"+d.Hex()] = body(typeIndex, indexOf(t, s.bundle(d, "by tag")))
	set, err := find(t, []cas.Digest{d}, s)
	if err != nil || payloads(set) != "bundle:by tag" {
		t.Errorf("find() = %s, %v", payloads(set), err)
	}
	for name, answer := range map[string]func(http.ResponseWriter){
		"server error": func(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) },
		"denied":       func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) },
		"bad request":  func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadRequest) },
		"other type":   body("text/html", []byte("<html>")),
		"no index":     body(typeIndex, []byte("{}")),
		"two lists":    body(typeIndex, []byte(`{"manifests":[],"manifests":[]}`)),
		"huge":         body(typeIndex, make([]byte, 5<<20)),
	} {
		t.Run(name, func(t *testing.T) {
			s.answers["referrers/"+d.String()] = answer
			if set, err := find(t, []cas.Digest{d}, s); err == nil {
				t.Errorf("find() = %s", payloads(set))
			}
		})
	}
	// An empty list is an answer.
	s.answers["referrers/"+d.String()] = body(typeIndex, indexOf(t))
	if set, err := find(t, []cas.Digest{d}, s); err != nil || len(set.Items) != 0 {
		t.Errorf("find() = %s, %v", payloads(set), err)
	}
}

// SG-04: a list without end ends.
func TestEndlessSignatures(t *testing.T) {
	d := cas.Of([]byte("manifest"))
	s := newSignatureRegistry(t)
	entry := s.bundle(d, "again")
	var many []map[string]any
	for range 500 {
		many = append(many, entry)
	}
	page := indexOf(t, many...)
	s.answers["referrers/"+d.String()] = func(w http.ResponseWriter) {
		w.Header().Set("Link", fmt.Sprintf(`</v2/team/app/referrers/%s?page=next>; rel="next"`, d))
		body(typeIndex, page)(w)
	}
	set, err := find(t, []cas.Digest{d}, s)
	if err != nil || len(set.Items) != signature.MaxItems || !set.More {
		t.Errorf("find() = %d items, more %v, %v", len(set.Items), set.More, err)
	}
	if len(s.asked) > 50+2*signature.MaxItems {
		t.Errorf("%d requests", len(s.asked))
	}
	// One after the other, on pages.
	s.answers["referrers/"+d.String()] = func(w http.ResponseWriter) {
		w.Header().Set("Link", fmt.Sprintf(`</v2/team/app/referrers/%s?page=2>; rel="next"`, d))
		body(typeIndex, indexOf(t, s.bundle(d, "first")))(w)
	}
	s.answers["referrers/"+d.String()+"?page=2"] = body(typeIndex, indexOf(t, s.bundle(d, "second")))
	if set, err := find(t, []cas.Digest{d}, s); err != nil || payloads(set) != "bundle:first bundle:second" {
		t.Errorf("find() = %s, %v", payloads(set), err)
	}
	for _, link := range []string{"http://other.example/v2/team/app/referrers/x", "/v2/other/referrers/x", "/v2/team/app/blobs/x"} {
		s.answers["referrers/"+d.String()] = func(w http.ResponseWriter) {
			w.Header().Set("Link", "<"+link+`>; rel="next"`)
			body(typeIndex, indexOf(t))(w)
		}
		if _, err := find(t, []cas.Digest{d}, s); fault.Code(err) != wire.CodeNetwork {
			t.Errorf("next page %s: %v", link, err)
		}
	}
}

// One signature that cannot be read does not hide the others; bytes that are not
// those that were named are an error.
func TestDamagedSignatures(t *testing.T) {
	d := cas.Of([]byte("manifest"))
	for name, c := range map[string]struct {
		spoil func(s *signatureRegistry, entry map[string]any)
		fails bool
	}{
		"about another image": {func(s *signatureRegistry, e map[string]any) {
			e["digest"] = s.bundle(cas.Of([]byte("other")), "x")["digest"]
		}, false},
		"no manifest": {func(s *signatureRegistry, e map[string]any) {
			b := []byte("text")
			e["digest"] = cas.Of(b).String()
			s.answers["manifests/"+cas.Of(b).String()] = body("", b)
		}, false},
		"huge blob": {func(s *signatureRegistry, e map[string]any) {
			m := marshal(t, map[string]any{"layers": []any{map[string]any{"mediaType": bundleType, "digest": d.String(), "size": 1 << 40}}, "subject": map[string]any{"digest": d.String()}})
			e["digest"] = cas.Of(m).String()
			s.answers["manifests/"+cas.Of(m).String()] = body("", m)
		}, false},
		"other manifest": {func(s *signatureRegistry, e map[string]any) {
			s.answers["manifests/"+e["digest"].(string)] = body("", []byte("{}"))
		}, true},
		"other blob": {func(s *signatureRegistry, e map[string]any) {
			s.answers["blobs/"+cas.Of([]byte("bad")).String()] = body("", []byte("dab"))
		}, true},
		"lost blob": {func(s *signatureRegistry, e map[string]any) {
			delete(s.answers, "blobs/"+cas.Of([]byte("bad")).String())
		}, false},
		"lost manifest": {func(s *signatureRegistry, e map[string]any) {
			delete(s.answers, "manifests/"+e["digest"].(string))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSignatureRegistry(t)
			entry := s.bundle(d, "bad")
			c.spoil(s, entry)
			s.answers["referrers/"+d.String()] = body(typeIndex, indexOf(t, entry, s.bundle(d, "good")))
			set, err := find(t, []cas.Digest{d}, s)
			if (err != nil) != c.fails || !c.fails && !strings.Contains(payloads(set), "bundle:good") {
				t.Errorf("find() = %s, %v", payloads(set), err)
			}
		})
	}
}

// SG-13: nobody but the image's own endpoints is asked, mirrors first; one without
// signatures, or that is broken, does not hide those of the next.
func TestSignaturesBehindAMirror(t *testing.T) {
	d := cas.Of([]byte("manifest"))
	mirror, origin := newSignatureRegistry(t), newSignatureRegistry(t)
	origin.answers["referrers/"+d.String()] = body(typeIndex, indexOf(t, origin.bundle(d, "of the origin")))
	if set, err := find(t, []cas.Digest{d}, mirror, origin); err != nil || payloads(set) != "bundle:of the origin" {
		t.Errorf("find() = %s, %v", payloads(set), err)
	}
	mirror.answers["referrers/"+d.String()] = func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }
	if set, err := find(t, []cas.Digest{d}, mirror, origin); err != nil || payloads(set) != "bundle:of the origin" {
		t.Errorf("find() = %s, %v", payloads(set), err)
	}
	if _, err := find(t, []cas.Digest{d}, origin, mirror); err != nil {
		t.Errorf("find() at the other way around = %v", err)
	}
	if _, err := find(t, []cas.Digest{d}, mirror); fault.Code(err) != wire.CodeDenied {
		t.Errorf("find() at a broken one alone = %v", err)
	}
}
