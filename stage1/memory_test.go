package main

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"rkt/stage1/contract"
)

// maxIdlePSS is what a supervisor may cost beside a pod that does nothing, in
// KiB, when there are several.
const maxIdlePSS = 1024

// TestIdleMemory measures 20 supervisors whose apps sleep.
func TestIdleMemory(t *testing.T) {
	const pods = 20
	var all []*running
	for range pods {
		all = append(all, newPod(t, []string{"sleep", "1000"}).start(func(c *exec.Cmd) {
			c.Env = append(os.Environ(), "GOMAXPROCS=1") // as stage0 does
		}))
	}
	for _, r := range all {
		r.await(contract.ReadyFile)
	}
	sum, worst := 0, 0
	for _, r := range all {
		// What is given back after the start is given back soon.
		r.awaitThat("an idle supervisor", func() bool { return pss(t, r.cmd.Process.Pid) <= maxIdlePSS })
	}
	for _, r := range all {
		n := pss(t, r.cmd.Process.Pid)
		sum, worst = sum+n, max(worst, n)
	}
	t.Logf("PSS of %d supervisors: %d KiB each, at most %d", pods, sum/pods, worst)
	for _, r := range all {
		r.must(r.cmd.Process.Kill())
	}
}

// pss is the proportional set size of a process in KiB.
func pss(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "\nPss:")
	n, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
