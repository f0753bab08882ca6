package depcheck

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the lists in testdata")

// goList runs `go list` with args at the root of the module.
func goList(t *testing.T, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v", args, err)
	}
	return strings.Fields(string(out))
}

// Every package outside the standard library that a program links is in its list.
func TestProgramsLinkOnlyWhatIsListed(t *testing.T) {
	for program, pkg := range map[string]string{"rkt": "./cmd/rkt", "rkt-fetch": "./cmd/rkt-fetch", "rkt-quadlet": "./cmd/rkt-quadlet", "rkt-net": "./cmd/rkt-net", "stage1": "./stage1"} {
		t.Run(program, func(t *testing.T) {
			got := goList(t, "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", pkg)
			slices.Sort(got)
			text := strings.Join(got, "\n") + "\n"
			path := filepath.Join("testdata", program+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			listed := strings.Fields(string(want))
			for _, p := range got {
				if !slices.Contains(listed, p) {
					t.Errorf("%s links %s, which %s does not list", program, p, path)
				}
			}
			for _, p := range listed {
				if !slices.Contains(got, p) {
					t.Errorf("%s lists %s, which %s does not link", path, p, program)
				}
			}
		})
	}
}

// forbidden are imports that would turn an arrow of docs/architecture.md around.
var forbidden = []struct{ from, to, why string }{
	{"rkt/internal/", "rkt/", "leaves know no words of rkt"},
	{"rkt/cas", "rkt/image", "the store knows no images"},
	{"rkt/cas", "rkt/fetch", "the store knows no fetching"},
	{"rkt/image", "rkt/fetch", "names end in fetch, above images"},
	{"rkt/image", "rkt/stage0", "images know no pods"},
	{"rkt/fetch", "rkt/stage0", "fetching knows no pods"},
	{"rkt/stage0", "rkt/fetch", "below fetch nobody sees a name"},
	{"rkt/stage0", "rkt/cmd", "the front door is on top"},
	{"rkt/fetch", "net/http", "the privileged half of fetching does not speak to the network"},
	{"rkt/stage1", "rkt/stage0", "the halves meet in the contract"},
	{"rkt/stage1", "rkt/image", "the halves meet in the contract"},
	{"rkt/stage1", "rkt/cas", "the halves meet in the contract"},
	{"rkt/stage1", "rkt/internal", "stage1 links the standard library, x/sys and three leaves"},
	{"rkt/stage1", "net", "stage1 speaks to no network"},
	{"rkt/stage0", "rkt/stage1/program", "the halves meet in the contract"},
	{"rkt/stage0", "rkt/stage1/compile", "the halves meet in the contract"},
	{"rkt/stage0", "rkt/stage1/supervise", "the halves meet in the contract"},
}

func TestImportsPointOneWay(t *testing.T) {
	for _, line := range strings.Split(strings.Join(goList(t, "-f", "{{.ImportPath}}:{{join .Imports \",\"}}", "./..."), "\n"), "\n") {
		from, imports, _ := strings.Cut(line, ":")
		for to := range strings.SplitSeq(imports, ",") {
			for _, f := range forbidden {
				if allowed(from, to) || !below(from, f.from) || !below(to, f.to) {
					continue
				}
				t.Errorf("%s imports %s: %s", from, to, f.why)
			}
		}
	}
}

// below says whether the package is the one named or in a folder of it; a name
// that ends with a slash means what is in the folder.
func below(pkg, name string) bool {
	return pkg == name || strings.HasPrefix(pkg, strings.TrimSuffix(name, "/")+"/") && (!strings.HasSuffix(name, "/") || pkg != name)
}

// allowed are the exceptions, each for a reason.
func allowed(from, to string) bool {
	switch {
	case below(from, "rkt/fetch/ingest"):
		return true // rkt-fetch's own: it is the network's half
	case below(from, "rkt/internal") && below(to, "rkt/internal"):
		return true // leaves may stand on leaves
	case to == "net/netip":
		return true // addresses, without a network
	case below(from, "rkt/stage1") && (to == "rkt/internal/safepath" || to == "rkt/internal/sealed" || to == "rkt/internal/cgrouptree" || to == "rkt/internal/mutant"):
		return true // these stand on x/sys alone
	}
	return false
}

// The libraries for networks are linked by rkt-net alone.
func TestOnlyRktNetLinksNetworks(t *testing.T) {
	for _, pkg := range []string{"./cmd/rkt", "./cmd/rkt-fetch", "./cmd/rkt-quadlet", "./stage1"} {
		for _, dep := range goList(t, "-deps", pkg) {
			if below(dep, "rkt/stage0/network") {
				t.Errorf("%s links %s", pkg, dep)
			}
		}
	}
}

// What reads attacker bytes is linked by rkt-fetch alone.
func TestOnlyRktFetchLinksIngest(t *testing.T) {
	for _, pkg := range []string{"./cmd/rkt", "./cmd/rkt-quadlet", "./stage1"} {
		for _, dep := range goList(t, "-deps", pkg) {
			if below(dep, "rkt/fetch/ingest") || dep == "net/http" {
				t.Errorf("%s links %s", pkg, dep)
			}
		}
	}
}

// What knows certificates, logs and timestamps is one package, so that it can run
// in a process that has nothing but bytes.
func TestOnePackageImportsSigstore(t *testing.T) {
	for _, line := range goList(t, "-f", "{{.ImportPath}}:{{join .Imports \",\"}}", "./...") {
		from, imports, _ := strings.Cut(line, ":")
		for to := range strings.SplitSeq(imports, ",") {
			if below(to, "github.com/sigstore") && from != "rkt/fetch/ingest/signature" {
				t.Errorf("%s imports %s", from, to)
			}
		}
	}
	for _, pkg := range []string{"./cmd/rkt", "./stage1", "./cmd/rkt-quadlet"} {
		for _, dep := range goList(t, "-deps", pkg) {
			if below(dep, "github.com/sigstore") || dep == "crypto/x509" {
				t.Errorf("%s links %s", pkg, dep)
			}
		}
	}
}
