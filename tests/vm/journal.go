package main

import (
	"fmt"
	"os"
	"strings"
)

// journalLines is how much of a journal is printed for a failure.
const journalLines = 60

// explain is what the journal of a guest says about its failed tests: of each,
// the end of what was written while it ran. Without a failed test it is the
// end of the journal.
func explain(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	var out strings.Builder
	for _, s := range failed(all) {
		fmt.Fprintf(&out, "vm: the journal during %s:\n%s\n", s.test, strings.Join(ending(s.lines), "\n"))
	}
	if out.Len() == 0 {
		fmt.Fprintf(&out, "vm: the end of the journal:\n%s\n", strings.Join(ending(all), "\n"))
	}
	return out.String()
}

// span is what a journal has of a test.
type span struct {
	test  string
	lines []string
}

// failed finds the tests that failed. A line of a test's beginning or end has
// the identifier rkt-test.
func failed(journal []string) []span {
	began := map[string]int{}
	var spans []span
	for i, line := range journal {
		_, marker, ok := strings.Cut(line, " rkt-test[")
		if !ok {
			continue
		}
		f := strings.Fields(marker) // 123]: === RUN NAME, or 123]: --- FAIL: NAME (1.2s)
		if len(f) < 4 {
			continue
		}
		switch f[2] {
		case "RUN":
			began[f[3]] = i
		case "FAIL:":
			if from, ok := began[f[3]]; ok {
				spans = append(spans, span{f[3], journal[from+1 : i]})
			}
		}
	}
	return spans
}

func ending(lines []string) []string {
	return lines[max(0, len(lines)-journalLines):]
}

// tail is the last n lines of a file.
func tail(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
