package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func allPairs(t *testing.T) []pair {
	t.Helper()
	text, err := os.ReadFile("pairs.txt")
	if err != nil {
		t.Fatal(err)
	}
	pairs, err := parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return pairs
}

// A mutant without a row proves nothing, a row without a mutant or test neither.
func TestRowsAndSourcesAgree(t *testing.T) {
	used := map[string]string{}  // mutants in the sources
	tests := map[string]string{} // test files by folder
	on := regexp.MustCompile(`mutant\.On\("([^"]+)"\)`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.Contains(path, "internal/mutant/") || strings.Contains(path, "tests/mutants/") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.HasSuffix(path, "_test.go") {
			tests[filepath.Dir(path)] += string(b)
		}
		for _, m := range on.FindAllStringSubmatch(string(b), -1) {
			used[m[1]] = path
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, p := range allPairs(t) {
		listed[p.mutant] = true
		if used[p.mutant] == "" {
			t.Errorf("pairs.txt has the mutant %q, which no source asks for", p.mutant)
		}
		function, _, _ := strings.Cut(p.test, "/")
		if !strings.Contains(tests[filepath.Join("../..", p.pkg)], "func "+function+"(t *testing.T)") {
			t.Errorf("pairs.txt names %s, which %s does not have", function, p.pkg)
		}
	}
	for name, path := range used {
		if !listed[name] {
			t.Errorf("%s has the mutant %q without a row in pairs.txt", path, name)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"a ./b TestC", "a b TestC X-1", "a ./b C X-1"} {
		if _, err := parse(text + "\n"); err == nil {
			t.Errorf("parse(%q) succeeds", text)
		}
	}
}
