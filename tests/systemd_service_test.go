package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// has fails the test unless the properties of the unit have these values.
func (u *unit) has(want map[string]string) {
	u.t.Helper()
	for property, value := range want {
		if got := u.property(property); got != value {
			u.t.Errorf("%s of %s is %q, want %q", property, u.name, got, value)
		}
	}
}

// file is the content of a file in the unit's cgroup.
func (u *unit) file(path string) string {
	u.t.Helper()
	b, err := os.ReadFile(filepath.Join(u.cgroup(), path))
	if err != nil {
		u.t.Errorf("read file of cgroup: %v", err)
	}
	return strings.TrimSpace(string(b))
}

// TestSystemdServiceIsThePods runs a pod as a service with delegation: what is
// in its cgroup, what systemd sees of it, and how it ends.
func TestSystemdServiceIsThePods(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	ref := h.image("busybox")
	u := h.newService("rkt-pod", []string{"Type=notify", "Delegate=yes", "KillMode=mixed", "MemoryMax=300M"},
		"run", "--name=pod", ref, "--name=a", "--memory=100M", "--", "sleep", "1000", "---", ref, "--name=b", "--pids=33", "--", "sleep", "1000")
	u.start()
	if err := h.running("pod"); err != nil {
		t.Error(err) // it is ready
	}
	s := h.status("pod")
	u.has(map[string]string{"ActiveState": "active", "StatusText": "2 apps running", "MainPID": strconv.Itoa(s.PID)})
	for path, want := range map[string]string{
		"memory.max": "314572800", "app.a/memory.max": "104857600", "app.b/pids.max": "33", "cgroup.procs": "",
		"supervisor/cgroup.procs": strconv.Itoa(s.PID),
		"app.a/main/cgroup.procs": strconv.Itoa(s.Apps[0].PID), "app.b/main/cgroup.procs": strconv.Itoa(s.Apps[1].PID),
	} {
		if got := u.file(path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	// What is entered is in the unit as well, below the same limits.
	if got := h.must("enter", "--app=a", "pod", "--", "cat", "/proc/1/cgroup"); got != "0::/" {
		t.Errorf("the app's cgroup is %q, want that it is its root", got)
	}
	if status := mustTool(t, "systemctl", "status", "--no-pager", u.name); !strings.Contains(status, "app.a") || !strings.Contains(status, "2 apps running") {
		t.Errorf("systemctl status says:\n%s", status)
	}
	u.stop()
	u.has(map[string]string{"ActiveState": "inactive", "Result": "success"})
	if state := h.state("pod"); state != "exited" {
		t.Errorf("the pod is %s, want exited", state)
	}
}

// TestSystemdServiceWithoutDelegation: the pod stays in the unit's cgroup, whose
// limits hold, and limits of apps are refused with what to add.
func TestSystemdServiceWithoutDelegation(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	ref := h.image("busybox")
	u := h.newService("rkt-undelegated", []string{"Type=notify", "KillMode=mixed", "TasksMax=200"}, "run", "--name=plain", ref, "--", "sleep", "1000")
	u.start()
	pids := strings.Fields(u.file("cgroup.procs"))
	s := h.status("plain")
	if len(pids) != 2 || !strings.Contains(strings.Join(pids, " "), strconv.Itoa(s.Apps[0].PID)) {
		t.Errorf("the unit has the processes %v, want the supervisor %d and the app %d", pids, s.PID, s.Apps[0].PID)
	}
	if folders, err := filepath.Glob(filepath.Join(u.cgroup(), "*/")); err != nil || len(folders) > 0 {
		for _, f := range folders {
			if info, err := os.Stat(f); err == nil && info.IsDir() {
				t.Errorf("a cgroup was made in a unit that is not delegated: %s", f)
			}
		}
	}
	if out := h.must("enter", "plain", "--", "cat", "/proc/self/cgroup"); out != "0::/" {
		t.Errorf("what is entered is in the cgroup %q, seen from the app's", out)
	}
	u.stop()
	u.has(map[string]string{"ActiveState": "inactive", "Result": "success"})

	limited := h.newService("rkt-limited", []string{"Type=notify"}, "run", "--rm", ref, "--memory=100M", "--", "sleep", "1000")
	if r := tool(t, "systemctl", "start", limited.name); r.code == 0 {
		t.Error("a unit without delegation starts a pod with a limit")
	}
	limited.has(map[string]string{"ActiveState": "failed", "ExecMainStatus": "125"})
	for _, want := range []string{"memory controller", "Delegate=yes to the unit rkt-limited.service"} {
		if journal := limited.journal(); !strings.Contains(journal, want) {
			t.Errorf("the journal lacks %q:\n%s", want, journal)
		}
	}
}

// TestSystemdServiceSubgroup: systemd has put the process into a subgroup.
func TestSystemdServiceSubgroup(t *testing.T) {
	needSystemd(t)
	if strings.HasPrefix(mustTool(t, "systemctl", "--version"), "systemd 252 ") {
		t.Skip("DelegateSubgroup= is of systemd 254 and later")
	}
	h := newHost(t)
	u := h.newService("rkt-subgroup", []string{"Type=notify", "Delegate=yes", "DelegateSubgroup=init", "KillMode=mixed"},
		"run", "--name=sub", h.image("busybox"), "--name=a", "--memory=100M", "--", "sleep", "1000")
	u.start()
	s := h.status("sub")
	for path, want := range map[string]string{
		"init/cgroup.procs": strconv.Itoa(s.PID), "app.a/main/cgroup.procs": strconv.Itoa(s.Apps[0].PID), "app.a/memory.max": "104857600",
	} {
		if got := u.file(path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	u.stop()
	u.has(map[string]string{"Result": "success"})
}

// TestSystemdServiceKillModes: the default mode, which signals all processes at
// once, and stop signals and graces in order with the other.
func TestSystemdServiceKillModes(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	ref := h.image("busybox")
	const patient = `trap 'sleep 1; echo stopped in order; exit 0' USR1; echo ready; while :; do sleep 0.1; done`
	for _, mode := range []string{"mixed", "control-group"} {
		for _, delegate := range []string{"yes", "no"} {
			name := "rkt-" + mode + "-" + delegate
			u := h.newService(name, []string{"Type=notify", "KillMode=" + mode, "Delegate=" + delegate, "Restart=on-failure"},
				"run", "--name="+name, ref, "--restart=always", "--", "sleep", "1000", "---", ref, "--stop-signal=USR1", "--", "sh", "-c", patient)
			u.start()
			eventually(t, func() error {
				if !strings.Contains(u.journal(), "ready") {
					return fmt.Errorf("the app is not ready")
				}
				return nil
			})
			u.stop()
			u.has(map[string]string{"ActiveState": "inactive", "Result": "success", "NRestarts": "0"})
			if mode == "mixed" && !strings.Contains(u.journal(), "stopped in order") {
				t.Errorf("%s: the app had no time to stop:\n%s", name, u.journal())
			}
		}
	}
}

// TestSystemdServiceRestarts: whatever ends a pod, systemd starts the next one,
// and the exit status is the app's.
func TestSystemdServiceRestarts(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	ref := h.image("busybox")
	u := h.newService("rkt-again", []string{"Type=notify", "KillMode=mixed", "Delegate=yes", "Restart=always", "RestartSec=0"},
		"run", "--name=again", ref, "--", "sh", "-c", "sleep 1000")
	u.start()
	first := h.status("again")
	mustTool(t, "kill", "-KILL", strconv.Itoa(first.PID)) // and its apps go with the unit
	eventually(t, func() error {
		if s := h.status("again"); s.UUID == first.UUID || s.State != "running" {
			return fmt.Errorf("the pod is %s, %s", s.UUID, s.State)
		}
		return nil
	})
	second := h.status("again")
	// The first pod's end is not that of the second, which is in the same cgroup.
	h.must("gc", "--grace-period=0")
	if s := h.status("again"); s.UUID != second.UUID || s.State != "running" {
		t.Errorf("after gc the pod is %s, %s", s.UUID, s.State)
	}
	mustTool(t, "systemctl", "restart", u.name)
	if s := h.status("again"); s.UUID == second.UUID || s.State != "running" {
		t.Errorf("after a restart the pod is %s, %s", s.UUID, s.State)
	}
	u.stop()

	for status, command := range map[string]string{"7": "exit 7", "127": "exec /no/such"} {
		v := h.newService("rkt-exit-"+status, nil, "run", "--rm", ref, "--", "sh", "-c", command)
		v.start()
		v.becomes("ActiveState", "failed")
		v.has(map[string]string{"ExecMainStatus": status, "Result": "exit-code"})
	}
}
