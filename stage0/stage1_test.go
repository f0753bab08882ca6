package stage0

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rkt/stage1/contract"
)

func writeManifest(t *testing.T, dir, manifest string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), []byte(manifest), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFindStage1SearchesInOrder(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	env := &Env{Stage1Dirs: []string{first, second}}
	writeManifest(t, filepath.Join(second, "x"), `{"name":"x","contract":2,"entrypoints":{"run":["bin/s","run"]}}`)

	s, err := env.findStage1("x")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.command("run", "a"); err != nil || !slices.Equal(got, []string{filepath.Join(second, "x/bin/s"), "run", "a"}) {
		t.Errorf("command = %q, %v", got, err)
	}
	if _, err := s.command("enter"); err == nil || !strings.Contains(err.Error(), "enter") {
		t.Errorf("missing entrypoint = %v, want an error that names it", err)
	}
	writeManifest(t, filepath.Join(first, "x"), `{"name":"x","contract":2,"entrypoints":{"run":["../../bin/sh"]}}`)
	if s, err = env.findStage1("x"); err != nil || s.Dir != filepath.Join(first, "x") {
		t.Fatalf("findStage1() = %+v, %v, want the first", s, err)
	}
	if _, err := s.command("run"); err == nil {
		t.Error("entrypoint outside of the folder is accepted")
	}
}

func TestFindStage1RefusesWhatItDoesNotUnderstand(t *testing.T) {
	dir := t.TempDir()
	env := &Env{Stage1Dirs: []string{dir}}
	writeManifest(t, filepath.Join(dir, "new"), `{"name":"new","contract":99}`)
	// It could run what was prepared before, and nothing that is prepared now.
	writeManifest(t, filepath.Join(dir, "old"), fmt.Sprintf(`{"name":"old","contract":%d}`, contract.Version-1))
	writeManifest(t, filepath.Join(dir, "odd"), `{"name":"odd","contract":1,"surprise":true}`)
	for _, name := range []string{"new", "old", "odd", "missing", "../" + filepath.Base(dir) + "/new", "", "a/b", "A"} {
		if _, err := env.findStage1(name); err == nil {
			t.Errorf("findStage1(%q) succeeded", name)
		}
	}
}
