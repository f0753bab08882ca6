// Command mutants proves that tests can fail: it builds the test binary of each
// package in pairs.txt with the tag mutant and wants every test named there to
// pass as it is, and to fail under its mutant (see package internal/mutant).
//
//	go run ./tests/mutants -run nodigest
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// limit is for one test.
const limit = 3 * time.Minute

func main() {
	only := flag.String("run", "", "regexp of the mutants to try")
	flag.Parse()
	if err := tryAll(*only); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

// tryAll tries the pairs whose mutant matches only.
func tryAll(only string) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	text, err := os.ReadFile("tests/mutants/pairs.txt")
	if err != nil {
		return fmt.Errorf("run it at the root of the module: %w", err)
	}
	pairs, err := parse(string(text))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "rkt-mutants.")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	t := &trial{dir: dir, binaries: map[string]string{}, green: map[string]error{}}
	tried, failed := 0, 0
	for _, p := range pairs {
		if !match.MatchString(p.mutant) {
			continue
		}
		tried++
		err := t.try(p)
		if err != nil {
			failed++
			fmt.Printf("FAIL %-22s %s %s: %v\n", p.mutant, p.pkg, p.test, err)
			continue
		}
		fmt.Printf("red  %-22s %s %s\n", p.mutant, p.pkg, p.test)
	}
	if failed > 0 || tried == 0 {
		return fmt.Errorf("%d of %d pairs prove nothing", failed, tried)
	}
	return nil
}

// trial is one run of this program.
type trial struct {
	dir      string
	binaries map[string]string // test binaries by package
	green    map[string]error  // of tests without a mutant, by package and name
	programs bool              // the programs are built
}

// try wants the test to pass without and to fail with the mutant.
func (t *trial) try(p pair) error {
	binary, err := t.build(p.pkg)
	if err != nil {
		return err
	}
	key := p.pkg + " " + p.test
	if _, known := t.green[key]; !known {
		passed, out := t.run(binary, p, "")
		if !passed {
			t.green[key] = fmt.Errorf("it does not pass without a mutant:\n%s", out)
		} else {
			t.green[key] = nil
		}
	}
	if t.green[key] != nil {
		return t.green[key]
	}
	passed, out := t.run(binary, p, p.mutant)
	if passed {
		return fmt.Errorf("it passes under the mutant")
	}
	if !strings.Contains(out, "--- FAIL: "+p.test) {
		return fmt.Errorf("it ended otherwise than by failing:\n%s", out)
	}
	return nil
}

// run runs one test and tells whether it passed; one that was skipped did not.
func (t *trial) run(binary string, p pair, mutant string) (passed bool, output string) {
	ctx, cancel := context.WithTimeout(context.Background(), limit+30*time.Second)
	defer cancel()
	var parts []string
	for part := range strings.SplitSeq(p.test, "/") {
		parts = append(parts, "^"+regexp.QuoteMeta(part)+"$")
	}
	cmd := exec.CommandContext(ctx, binary, "-test.v", "-test.run", strings.Join(parts, "/"), "-test.timeout", limit.String())
	cmd.Dir = p.pkg
	cmd.Env = append(os.Environ(), "RKT_MUTANT="+mutant, "RKT_BIN="+filepath.Join(t.dir, "bin"))
	out, err := cmd.CombinedOutput()
	const most = 4000
	text := string(out[max(0, len(out)-most):])
	return err == nil && strings.Contains(string(out), "--- PASS: "+p.test), text
}

// build makes the test binary of a package, and the programs for the tests
// that run them.
func (t *trial) build(pkg string) (string, error) {
	if b, ok := t.binaries[pkg]; ok {
		return b, nil
	}
	if pkg == "./tests" && !t.programs {
		cmd := exec.Command("make", "build", "BIN="+filepath.Join(t.dir, "bin"), "GOFLAGS=-tags=mutant")
		cmd.Env = append(os.Environ(), "GOFLAGS=-tags=mutant")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build programs: %w: %s", err, out)
		}
		// What the tests run beside rkt has no mutants.
		others, err := filepath.Abs("bin/tests")
		if err != nil {
			return "", err
		}
		if err := os.Symlink(others, filepath.Join(t.dir, "bin/tests")); err != nil {
			return "", err
		}
		t.programs = true
	}
	binary := filepath.Join(t.dir, strings.ReplaceAll(strings.TrimPrefix(pkg, "./"), "/", "-")+".test")
	cmd := exec.Command("go", "test", "-c", "-tags=mutant", "-o", binary, pkg)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	t.binaries[pkg] = binary
	return binary, nil
}
