package tests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// needSystemd skips a test where systemd is not pid 1. Tests that need it are
// named TestSystemd...; the guests of tests/vm run them.
func needSystemd(t testing.TB) {
	t.Helper()
	if _, err := os.Stat("/run/systemd/system"); err != nil {
		t.Skip("pid 1 is not systemd: see make test-vm")
	}
}

// tool runs a program of the host, such as systemctl, to its end.
func tool(t testing.TB, name string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = patience
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return result{args: append([]string{name}, args...), stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
}

// mustTool is tool for a program that must succeed. It returns stdout without
// the last newline.
func mustTool(t testing.TB, name string, args ...string) string {
	t.Helper()
	r := tool(t, name, args...)
	if r.code != 0 {
		t.Fatalf("%s: exit code %d\nstdout: %s\nstderr: %s", strings.Join(r.args, " "), r.code, r.stdout, r.stderr)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// unit is a unit of systemd that a test made.
type unit struct {
	t    testing.TB
	name string // with its suffix
}

// newUnit writes a unit and makes systemd read it. When the test is over the
// unit is stopped and gone; of a failed test its journal is printed.
func newUnit(t testing.TB, name, text string) *unit {
	t.Helper()
	needSystemd(t)
	u := &unit{t: t, name: name}
	path := filepath.Join("/run/systemd/system", name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			journal := strings.Split(u.journal(), "\n")
			t.Logf("the end of the journal of %s:\n%s", name, strings.Join(journal[max(0, len(journal)-80):], "\n"))
		}
		tool(t, "systemctl", "stop", name)
		tool(t, "systemctl", "reset-failed", name)
		if err := os.Remove(path); err != nil {
			t.Errorf("remove unit: %v", err)
		}
		mustTool(t, "systemctl", "daemon-reload")
	})
	mustTool(t, "systemctl", "daemon-reload")
	return u
}

// newService makes NAME.service whose ExecStart is rkt of h with args. Lines
// are further ones of its section [Service].
func (h *host) newService(name string, lines []string, args ...string) *unit {
	h.t.Helper()
	text := fmt.Sprintf("[Unit]\nDescription=%s of a test of rkt\n[Service]\nExecStart=%s\n%s\n", name, h.execLine(args...), strings.Join(lines, "\n"))
	return newUnit(h.t, name+".service", text)
}

// execLine is rkt of h with args as the value of an ExecStart=.
func (h *host) execLine(args ...string) string {
	quote := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "%", "%%", "$", "$$")
	var line strings.Builder
	for _, word := range append(h.arguments(), args...) {
		line.WriteString(` "` + quote.Replace(word) + `"`)
	}
	return h.program() + line.String()
}

// running is nil when a pod runs.
func (h *host) running(name string) error {
	if state := h.state(name); state != "running" {
		return fmt.Errorf("the pod %s is %s, not running", name, state)
	}
	return nil
}

// start starts the unit, which must succeed.
func (u *unit) start() {
	u.t.Helper()
	mustTool(u.t, "systemctl", "start", u.name)
}

// stop stops the unit, which must succeed.
func (u *unit) stop() {
	u.t.Helper()
	mustTool(u.t, "systemctl", "stop", u.name)
}

// property is one that systemctl show knows, such as ActiveState.
func (u *unit) property(name string) string {
	u.t.Helper()
	return mustTool(u.t, "systemctl", "show", "--value", "--property="+name, u.name)
}

// becomes waits until a property of the unit has a value.
func (u *unit) becomes(property, value string) {
	u.t.Helper()
	eventually(u.t, func() error {
		if got := u.property(property); got != value {
			return fmt.Errorf("%s of %s is %q, not %q", property, u.name, got, value)
		}
		return nil
	})
}

// journal is what the unit and systemd about it wrote since the machine booted.
func (u *unit) journal() string {
	u.t.Helper()
	return mustTool(u.t, "journalctl", "--quiet", "--boot", "--no-pager", "--output=short-precise", "--unit="+u.name)
}

// cgroup is the folder of the unit's cgroup.
func (u *unit) cgroup() string {
	u.t.Helper()
	return filepath.Join("/sys/fs/cgroup", u.property("ControlGroup"))
}
