package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSystemdHost finds out that the machine is what the other tests take it for.
func TestSystemdHost(t *testing.T) {
	needSystemd(t)
	for path, want := range map[string]string{
		"/proc/1/comm": "systemd",
		"/sys/module/apparmor/parameters/enabled": "Y",
	} {
		if b, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(b)) != want {
			t.Errorf("%s is %q (%v), want %q", path, b, err, want)
		}
	}
	controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	if err != nil {
		t.Fatalf("cgroup v2 is not alone: %v", err)
	}
	for _, c := range []string{"cpu", "io", "memory", "pids"} {
		if !strings.Contains(" "+strings.TrimSpace(string(controllers))+" ", " "+c+" ") {
			t.Errorf("the controller %s is not in %q", c, controllers)
		}
	}
	if state := tool(t, "systemctl", "is-system-running").stdout; state != "running\n" && state != "starting\n" {
		t.Errorf("the system is %q; failed units: %s", state, mustTool(t, "systemctl", "--failed", "--no-legend", "--plain"))
	}
	// The guests are two kernels with two systemds: Debian 12 and 13.
	release := mustTool(t, "uname", "-r")
	version := mustTool(t, "systemctl", "--version")
	for kernel, systemd := range map[string]string{"6.1.": "systemd 252 ", "6.12.": "systemd 257 "} {
		if strings.HasPrefix(release, kernel) && !strings.HasPrefix(version, systemd) {
			t.Errorf("Linux %s with %q, want %q", release, version, systemd)
		}
	}
}

// TestSystemdRunFromAShell runs a pod where nobody delegated a cgroup.
func TestSystemdRunFromAShell(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	ref := h.image("busybox")
	if got := h.must("run", "--rm", ref, "--", "cat", "/proc/1/comm"); got != "cat" {
		t.Errorf("pid 1 of the app is %q, want cat", got)
	}
	if r := h.rkt("run", "--rm", ref, "--", "sh", "-c", "exit 7"); r.code != 7 {
		t.Errorf("exit code %d, want 7: %s", r.code, r.stderr)
	}
}

// TestSystemdRunInAPlainUnit runs a pod in a transient unit without delegation:
// it stays in the unit's cgroup and its exit status is the unit's.
func TestSystemdRunInAPlainUnit(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	line := h.command(t.Context(), "run", "--rm", h.image("busybox"), "--", "sh", "-c", "cat /proc/self/cgroup; echo done; exit 7").Args
	r := tool(t, "systemd-run", append([]string{"--wait", "--pipe", "--quiet", "--collect", "--"}, line...)...)
	if r.code != 7 || !strings.Contains(r.stdout, "done\n") {
		t.Errorf("exit code %d, want 7\nstdout: %s\nstderr: %s", r.code, r.stdout, r.stderr)
	}
}

// TestSystemdStopEndsAService starts a pod as a service and stops it: the
// service's cgroup is where the pod was, and nothing of it is left.
func TestSystemdStopEndsAService(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	// sleep has no handler as pid 1: the supervisor sees to its end.
	u := h.newService("rkt-plain", []string{"KillMode=mixed"}, "run", "--name=plain", h.image("busybox"), "--", "sleep", "1000")
	u.start()
	eventually(t, func() error { return h.running("plain") })
	cgroup := u.cgroup()
	if pids, err := filepath.Glob(filepath.Join(cgroup, "cgroup.procs")); err != nil || len(pids) != 1 {
		t.Errorf("the unit has no cgroup %s: %v", cgroup, err)
	}
	u.stop()
	if state := h.state("plain"); state != "exited" {
		t.Errorf("the pod is %s, want exited", state)
	}
	if _, err := os.Stat(cgroup); !os.IsNotExist(err) {
		t.Errorf("the unit's cgroup is left: %v", err)
	}
}
