package registries

import (
	"encoding/json"
	"strings"
	"testing"
)

// Whatever is in a file of auth.d or registries.d, in a file of another program
// or in the answer of a helper: it is refused, or names hosts and has one
// credential; and what is secret is not in the error.
func FuzzFiles(f *testing.F) {
	for _, s := range []string{
		authD("alice", "r.example"),
		`{"host":"r.example:5000","ca":"x.pem","tokenHosts":["t.example"],"mirrors":[{"host":"[::1]:5000","plainHTTP":true,"digestOnly":true}]}`,
		`{"auths":{"https://index.docker.io/v1/":{"auth":"` + basic("u") + `"},"r.example/team":{"identitytoken":"t"}},"credsStore":"s","credHelpers":{"r.example":"h"}}`,
		`{"Username":"<token>","Secret":"x"}`, `{"host":"a/../b"}`, `{"registries":[""]}`, `{"auths":{"":{}}}`, `null`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var a authFile
		if err := a.parse(b); err == nil {
			for _, name := range a.Registries {
				if !hostRE().MatchString(normalHost(name)) {
					t.Errorf("%q is accepted as a registry", name)
				}
			}
			if credential(a.Credentials) == (credential{}) {
				t.Error("no credential is accepted as one")
			}
		}
		var h hostEntry
		if err := h.parse(b); err == nil && (!hostRE().MatchString(h.Host) || strings.ContainsAny(h.Host, "/\n\x00 ")) {
			t.Errorf("%q is accepted as a host", h.Host)
		}
		var u userConfig
		if json.Unmarshal(b, &u) == nil {
			_, _ = u.written("r.example", "team/app") // must not panic
		}
		_, _ = parseAnswer("docker-credential-x", b)
	})
}
