package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// maxIdlePSS is what a supervisor may cost in the mean beside a pod that does
// nothing, in KiB.
const maxIdlePSS = 900

// asStage0Does gives a supervisor the environment that it has in production.
func asStage0Does(c *exec.Cmd) { c.Env = append(os.Environ(), "GOMAXPROCS=1") }

// TestIdleMemory measures 20 supervisors whose apps sleep.
func TestIdleMemory(t *testing.T) {
	const pods = 20
	var all []*running
	for range pods {
		all = append(all, newPod(t, []string{"sleep", "1000"}).start(asStage0Does))
	}
	for _, r := range all {
		r.await(contract.ReadyFile)
	}
	for _, r := range all {
		r.awaitRest()
	}
	mean := 0
	all[0].awaitThat("idle supervisors", func() bool {
		sum := 0
		for _, r := range all {
			sum += pss(t, r.cmd.Process.Pid)
		}
		mean = sum / pods
		return mean <= maxIdlePSS
	})
	t.Logf("PSS of %d supervisors: %d KiB each", pods, mean)
	for _, r := range all {
		r.must(r.cmd.Process.Kill())
	}
}

// pss is the proportional set size of a process in KiB.
func pss(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if errors.Is(err, unix.ESRCH) {
		return 1 << 20 // it is executing a program
	}
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
