package quadlet_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rkt/stage0/quadlet"
	"rkt/stage0/quadlet/generator"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// host is what the units in these tests are made for.
var host = quadlet.Host{Program: "/usr/bin/rkt", DataDir: "/var/lib/rkt"}

// place is the folder in which the golden files have their sources.
const place = "/etc/rkt/quadlet"

// copied copies a folder of testdata to where its files have the modes and the
// owner that they need.
func copied(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "q")
	err := filepath.WalkDir(from, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.Mkdir(filepath.Join(to, rel), 0o755)
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// compile makes units of the files in a folder.
func compile(dir string) quadlet.Result {
	sources, errs := generator.Load([]string{dir})
	r := quadlet.Compile(sources, host)
	r.Errors = append(errs, r.Errors...)
	return r
}

// render writes a result as text, with the folder as if it were place.
func render(r quadlet.Result, dir string) string {
	var b strings.Builder
	for _, u := range r.Units {
		fmt.Fprintf(&b, "=== %s\n%s\n", u.Name, u.Text)
	}
	for _, l := range r.Links {
		fmt.Fprintf(&b, "=== %s -> %s\n", l.Name, l.Target)
	}
	for _, e := range r.Errors {
		fmt.Fprintf(&b, "=== error: %v\n", e)
	}
	return strings.ReplaceAll(b.String(), dir, place)
}

// testdata/podman are the examples of podman's documentation, unchanged; the
// others are rkt's.
func TestGolden(t *testing.T) {
	examples, _ := filepath.Glob("testdata/podman/*") // the patterns are good ones
	own, _ := filepath.Glob("testdata/rkt/*")
	dirs := append(examples, own...)
	if len(dirs) < 20 {
		t.Fatalf("there are %d cases", len(dirs))
	}
	for _, dir := range dirs {
		set, name := filepath.Base(filepath.Dir(dir)), filepath.Base(dir)
		t.Run(set+"-"+name, func(t *testing.T) {
			at := copied(t, dir)
			got := render(compile(at), at)
			path := filepath.Join("testdata/golden", set+"-"+name+".txt")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("differs from %s; run go test -update and review the diff:\n%s", path, got)
			}
		})
	}
}
