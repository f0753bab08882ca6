package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rkt/stage1/contract"
)

// TestExplain prints a pod that was only prepared.
func TestExplain(t *testing.T) {
	p := newPod(t, []string{"true"}, []string{"false"})
	p.write()
	p.must(os.Remove(filepath.Join(p.dir, contract.HostFile)))
	out, err := p.entry("explain").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"sandbox:\n", "app a:\n", "app b:\n", `execve("/bin/false"`, `mount proc on "/proc"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	if _, err := os.Stat(filepath.Join(p.dir, contract.AppsDir, "a", contract.StartedFile)); err == nil {
		t.Error("something has been started")
	}
	p.json(contract.HostFile, p.host) // for the clean-up
}

// TestNoLeaks restarts an app and looks at what the supervisor has open.
func TestNoLeaks(t *testing.T) {
	p := newPod(t, script("exit 4"))
	p.apps["a"].Restart = contract.Restart{Policy: contract.RestartAlways}
	p.apps["a"].Stdout = contract.Stream{Kind: contract.StreamFile, Path: filepath.Join(t.TempDir(), "log"), Format: "raw"}
	r := p.start()
	count := func(restarts int) int {
		p.awaitThat("a restart", func() bool {
			s, err := contract.LoadStarted(p.dir, "a")
			return err == nil && s.Restarts >= restarts && !alive(s.PID)
		})
		fds, err := os.ReadDir("/proc/" + itoa(r.cmd.Process.Pid) + "/fd")
		p.must(err)
		return len(fds)
	}
	first := count(1)
	// A start that is under way has files of its own.
	p.awaitThat("no more open files after restarts", func() bool { return count(3) <= first })
	p.must(p.entry("stop").Run())
	r.wait()
	p.checkClean()
}
