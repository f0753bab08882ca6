package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// sessions is how many sessions the tests have made.
var sessions atomic.Int64

// fromShell makes a command one that a user types after a login: in the scope of
// a session.
func fromShell(t testing.TB) func(*exec.Cmd) {
	needSystemd(t)
	return func(c *exec.Cmd) {
		name := fmt.Sprintf("--unit=session-test%d.scope", sessions.Add(1))
		args := append([]string{"systemd-run", "--quiet", "--scope", "--slice=user.slice", "--collect", name, "--"}, c.Args...)
		c.Path, c.Args = "/usr/bin/systemd-run", args
	}
}

// startFromShell starts a pod from a shell and waits until it is ready.
func (h *host) startFromShell(name string, args ...string) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program("rkt"), append(h.arguments(), append([]string{"run", "--name=" + name}, args...)...)...)
	fromShell(h.t)(cmd)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		h.rkt("stop", "--force", name)
		cancel()
		_ = cmd.Wait()
		if h.t.Failed() {
			h.t.Logf("stderr of pod %s: %s", name, stderr.String())
		}
	})
	eventually(h.t, func() error { return h.running(name) })
	h.must("status", "--wait-ready=30s", name)
}

// status is the status of a pod as JSON.
type status struct {
	UUID  string `json:"uuid"`
	State string `json:"state"`
	Unit  string `json:"unit"`
	PID   int    `json:"pid"`
	Apps  []struct {
		PID      int  `json:"pid"`
		ExitCode *int `json:"exitCode"`
	} `json:"apps"`
}

func (h *host) status(pod string) status {
	h.t.Helper()
	var s status
	if err := json.Unmarshal([]byte(h.must("status", "--format=json", pod)), &s); err != nil {
		h.t.Fatal(err)
	}
	return s
}

// TestSystemdScope runs a pod from a shell: it gets a scope with its limits, and
// ends with that.
func TestSystemdScope(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	h.startFromShell("web", "--property=MemoryMax=300M", "--property=CPUQuota=150%", "--property=TasksMax=50%",
		`--property=Description=100% of "it" for $HOME\n`, h.image("busybox"), "--memory=100M", "--", "sleep", "1000")
	s := h.status("web")
	if want := "rkt-" + s.UUID + ".scope"; s.Unit != want {
		t.Fatalf("the unit is %q, want %q", s.Unit, want)
	}
	u := &unit{t: t, name: s.Unit}
	for property, want := range map[string]string{
		"ActiveState": "active", "Slice": "machine.slice", "Delegate": "yes", "MemoryMax": "314572800",
		"CPUQuotaPerSecUSec": "1.500000s", "Description": `100% of "it" for $HOME\n`, "ControlGroup": "/machine.slice/" + s.Unit,
	} {
		if got := u.property(property); got != want {
			t.Errorf("%s is %q, want %q", property, got, want)
		}
	}
	limit, err := filepath.Glob(filepath.Join(u.cgroup(), "**/app.*/memory.max"))
	if direct, _ := filepath.Glob(filepath.Join(u.cgroup(), "app.*/memory.max")); len(direct) > 0 {
		limit = direct
	}
	if err != nil || len(limit) != 1 {
		t.Fatalf("memory limits of apps: %q, %v", limit, err)
	}
	if b, err := os.ReadFile(limit[0]); err != nil || string(b) != "104857600\n" {
		t.Errorf("%s is %q (%v), want 100 MiB", limit[0], b, err)
	}
	mustTool(t, "systemctl", "stop", s.Unit)
	h.must("status", "--wait=30s", "web")
	if s := h.status("web"); s.State != "exited" {
		t.Errorf("the pod is %s, want exited", s.State)
	}
	u.becomes("ActiveState", "inactive")
}

// TestSystemdScopeEndsWithThePod runs pods to their end: no unit is left.
func TestSystemdScopeEndsWithThePod(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	defer tool(t, "systemctl", "stop", "machine-test.slice") // systemd keeps a slice that is empty
	r := h.rktWith(fromShell(t), "run", "--name=short", "--slice=machine-test.slice", h.image("busybox"), "--", "sh", "-c", "cat /proc/1/cgroup; exit 7")
	if r.code != 7 || r.stderr != "" {
		t.Errorf("exit code %d, want 7: %s", r.code, r.stderr)
	}
	name := "rkt-" + h.status("short").UUID + ".scope"
	(&unit{t: t, name: name}).becomes("LoadState", "not-found")
}

// TestSystemdScopeRefusals asks for what cannot be.
func TestSystemdScopeRefusals(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	ref := h.image("busybox")
	for _, c := range []struct {
		name, want string
		args       []string
	}{
		{"unsafe property", `property "ExecStartPre" cannot be set`, []string{"--property=ExecStartPre=/bin/true"}},
		{"newline", "is not one line of text", []string{"--property=Description=a\nb"}},
		{"bad value", `"much" is not a size`, []string{"--property=MemoryMax=much"}},
		{"bad slice", `is not the name of a slice`, []string{"--slice=../x.slice"}},
		{"percent in a slice", `is not the name of a slice`, []string{"--slice=%n.slice"}},
		{"contradiction", "that --scope=no does without", []string{"--scope=no", "--slice=x.slice"}},
	} {
		r := h.rktWith(fromShell(t), append(append([]string{"run"}, c.args...), ref, "--", "true")...)
		if r.code != 125 || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%s: exit code %d, stderr %q, want %q", c.name, r.code, r.stderr, c.want)
		}
	}
	// In a unit, its properties are somebody else's.
	r := tool(t, "systemd-run", append([]string{"--wait", "--pipe", "--quiet", "--collect", "--", program("rkt")},
		append(h.arguments(), "run", "--property=MemoryMax=1G", ref, "--", "true")...)...)
	if r.code != 125 || !strings.Contains(r.stderr, "which has its own") {
		t.Errorf("in a unit: exit code %d, stderr %q", r.code, r.stderr)
	}
	if left := h.must("list", "--no-legend"); left != "" {
		t.Errorf("pods are left: %s", left)
	}
}

// TestSystemdScopeExists finds its unit's name taken: the pod stays prepared.
func TestSystemdScopeExists(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	uuid := h.must("prepare", "--quiet", h.image("busybox"), "--", "echo", "ran")
	name := "rkt-" + uuid + ".scope"
	blocker := exec.Command("systemd-run", "--quiet", "--scope", "--unit="+name, "--", "sleep", "1000")
	if err := blocker.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { tool(t, "systemctl", "kill", "--signal=KILL", name); _ = blocker.Wait() }()
	u := &unit{t: t, name: name}
	u.becomes("ActiveState", "active")
	r := h.rktWith(fromShell(t), "run-prepared", uuid)
	if r.code != 125 || !strings.Contains(r.stderr, "unit "+name+" exists already") {
		t.Errorf("exit code %d, stderr %q", r.code, r.stderr)
	}
	if state := h.state(uuid); state != "prepared" {
		t.Errorf("the pod is %s, want prepared", state)
	}
	tool(t, "systemctl", "kill", "--signal=KILL", name)
	u.becomes("LoadState", "not-found")
	if r := h.rktWith(fromShell(t), "run-prepared", uuid); r.code != 0 || r.stdout != "ran\n" {
		t.Errorf("then: exit code %d, stdout %q, stderr %q", r.code, r.stdout, r.stderr)
	}
}

// TestSystemdSilent runs pods where nobody answers for systemd, and where nobody
// is there.
func TestSystemdSilent(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	ref := h.image("busybox")
	socket := filepath.Join(t.TempDir(), "silent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // and nobody accepts
	nobody := filepath.Join(t.TempDir(), "nobody")
	if err := os.WriteFile(nobody, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ instead, want string }{
		"hangs":  {socket, "no answer in time"},
		"absent": {nobody, "connection refused"},
	} {
		in := func(cmd *exec.Cmd) {
			script := fmt.Sprintf(`mount --bind %s /run/systemd/private && mount --bind %[1]s /run/dbus/system_bus_socket && exec "$@"`, c.instead)
			cmd.Args = append([]string{"unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh"}, cmd.Args...)
			cmd.Path = "/usr/bin/unshare"
			fromShell(t)(cmd)
		}
		r := h.rktWith(in, "run", "--rm", ref, "--", "echo", "ran")
		if r.code != 0 || r.stdout != "ran\n" || !strings.Contains(r.stderr, "gets no unit of its own") || !strings.Contains(r.stderr, c.want) {
			t.Errorf("%s: exit code %d, stdout %q, stderr %q", name, r.code, r.stdout, r.stderr)
		}
		r = h.rktWith(in, "run", "--rm", "--property=MemoryMax=1G", ref, "--", "echo", "ran")
		if r.code != 125 || r.stdout != "" || !strings.Contains(r.stderr, "systemd cannot be asked") {
			t.Errorf("%s, with a property: exit code %d, stdout %q, stderr %q", name, r.code, r.stdout, r.stderr)
		}
		r = h.rktWith(in, "run", "--rm", "--detach", ref, "--", "sleep", "1")
		if r.code != 0 || !strings.Contains(r.stderr, "gets no unit of its own") {
			t.Errorf("%s, detached: exit code %d, stdout %q, stderr %q", name, r.code, r.stdout, r.stderr)
		}
	}
}
