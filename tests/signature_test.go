package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"rkt/fetch/ingest/signature/signtest"
)

// signedHost is a host that knows the registry, with a file of a key.
func signedHost(t *testing.T) (h *host, r *registry, key *signtest.Key, file string) {
	h, r, key = newHost(t), newRegistry(t), signtest.NewKey(t, "ecdsa")
	h.knows(r)
	file = filepath.Join(t.TempDir(), "release.pub")
	write(t, file, string(key.PEM()))
	return h, r, key, file
}

// A key is trusted, signs, is removed, and comes back; what is in the store is
// verified again each time, without the registry.
func TestImagesSignedByAKey(t *testing.T) {
	h, r, key, file := signedHost(t)
	ref := r.push("layers", "team/app")
	prefix := r.addr + "/team"
	digest := digestOf(r.get("team/app", "latest"))

	h.refuses([]string{"fetch", ref}, "no rule is about it", "rkt trust add --accept")
	h.refuses([]string{"trust", "add", "--key=" + file, prefix}, "--yes") // nobody sees the fingerprint
	added := h.rkt("trust", "add", "--yes", "--key="+file, prefix)
	if added.code != 0 || !strings.Contains(strings.ReplaceAll(added.stderr, " ", ""), key.Fingerprint()) || !strings.Contains(added.stderr, "ECDSA P-256") {
		t.Fatalf("trust add: %+v", added)
	}
	h.refuses([]string{"fetch", ref}, "it is not signed", prefix, "trust.d", "rkt trust add --accept "+r.addr+"/team/app")
	h.refuses([]string{"run", ref}, "it is not signed")
	if images := h.must("image", "list", "--no-legend"); images != "" {
		t.Errorf("a refused image is in the store: %s", images)
	}

	r.attachSimple("team/app", digest, signtest.NewKey(t, "ecdsa").Simple(digest, r.addr+"/team/app"))
	h.refuses([]string{"fetch", ref}, "its signature is not accepted")
	r.attachSimple("team/app", digest, key.Simple(digest, r.addr+"/team/app"))
	h.must("fetch", ref)
	if got := h.must("run", "--rm", ref, "--", "cat", "/kept"); got != "replaced by the last layer" {
		t.Errorf("run: %q", got)
	}
	h.showsSigner(ref, "key "+key.Fingerprint(), prefix)

	// Removed: nothing of it starts any more, by whatever name.
	h.must("trust", "rm", "--key="+key.Fingerprint()[:12], prefix)
	id := h.must("image", "list", "--no-legend", "--full", "--fields=id")
	for _, args := range [][]string{{"run", "--rm", ref}, {"run", "--rm", id}, {"prepare", ref}, {"fetch", ref}, {"trust", "check", ref}} {
		h.refuses(args, `"`+prefix+`"`, "no key and no identity", "rkt trust add --key=FILE "+prefix)
	}
	other := filepath.Join(t.TempDir(), "other.pub")
	write(t, other, string(signtest.NewKey(t, "ed25519").PEM()))
	h.must("trust", "add", "--yes", "--key="+other, prefix)
	h.refuses([]string{"run", "--rm", "--pull-policy=never", ref}, "not accepted", "rkt fetch --pull-policy=update "+ref)

	// Back again: the signature is in the store.
	h.must("trust", "add", "--yes", "--key="+file, prefix)
	h.must("run", "--rm", "--pull-policy=never", ref, "--", "true")
	h.must("run", "--rm", id, "--", "true")
}

// showsSigner wants who has signed wherever an image is told about.
func (h *host) showsSigner(ref, signer, rule string) {
	h.t.Helper()
	list := h.must("image", "list", "--no-legend", "--full", "--fields=trust,signer,policy")
	if !strings.Contains(list, "signed") || !strings.Contains(list, signer) {
		h.t.Errorf("image list: %s", list)
	}
	var images []struct {
		Verdict struct {
			Signer     map[string]any `json:"signer"`
			PolicyHash string         `json:"policyHash"`
		} `json:"verdict"`
	}
	if err := json.Unmarshal([]byte(h.must("image", "list", "--format=json")), &images); err != nil || len(images) == 0 || images[0].Verdict.Signer == nil || images[0].Verdict.PolicyHash == "" {
		h.t.Errorf("image list --format=json: %+v, %v", images, err)
	}
	check := h.must("trust", "check", ref)
	for _, want := range []string{"result=use", "tier=signed", "signer=" + signer, "stored=yes", "rule=" + rule} {
		if !strings.Contains(check, want) {
			h.t.Errorf("trust check lacks %q:\n%s", want, check)
		}
	}
	uuid := h.must("prepare", "--quiet", ref)
	if uuid == "" {
		uuid = h.must("list", "--no-legend", "--full")
	}
	uuid = strings.Fields(uuid)[0]
	status := h.must("status", uuid)
	if want := "=signed by " + signer + ", rule " + rule; !strings.Contains(status, want) {
		h.t.Errorf("status lacks %q:\n%s", want, status)
	}
}

// Signatures with certificates, as bundles and in the older form.
func TestImagesSignedByAnIdentity(t *testing.T) {
	h, r, _, _ := signedHost(t)
	a := signtest.New(t)
	const subject, issuer = "https://git.example/team/app/release.yml@refs/tags/v1", "https://token.example"
	good := signtest.Signing{Subject: subject, Issuer: issuer}
	ref := r.push("layers", "team/app")
	manifest := r.get("team/app", "latest")
	digest := digestOf(manifest)
	root := filepath.Join(t.TempDir(), "root.json")
	write(t, root, string(a.Root()))
	prefix := r.addr + "/team"

	h.refuses([]string{"trust", "add", "--identity=" + subject, "--issuer=" + issuer, prefix}, "trusted root", "--trusted-root=FILE")
	h.refuses([]string{"trust", "add", "--identity=" + subject, prefix}, "issuer")
	h.refuses([]string{"trust", "add", "--yes", "--identity-regexp=(", "--issuer=" + issuer, "--trusted-root=" + root, prefix}, "identity")
	h.must("trust", "add", "--yes", "--identity-regexp=https://git\\.example/team/.*", "--issuer="+issuer, "--trusted-root="+root, prefix)
	h.refuses([]string{"fetch", ref}, "it is not signed")

	evil := good
	evil.Subject = "https://git.example/evil/app"
	r.attachBundle("team/app", digest, len(manifest), a.Bundle(evil, digest))
	h.refuses([]string{"fetch", ref}, "https://git.example/evil/app", "rkt trust add --identity=https://git.example/evil/app --issuer="+issuer)
	r.attachBundle("team/app", digest, len(manifest), a.Bundle(good, digest))
	h.must("fetch", ref)
	h.showsSigner(ref, subject+" ("+issuer+")", prefix)
	h.must("run", "--rm", ref, "--", "true")

	second := r.push("layers", "team/second")
	good.Name = r.addr + "/team/second"
	r.attachSimple("team/second", digest, a.Simple(good, digest))
	h.must("fetch", second)
	// Another root, and nothing that is in the store is believed any more.
	stranger := filepath.Join(t.TempDir(), "root.json")
	write(t, stranger, string(signtest.New(t).Root()))
	h.must("trust", "add", "--yes", "--trusted-root="+stranger, prefix)
	for _, image := range []string{ref, second} {
		h.refuses([]string{"run", "--rm", "--pull-policy=never", image}, "not accepted", prefix)
	}
}

// A signature of the index is one of the image that is chosen from it, and is
// verified again without the registry.
func TestSignatureOfAnIndex(t *testing.T) {
	h, r, key, file := signedHost(t)
	r.push("layers", "team/app")
	manifest := r.get("team/app", "latest")
	index := asJSON(t, map[string]any{
		"schemaVersion": 2, "mediaType": typeIndex, "manifests": []any{map[string]any{
			"mediaType": typeManifest, "digest": digestOf(manifest), "size": len(manifest),
			"platform": map[string]any{"os": "linux", "architecture": runtime.GOARCH},
		}},
	})
	r.put("team/app", "many", typeIndex, index)
	ref := r.addr + "/team/app:many"
	h.must("trust", "add", "--yes", "--key="+file, r.addr+"/team")
	h.refuses([]string{"fetch", ref}, "it is not signed")
	r.attachSimple("team/app", digestOf(index), key.Simple(digestOf(index), r.addr+"/team/app:many"))
	// Asked for alone, the manifest is signed by nobody.
	h.refuses([]string{"fetch", r.addr + "/team/app@" + digestOf(manifest)}, "not signed")
	h.must("fetch", ref)
	if check := h.must("trust", "check", ref); !strings.Contains(check, "signed-digest="+digestOf(index)) {
		t.Errorf("trust check: %s", check)
	}
	other := filepath.Join(t.TempDir(), "other.pub")
	write(t, other, string(signtest.NewKey(t, "rsa").PEM()))
	h.must("trust", "add", "--yes", "--key="+other, r.addr+"/team")
	h.must("run", "--rm", "--pull-policy=never", ref, "--", "true")
}

// SG-02: a signature does not make an image good under another name.
func TestSignatureOfAnotherRepository(t *testing.T) {
	h, r, key, file := signedHost(t)
	r.push("layers", "team/app")
	evil := r.push("layers", "team/app-evil")
	digest := digestOf(r.get("team/app", "latest"))
	h.must("trust", "add", "--yes", "--key="+file, r.addr+"/team")
	r.attachSimple("team/app-evil", digest, key.Simple(digest, r.addr+"/team/app"))
	h.refuses([]string{"fetch", evil}, "is for the image", "team/app-evil")
}

// A repository once seen signed is not used unsigned, until somebody says so.
func TestSignedRepositoryStaysSigned(t *testing.T) {
	h, r, key, file := signedHost(t)
	ref := r.push("layers", "team/app")
	digest := digestOf(r.get("team/app", "latest"))
	r.attachSimple("team/app", digest, key.Simple(digest, r.addr+"/team/app"))
	h.must("trust", "add", "--yes", "--key="+file, r.addr+"/team")
	h.must("fetch", ref)

	// The rule is replaced by one for everything, by hand, and the image goes.
	rules, err := filepath.Glob(filepath.Join(h.conf, "trust.d", "*.json"))
	if err != nil || len(rules) != 1 {
		t.Fatal(rules, err)
	}
	if err := os.Remove(rules[0]); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(h.conf, "trust.d", "all.json"), `{"prefix":"*","action":"accept"}`)
	h.must("image", "rm", ref)
	unsigned := r.push("busybox", "team/app")
	h.refuses([]string{"fetch", unsigned}, "it was signed by key "+key.Fingerprint(), "rkt trust add --accept "+r.addr+"/team/app")
	h.must("fetch", r.push("layers", "team/other")) // that was never signed
	h.must("trust", "add", "--accept", r.addr+"/team/app")
	h.must("fetch", unsigned)
	if list := h.must("trust", "list", "--no-legend"); strings.Count(list, "\n") != 1 {
		t.Errorf("trust list: %s", list)
	}
}

// Keys and rules as a package ships them: an empty file masks one.
func TestVendorKeysAndMasks(t *testing.T) {
	h, r, key, _ := signedHost(t)
	vendor := t.TempDir()
	if err := os.Chmod(vendor, 0o755); err != nil {
		t.Fatal(err)
	}
	ref := r.push("layers", "team/app")
	digest := digestOf(r.get("team/app", "latest"))
	r.attachSimple("team/app", digest, key.Simple(digest, r.addr+"/team/app"))
	escaped := strings.NewReplacer(":", "%3A", "/", "%2F").Replace(r.addr + "/team")
	write(t, filepath.Join(vendor, "trust.d", "team.json"), fmt.Sprintf(`{"prefix": %q, "action": "signed"}`, r.addr+"/team"))
	write(t, filepath.Join(vendor, "trustedkeys/prefix.d", escaped, "release.pem"), string(key.PEM()))
	h.vendor = vendor
	h.must("fetch", ref)
	if shown := h.must("trust", "show", r.addr+"/team"); !strings.Contains(shown, "key="+key.Fingerprint()) || !strings.Contains(shown, "seen-signed="+r.addr+"/team/app") {
		t.Errorf("trust show: %s", shown)
	}
	write(t, filepath.Join(h.conf, "trustedkeys/prefix.d", escaped, "release.pem"), "")
	h.refuses([]string{"run", ref}, "no key and no identity")
	if err := os.Remove(filepath.Join(h.conf, "trustedkeys/prefix.d", escaped, "release.pem")); err != nil {
		t.Fatal(err)
	}
	h.must("run", "--rm", ref, "--", "true")
	h.must("trust", "rm", "--key="+key.Fingerprint(), r.addr+"/team") // masks it
	h.refuses([]string{"run", ref}, "no key and no identity")
}

// The questions on a terminal: the fingerprint, and who has signed.
func TestQuestionsAboutSignatures(t *testing.T) {
	h, r, key, file := signedHost(t)
	answer := func(input string, args ...string) string {
		t.Helper()
		line := strings.Join(h.command(t.Context(), args...).Args, " ")
		cmd := exec.Command("script", "--quiet", "--return", "--command", line, "/dev/null")
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		return fmt.Sprintf("%s\n%v", out, err)
	}
	out := answer("no\n", "trust", "add", "--key="+file, r.addr+"/keyed")
	if !strings.Contains(out, "yes/no") || !strings.Contains(out, "you said no") || h.must("trust", "list", "--no-legend") != "" {
		t.Errorf("no: %s", out)
	}
	if out := answer("yes\n", "trust", "add", "--key="+file, r.addr+"/keyed"); !strings.HasSuffix(out, "<nil>") {
		t.Errorf("yes: %s", out)
	}
	if shown := h.must("trust", "show", r.addr+"/keyed"); !strings.Contains(shown, key.Fingerprint()) {
		t.Errorf("trust show: %s", shown)
	}

	a := signtest.New(t)
	write(t, filepath.Join(h.conf, "trustedkeys/trusted_root.json"), string(a.Root()))
	ref := r.push("layers", "asked/app")
	manifest := r.get("asked/app", "latest")
	digest := digestOf(manifest)
	who := signtest.Signing{Subject: "release@team.example", Issuer: "https://token.example"}
	r.attachBundle("asked/app", digest, len(manifest), a.Bundle(who, digest))
	out = answer("r\n", "fetch", ref)
	if !strings.Contains(out, "it is signed by release@team.example (https://token.example)") || !strings.HasSuffix(out, "<nil>") {
		t.Errorf("asked: %s", out)
	}
	h.showsSigner(ref, "release@team.example (https://token.example)", r.addr+"/asked/app")
	r.push("busybox", "asked/app")
	h.refuses([]string{"fetch", "--pull-policy=update", ref}, "it is not signed")
}
