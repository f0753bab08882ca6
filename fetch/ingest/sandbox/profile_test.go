package sandbox

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"rkt/fetch/wire"
	"rkt/internal/callfilter"
)

var update = flag.Bool("update", false, "rewrite the compiled filters")

var roles = []wire.Role{wire.AskRegistries, wire.ReadImage, wire.ReadLayer, wire.VerifySignatures, wire.UnpackLayer}

func TestEmbeddedFiltersAreTheCompiledProfiles(t *testing.T) {
	for _, role := range roles {
		for _, arch := range []callfilter.Arch{callfilter.AMD64, callfilter.ARM64} {
			want, err := callfilter.Compile(profileOf(role), arch)
			if err != nil {
				t.Fatalf("%s: %v", role, err)
			}
			name := filterName(role, string(arch))
			if *update {
				if err := os.WriteFile(name, want, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs from the compiled profile; run go test -update", name)
			}
		}
	}
}

// A layer is read by a process that can neither open nor make anything.
func TestProfilesAreSmall(t *testing.T) {
	for role, most := range map[wire.Role]int{
		wire.ReadLayer: 66, wire.VerifySignatures: 66, wire.ReadImage: 75, wire.AskRegistries: 88, wire.UnpackLayer: 87,
	} {
		p := profileOf(role)
		if n := len(p.Allow) + len(p.Rules); n > most {
			t.Errorf("%d calls can pass in the role %s, want at most %d", n, role, most)
		}
	}
}
