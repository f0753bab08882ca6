package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// needNoSystemd skips a test of what rkt does where systemd is not pid 1.
func needNoSystemd(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/run/systemd/system"); err == nil {
		t.Skip("pid 1 is systemd")
	}
}

// TestDetachWithoutSystemd leaves a pod to itself: the end of the terminal that it
// was started from is not its own.
func TestDetachWithoutSystemd(t *testing.T) {
	needNoSystemd(t)
	h := newHost(t)
	ref := h.image("busybox")
	var session int
	r := h.rktWith(func(c *exec.Cmd) {
		c.Args = append([]string{"sh", "-c", `"$@"; code=$?; echo "session $$" >&2; exit $code`, "sh"}, c.Args...)
		c.Path = "/bin/sh"
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}, "run", "--detach", "--name=web", ref, "--name=a", "--", "sh", "-c", `echo out; echo err >&2; printf 'a\033[31mb\n'; exec sleep 1000`,
		"---", ref, "--name=b", "--", "sleep", "1000")
	if r.code != 0 || len(strings.TrimSpace(r.stdout)) != 36 {
		t.Fatalf("exit code %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
	if _, err := fmt.Sscanf(r.stderr[strings.LastIndex(r.stderr, "session"):], "session %d", &session); err != nil {
		t.Fatal(err)
	}
	s := h.status("web")
	if s.State != "running" || s.UUID+"\n" != r.stdout {
		t.Fatalf("status %+v, printed %q", s, r.stdout)
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if fields[3] != fmt.Sprint(s.PID) || fields[3] == fmt.Sprint(session) {
		t.Errorf("the supervisor %d is in session %s", s.PID, fields[3])
	}
	eventually(t, func() error {
		r := h.rkt("logs", "web", "a")
		if r.stdout != "out\na\x1b[31mb\n" || r.stderr != "err\n" {
			return fmt.Errorf("logs: %q, %q, exit code %d", r.stdout, r.stderr, r.code)
		}
		return nil
	})
	// Nobody knows which stream was read first.
	if r := h.rkt("logs", "-n1", "web"); r.stdout+r.stderr != "a | a\x1b[31mb\n" && r.stdout+r.stderr != "a | err\n" {
		t.Errorf("the last line of all apps is %q, %q", r.stdout, r.stderr)
	}
	if r := h.rkt("logs", "web", "c"); r.code != 125 || !strings.Contains(r.stderr, `there is no app "c"`) {
		t.Errorf("logs of no app: exit code %d, %q", r.code, r.stderr)
	}
	follow := make(chan result, 1)
	go func() { follow <- h.rkt("logs", "--follow", "--lines=0", "web") }()
	h.must("stop", "web")
	if r := <-follow; r.code != 0 || r.stdout != "" {
		t.Errorf("logs --follow: exit code %d, %q, %q", r.code, r.stdout, r.stderr)
	}
	h.must("rm", "web")
}

// TestDetachWithoutSystemdFails starts what does not start.
func TestDetachWithoutSystemdFails(t *testing.T) {
	needNoSystemd(t)
	h := newHost(t)
	ref := h.image("busybox")
	r := h.rkt("run", "--detach", "--name=missing", ref, "--", "no-such-command")
	if r.code != 127 || r.stdout != "" || !strings.Contains(r.stderr, "no-such-command") {
		t.Errorf("exit code %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
	if state := h.state("missing"); state != "exited" {
		t.Errorf("the pod is %s, want exited", state)
	}
	if r := h.rkt("run", "--detach", "--rm", ref, "--", "true"); r.code != 0 || len(r.stdout) != 37 {
		t.Errorf("a short one: exit code %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
	// One that cannot be run at all is not left prepared.
	r = h.rktWith(func(c *exec.Cmd) {
		// The folder of running pods is a file.
		if err := os.RemoveAll(filepath.Join(h.run, "pods")); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(h.run, "pods"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}, "run", "--detach", "--name=never", ref, "--", "true")
	if r.code != 125 || !strings.Contains(r.stderr, "run directory") {
		t.Errorf("exit code %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
	if err := os.Remove(filepath.Join(h.run, "pods")); err != nil {
		t.Fatal(err)
	}
	if list := h.must("list", "--no-legend"); strings.Contains(list, "never") {
		t.Errorf("the pod is left: %s", list)
	}
	for _, flag := range []string{"--scope=yes", "--slice=x.slice", "--property=MemoryMax=1G"} {
		if r := h.rkt("run", flag, ref, "--", "true"); r.code != 125 || !strings.Contains(r.stderr, "need systemd") {
			t.Errorf("%s: exit code %d, stderr %q", flag, r.code, r.stderr)
		}
	}
}
