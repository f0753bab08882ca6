package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"time"
)

// contender is one command of a comparison.
type contender struct {
	name string
	argv []string
	// before and after run outside the measured time, with the round's number.
	before, after func(round int) error
	// took replaces the time that the command took.
	took func() (time.Duration, error)
	// command replaces argv when it changes with the round.
	command func(round int) []string
}

// compare runs each contender once a round in random order, so that drift hits
// all alike, after two rounds of warm-up, and prints minimum, median, p90 and
// the ratio of the median to the first contender's. gap is idle time before
// each run: the cost of cgroup v1 migrations only shows that way.
func compare(title string, runs int, gap time.Duration, all []contender) error {
	const warmUp = 2
	samples := make([][]time.Duration, len(all))
	for round := range runs + warmUp {
		for _, i := range rand.Perm(len(all)) {
			took, err := once(all[i], round, gap)
			if err != nil {
				return fmt.Errorf("%s: %w", all[i].name, err)
			}
			if round >= warmUp {
				samples[i] = append(samples[i], took)
			}
		}
	}
	fmt.Printf("\n### %s (n=%d)\n\n| | min ms | median ms | p90 ms | ratio |\n|---|---|---|---|---|\n", title, runs)
	base := median(samples[0])
	for i, c := range all {
		s := samples[i]
		slices.Sort(s)
		fmt.Printf("| %s | %.2f | %.2f | %.2f | %.2f |\n", c.name, ms(s[0]), ms(median(s)), ms(s[len(s)*9/10]), float64(median(s))/float64(base))
	}
	return nil
}

func once(c contender, round int, gap time.Duration) (time.Duration, error) {
	if c.before != nil {
		if err := c.before(round); err != nil {
			return 0, err
		}
	}
	argv := c.argv
	if c.command != nil {
		argv = c.command(round)
	}
	time.Sleep(gap)
	cmd := exec.Command(argv[0], argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("%v: %w: %s", argv, err, stderr.Bytes())
	}
	if c.took != nil {
		if took, err = c.took(); err != nil {
			return 0, err
		}
	}
	if c.after != nil {
		return took, c.after(round)
	}
	return took, nil
}

func median(s []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(s))
	return sorted[len(sorted)/2]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
