package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// newSharedPod makes a pod whose apps share its pid namespace.
func newSharedPod(t *testing.T, commands ...[]string) *testPod {
	p := newPod(t, commands...)
	for _, a := range p.apps {
		a.PID = contract.PIDPod
	}
	return p
}

// status is a line of /proc/PID/status.
func status(t *testing.T, pid int, key string) string {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if k, v, _ := strings.Cut(line, ":"); k == key {
			return strings.TrimSpace(v)
		}
	}
	t.Fatalf("process %d has no %s", pid, key)
	return ""
}

// reaper is the pod's first process, which is in the namespace of the process pid.
func reaper(t *testing.T, pid int) int {
	t.Helper()
	space, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, err := os.Readlink("/proc/" + e.Name() + "/ns/pid"); err == nil && s == space && status(t, n, "Name") == "rkt-init" {
			return n
		}
	}
	t.Fatal("no reaper found")
	return 0
}

// TestSharedProcesses looks at what apps see of each other.
func TestSharedProcesses(t *testing.T) {
	p := newSharedPod(t, script(
		"while ! pidof sleep >/dev/null; do :; done",
		"read init </proc/1/comm; echo $init $(readlink /proc/self/ns/pid)",
		"kill $(pidof sleep)",
		"exit 0",
	), script("sleep 1000; echo over $(readlink /proc/self/ns/pid)"))
	p.must(os.Symlink("busybox", filepath.Join(p.pods, "layer/bin/pidof")))
	code, out, stderr := p.run()
	f := strings.Fields(out)
	if code != 0 || len(f) != 4 || f[0] != "rkt-init" || f[1] != f[3] {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out, stderr)
	}
	p.checkClean()
}

// TestSharedReaper checks that the first process takes the exit status of what
// apps leave behind, and can neither be signalled nor looked into by them.
func TestSharedReaper(t *testing.T) {
	p := newSharedPod(t, script(
		"for i in $(seq 1 50); do sh -c 'true & true &'; done",
		"kill -TERM 1; kill -KILL 1",
		"readlink /proc/1/exe || echo hidden",
		"echo up; trap 'exit 4' TERM; sleep 1000 & wait",
	))
	r := p.start()
	p.await(contract.ReadyFile)
	app := p.started("a").PID
	init := reaper(t, app)
	p.awaitThat("the app to have its handler", func() bool {
		caught, err := strconv.ParseUint(status(t, app, "SigCgt"), 16, 64)
		return err == nil && caught&(1<<(unix.SIGTERM-1)) != 0
	})
	p.awaitThat("no zombies", func() bool {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(init) + "/task/" + strconv.Itoa(init) + "/children")
		return err == nil && len(b) == 0
	})
	if !alive(init) {
		t.Fatal("the reaper is dead")
	}
	if out, err := p.entry("stop").CombinedOutput(); err != nil {
		t.Errorf("stop: %v: %s", err, out)
	}
	if code := r.wait(); code != 4 || !strings.Contains(r.stdout.String(), "hidden\nup\n") {
		t.Errorf("exit code %d, want 4; stdout %q, stderr %q", code, r.stdout.String(), r.stderr.String())
	}
	if alive(init) {
		t.Error("the reaper outlives the pod")
	}
	p.checkClean()
}

// TestSharedReaperDies kills the first process from the host: all apps end.
func TestSharedReaperDies(t *testing.T) {
	for _, rest := range []bool{false, true} {
		p := newSharedPod(t, []string{"sleep", "1000"}, []string{"sleep", "1000"})
		p.apps["a"].Restart = contract.Restart{Policy: contract.RestartAlways}
		r := p.start()
		p.await(contract.ReadyFile)
		if rest {
			r.awaitRest()
		}
		p.must(unix.Kill(reaper(t, p.started("a").PID), unix.SIGKILL))
		if code := r.wait(); code == 0 {
			t.Errorf("exit code %d; stderr %q", code, r.stderr.String())
		}
		if b := p.exit("b"); b.Signal != int(unix.SIGKILL) {
			t.Errorf("exit record of b: %+v", b)
		}
		p.checkClean()
	}
}

// TestSharedStopAndRestart starts an app again in the namespace of the other, and
// stops both: a signal without a handler is what ended them, as none is pid 1.
func TestSharedStopAndRestart(t *testing.T) {
	p := newSharedPod(t, []string{"sleep", "1000"}, []string{"sleep", "1000"})
	p.apps["a"].Restart = contract.Restart{Policy: contract.RestartAlways}
	r := p.start()
	p.await(contract.ReadyFile)
	first, b := p.started("a").PID, p.started("b").PID
	r.awaitRest()
	p.must(unix.Kill(first, unix.SIGKILL))
	p.awaitThat("another start", func() bool {
		s, err := contract.LoadStarted(p.dir, "a")
		return err == nil && s.Restarts == 1 && status(t, s.PID, "Name") == "sleep"
	})
	second := p.started("a").PID
	if x, y := space(t, second), space(t, b); x != y {
		t.Errorf("after its restart the app is in %s, the other in %s", x, y)
	}
	if out, err := p.entry("stop").CombinedOutput(); err != nil {
		t.Errorf("stop: %v: %s", err, out)
	}
	if code := r.wait(); code != 143 {
		t.Errorf("exit code %d, want 143; stderr %q", code, r.stderr.String())
	}
	for _, app := range []string{"a", "b"} {
		if e := p.exit(app); e.Signal != int(unix.SIGTERM) {
			t.Errorf("exit record of %s: %+v", app, e)
		}
	}
	p.checkClean()
}

func space(t *testing.T, pid int) string {
	t.Helper()
	s, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	return s
}
