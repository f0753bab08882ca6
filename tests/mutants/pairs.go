package main

import (
	"fmt"
	"strings"
)

// pair is a mutant and a test that it turns red.
type pair struct {
	mutant, pkg, test string
	ids               []string // of the promises
}

// parse reads rows of mutant, package, test and ids. Empty lines and those that
// begin with # count for nothing.
func parse(text string) ([]pair, error) {
	var pairs []pair
	n := 0
	for line := range strings.Lines(text) {
		n++
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 4 || !strings.HasPrefix(f[1], "./") || !strings.HasPrefix(f[2], "Test") {
			return nil, fmt.Errorf("pairs.txt:%d: want a mutant, a package, a test and ids", n)
		}
		pairs = append(pairs, pair{mutant: f[0], pkg: f[1], test: f[2], ids: f[3:]})
	}
	return pairs, nil
}
