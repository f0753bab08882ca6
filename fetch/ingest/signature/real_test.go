package signature

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/verify"

	"rkt/cas"
	"rkt/fetch/wire"
	"rkt/image/trust"
)

// The certificate, log and times of a bundle of the public sigstore instance, with
// its trusted root of then: what the test authority makes is not the only thing
// that is understood. The bundle says how a package was built, so it signs no
// image, whoever made it.
func TestBundleOfThePublicInstance(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/sigstore/sigstore-go").Output()
	dir := filepath.Join(strings.TrimSpace(string(out)), "pkg/testing/data")
	if _, statErr := os.Stat(dir); err != nil || statErr != nil {
		t.Skip("the test data of the sigstore library is not on this machine")
	}
	root, err := os.ReadFile(filepath.Join(dir, "trusted-roots/public-good.json"))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "bundles/sigstore.js@2.0.0-provenance.sigstore.json"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := newVerification(wire.Trust{
		Name: repository, Digests: []string{digest}, Root: string(root),
		Identities: []trust.Identity{{Issuer: "https://token.actions.githubusercontent.com", SubjectRegexp: `https://github\.com/sigstore/sigstore-js/.*`}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := &entity{form: Bundle, bundle: &bundle.Bundle{}, artifact: verify.WithoutArtifactUnsafe(), digest: cas.Of(nil), byCertificate: true}
	if err := e.bundle.UnmarshalJSON(text); err != nil {
		t.Fatal(err)
	}
	signer, accepted, err := v.certificate(e)
	if err != nil || !accepted {
		t.Fatalf("certificate() = %+v, %v, %v", signer, accepted, err)
	}
	if want := time.Date(2023, 8, 18, 0, 0, 0, 0, time.UTC); signer.Proof != "log" || signer.Time.Truncate(24*time.Hour) != want {
		t.Errorf("signed at %v, proven by %q", signer.Time, signer.Proof)
	}
	if _, _, err := v.item(Item{Form: Bundle, Payload: text}); err == nil {
		t.Error("it is accepted as a signature of an image")
	}
}
