package depcheck

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// maxUntested is how many rows may say "No test yet". It only gets smaller.
const maxUntested = 6

// Each row of docs/cves.md names a test that exists, or says why there is none;
// no advisory has two answers.
func TestAdvisories(t *testing.T) {
	b, err := os.ReadFile("../../docs/cves.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := allTests(t)
	id := regexp.MustCompile(`(CVE-[0-9]{4}-[0-9]{4,}|GHSA(-[0-9a-z]{4}){3})`)
	name := regexp.MustCompile("`((Test|Fuzz)[A-Za-z0-9_]*)`")
	seen, untested := map[string]bool{}, 0
	for line := range strings.Lines(string(b)) {
		cells := strings.Split(strings.Trim(line, "|\n"), "|")
		ids := id.FindAllString(cells[0], -1)
		if len(cells) != 4 || len(ids) == 0 {
			continue
		}
		for _, one := range ids {
			if seen[one] {
				t.Errorf("%s has two rows", one)
			}
			seen[one] = true
		}
		answer := strings.TrimSpace(cells[3])
		named := name.FindAllStringSubmatch(answer, -1)
		for _, n := range named {
			if !tests[n[1]] {
				t.Errorf("%s: there is no test %s", ids[0], n[1])
			}
		}
		if strings.HasPrefix(answer, "No test yet: ") {
			untested++
		} else if len(named) == 0 && !strings.HasPrefix(answer, "Does not apply: ") {
			t.Errorf("%s: %q names no test and no reason", ids[0], answer)
		}
	}
	if len(seen) < 200 || untested > maxUntested {
		t.Errorf("%d advisories, %d rows without a test; want at least 200, at most %d", len(seen), untested, maxUntested)
	}
}

// allTests are the names of all tests and fuzz targets.
func allTests(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((Test|Fuzz)[A-Za-z0-9_]*)\(`)
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(b, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}
