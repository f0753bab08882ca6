package tests

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	// It signs, as cosign does, and imports nothing of the product either.
	"rkt/fetch/ingest/signature/signtest"
)

const (
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeBundle   = "application/vnd.dev.sigstore.bundle.v0.3+json"
	typeSimple   = "application/vnd.dev.cosign.simplesigning.v1+json"
	typeEmpty    = "application/vnd.oci.empty.v1+json"
)

// send sends a request to the registry with a token for the repository.
func (r *registry) send(method, repository, path, mediaType string, body []byte) *http.Response {
	r.t.Helper()
	pem, err := os.ReadFile(r.ca)
	if err != nil {
		r.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	do := func(token string, body []byte) *http.Response {
		target := path
		if !strings.HasPrefix(path, "https:") {
			target = "https://" + r.addr + "/v2/" + repository + "/" + path
		}
		q, err := http.NewRequest(method, target, bytes.NewReader(body))
		if err != nil {
			r.t.Fatal(err)
		}
		q.Header.Set("Content-Type", mediaType)
		q.Header.Set("Accept", typeManifest+", "+typeIndex)
		if token != "" {
			q.Header.Set("Authorization", "Bearer "+token)
		}
		resp, err := client.Do(q)
		if err != nil {
			r.t.Fatal(err)
		}
		return resp
	}
	// Without the body: the registry refuses before it has read it.
	resp := do("", nil)
	resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		r.t.Fatalf("%s %s without a token: %s", method, path, resp.Status)
	}
	return do(r.token(client, resp.Header.Get("WWW-Authenticate"), repository), body)
}

// token asks the server that a challenge names.
func (r *registry) token(client *http.Client, challenge, repository string) string {
	r.t.Helper()
	_, rest, _ := strings.Cut(challenge, `realm="`)
	realm, _, _ := strings.Cut(rest, `"`)
	q, err := http.NewRequest("GET", realm+"?service=registry&scope="+url.QueryEscape("repository:"+repository+":pull,push,delete"), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	q.SetBasicAuth(registryUser, registryPassword)
	resp, err := client.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Token string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		r.t.Fatal(err)
	}
	return answer.Token
}

// get reads a manifest.
func (r *registry) get(repository, reference string) []byte {
	r.t.Helper()
	resp := r.send("GET", repository, "manifests/"+reference, "", nil)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		r.t.Fatalf("get %s of %s: %s, %v", reference, repository, resp.Status, err)
	}
	return b
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// put stores a manifest under a tag or its digest.
func (r *registry) put(repository, reference, mediaType string, b []byte) {
	r.t.Helper()
	resp := r.send("PUT", repository, "manifests/"+reference, mediaType, b)
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusCreated {
		r.t.Fatalf("put %s of %s: %s: %s", reference, repository, resp.Status, text)
	}
}

// blob stores a blob and returns its descriptor.
func (r *registry) blob(repository, mediaType string, b []byte) map[string]any {
	r.t.Helper()
	resp := r.send("POST", repository, "blobs/uploads/", "", nil)
	resp.Body.Close()
	location := resp.Header.Get("Location")
	resp = r.send("PUT", repository, location+"&digest="+url.QueryEscape(digestOf(b)), "application/octet-stream", b)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		r.t.Fatalf("put a blob into %s: %s", repository, resp.Status)
	}
	return map[string]any{"mediaType": mediaType, "digest": digestOf(b), "size": len(b)}
}

func asJSON(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// attachSimple puts a signature under the tag where cosign kept them.
func (r *registry) attachSimple(repository, digest string, s signtest.Simple) {
	r.t.Helper()
	layer := r.blob(repository, typeSimple, s.Payload)
	layer["annotations"] = s.Annotations
	config := r.blob(repository, "application/vnd.oci.image.config.v1+json", []byte("{}"))
	r.put(repository, strings.Replace(digest, ":", "-", 1)+".sig", typeManifest, asJSON(r.t, map[string]any{
		"schemaVersion": 2, "mediaType": typeManifest, "config": config, "layers": []any{layer},
	}))
}

// attachBundle makes a bundle a referrer of the image, by the tag for registries
// that have no API for referrers.
func (r *registry) attachBundle(repository, digest string, size int, bundle []byte) {
	r.t.Helper()
	m := asJSON(r.t, map[string]any{
		"schemaVersion": 2, "mediaType": typeManifest, "artifactType": typeBundle,
		"config": r.blob(repository, typeEmpty, []byte("{}")), "layers": []any{r.blob(repository, typeBundle, bundle)},
		"subject": map[string]any{"mediaType": typeManifest, "digest": digest, "size": size},
	})
	r.put(repository, digestOf(m), typeManifest, m)
	r.put(repository, strings.Replace(digest, ":", "-", 1), typeIndex, asJSON(r.t, map[string]any{
		"schemaVersion": 2, "mediaType": typeIndex,
		"manifests": []any{map[string]any{"mediaType": typeManifest, "digest": digestOf(m), "size": len(m), "artifactType": typeBundle}},
	}))
}
