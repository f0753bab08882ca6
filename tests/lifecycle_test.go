package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// ready starts a pod of the busybox image whose app prints "ready" and stays.
func (h *host) ready(name string, appFlags ...string) *process {
	h.t.Helper()
	args := append([]string{"run", "--name=" + name, h.image("busybox")}, appFlags...)
	p := h.start(append(args, "--", "sh", "-c", "echo ready; exec sleep 1000")...)
	if got := p.line(); got != "ready" {
		h.t.Fatalf("the app printed %q", got)
	}
	// The shell has handlers that sleep has not.
	comm := fmt.Sprintf("/proc/%d/comm", h.appPID(name))
	eventually(h.t, func() error {
		if b, err := os.ReadFile(comm); err != nil || string(b) != "sleep\n" {
			return fmt.Errorf("the app is %q (%v), not sleep yet", b, err)
		}
		return nil
	})
	return p
}

// state is the state of a pod as list has it.
func (h *host) state(name string) string {
	h.t.Helper()
	var pods []struct {
		UUID, Name, State string
	}
	out := h.must("list", "--format=json")
	if err := json.Unmarshal([]byte(out), &pods); err != nil {
		h.t.Fatalf("list printed %q: %v", out, err)
	}
	for _, p := range pods {
		if p.Name == name || p.UUID == name {
			return p.State
		}
	}
	return "absent"
}

func TestSignalsReachTheApp(t *testing.T) {
	h := newHost(t)
	for _, s := range []struct {
		signal syscall.Signal
		code   int
	}{
		// sleep is pid 1 and has no handler: the supervisor must see to it.
		{syscall.SIGINT, 130}, {syscall.SIGTERM, 143}, {syscall.SIGQUIT, 131},
	} {
		p := h.ready("sleeper")
		p.signal(s.signal)
		if got := p.wait(); got != s.code && got != 137 {
			t.Errorf("%v: exit code %d, want %d", s.signal, got, s.code)
		}
		h.must("rm", "sleeper")
	}

	ref := h.image("busybox")
	p := h.start("run", "--rm", ref, "--", "sh", "-c", "trap 'echo got usr1' USR1; trap 'echo got term; exit 3' TERM; echo ready; while :; do sleep 0.01; done")
	p.line()
	p.signal(syscall.SIGUSR1)
	if got := p.line(); got != "got usr1" {
		t.Errorf("USR1: %q", got)
	}
	p.signal(syscall.SIGTERM)
	if got := p.line(); got != "got term" {
		t.Errorf("TERM: %q", got)
	}
	if code := p.wait(); code != 3 {
		t.Errorf("exit code %d, want the app's 3", code)
	}
}

func TestStopGivesGraceAndThenKills(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	p := h.start("run", "--name=deaf", ref, "--stop-timeout=200ms", "--", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.01; done")
	p.line()
	h.must("stop", "deaf")
	if code := p.wait(); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
	if s := h.state("deaf"); s != "exited" {
		t.Errorf("state %s, want exited", s)
	}
	h.must("stop", "deaf") // again is no error
	h.must("rm", "deaf")
	h.refuses([]string{"rm", "deaf"}, "deaf")

	p = h.ready("forced")
	h.must("stop", "--force", "forced")
	if code := p.wait(); code != 137 {
		t.Errorf("--force: exit code %d, want 137", code)
	}
}

func TestStatusWaitsAndReports(t *testing.T) {
	h := newHost(t)
	p := h.ready("waited", "--name=only")
	done := h.start("status", "--wait", "--format=json", "waited")
	h.must("stop", "waited")
	p.wait()
	line := done.line()
	if !strings.Contains(line, `"exited"`) {
		t.Errorf("status --wait printed %q", line)
	}
	done.wait()
	r := h.rkt("status", "waited")
	for _, want := range []string{"state=exited", "app-only=143"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("status lacks %q:\n%s", want, r.stdout)
		}
	}
}

func TestEnterRunsInTheApp(t *testing.T) {
	h := newHost(t)
	p := h.ready("entered", "--memory=64M")
	if got := h.must("enter", "entered", "--", "sh", "-c", "echo $$; cat /etc/hostname | wc -l; ps | grep -c sleep"); got == "" {
		t.Errorf("enter printed nothing")
	}
	if code := h.rkt("enter", "entered", "--", "sh", "-c", "exit 9").code; code != 9 {
		t.Errorf("exit code %d, want 9", code)
	}
	if r := h.rkt("enter", "entered", "--", "no-such-command"); r.code != 127 || !strings.Contains(r.stderr, "not found") {
		t.Errorf("missing command: %d %q", r.code, r.stderr)
	}
	// The limit of the app holds for what enters it.
	r := h.rkt("enter", "entered", "--", "dd", "if=/dev/zero", "of=/dev/null", "bs=256M", "count=1")
	if r.code == 0 {
		t.Errorf("256 MB fitted into an app of 64 MB")
	}
	if s := h.state("entered"); s != "running" {
		t.Errorf("the pod is %s after that", s)
	}
	p.stop()
	h.refuses([]string{"enter", "entered", "--", "true"}, "not running")
}

// An app that changed its uid survives the death of its supervisor: the kernel
// clears its parent-death signal. rkt must see it, say it and end it.
func TestKilledSupervisorLeavesAnOrphanThatGCKills(t *testing.T) {
	h := newHost(t)
	ref := h.image("redis")
	p := h.start("run", "--name=orphan", ref, "--exec=/usr/sbin/gosu", "--", "redis", "sh", "-c", "echo ready; exec sleep 1000")
	p.line()
	pid := h.appPID("orphan")
	p.signal(syscall.SIGKILL)
	p.wait()
	if alive(pid) {
		if s := h.state("orphan"); s != "orphaned" {
			t.Errorf("state %s while the app lives, want orphaned", s)
		}
		h.refuses([]string{"run-prepared", "orphan"}, "not prepared")
	}
	h.must("gc", "--grace-period=0")
	if alive(pid) {
		t.Errorf("gc left the app alive")
	}
	if s := h.state("orphan"); s != "absent" {
		t.Errorf("state %s after gc", s)
	}
}

// appPID is the pid on the host of the first app of a pod.
func (h *host) appPID(name string) int {
	h.t.Helper()
	var status struct {
		Apps []struct{ PID int }
	}
	out := h.must("status", "--format=json", name)
	if err := json.Unmarshal([]byte(out), &status); err != nil || len(status.Apps) == 0 || status.Apps[0].PID == 0 {
		h.t.Fatalf("status printed %q: %v", out, err)
	}
	return status.Apps[0].PID
}

func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func TestGCKeepsWhatIsYoungAndWhatLives(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	running := h.ready("running")
	h.must("run", "--name=ended", ref, "--", "true")
	h.must("prepare", "--name=prepared", ref)
	h.must("gc") // 30 minutes of grace
	for name, want := range map[string]string{"running": "running", "prepared": "prepared"} {
		if s := h.state(name); s != want {
			t.Errorf("%s is %s, want %s", name, s, want)
		}
	}
	if s := h.state("ended"); s != "exited" && s != "exited-garbage" && s != "exited garbage" {
		t.Errorf("a pod that ended just now is %s", s)
	}
	h.must("gc", "--grace-period=0")
	if s := h.state("ended"); s != "absent" {
		t.Errorf("ended is %s after gc without grace", s)
	}
	h.must("gc", "--grace-period=0", "--expire-prepared=0")
	if s := h.state("prepared"); s != "absent" {
		t.Errorf("prepared is %s after it expired", s)
	}
	if s := h.state("running"); s != "running" {
		t.Errorf("running is %s", s)
	}
	h.refuses([]string{"rm", "running"}, "running")
	running.stop()
}

func TestNamesAndPrefixes(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	p := h.ready("taken")
	h.refuses([]string{"run", "--name=taken", ref}, "taken")
	h.refuses([]string{"prepare", "--name=taken", ref}, "taken")
	p.stop()
	// An exited pod gives its name up.
	h.must("run", "--name=taken", ref, "--", "true")

	for i := range 20 {
		h.must("prepare", "--name=p"+strconv.Itoa(i), ref)
	}
	seen := map[string]int{}
	for _, line := range strings.Split(h.must("list", "--full", "--no-legend"), "\n") {
		seen[line[:1]]++
	}
	for first, n := range seen {
		if n > 1 {
			h.refuses([]string{"status", first}, "matches")
		}
	}
	for _, bad := range []string{"../../etc", ".", "..", strings.Repeat("a", 4096), "/"} {
		for _, verb := range []string{"rm", "status", "stop", "cat-manifest"} {
			h.refuses([]string{verb, bad})
		}
	}
	h.refuses([]string{"rm", ""}, "empty")
}

func TestListFormats(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	h.must("run", "--name=one", ref, "--name=first", "--", "true", "---", ref, "--name=second", "--", "true")
	table := h.must("list")
	for _, want := range []string{"UUID", "STATE", "one", "first", "second", "exited"} {
		if !strings.Contains(table, want) {
			t.Errorf("list lacks %q:\n%s", want, table)
		}
	}
	var manifest map[string]any
	if err := json.Unmarshal([]byte(h.must("cat-manifest", "one")), &manifest); err != nil {
		t.Errorf("cat-manifest: %v", err)
	}
}

// Removing a pod never follows what a dead pod's folder leads to (RT-37).
func TestRemovalStaysInThePod(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	canary := t.TempDir()
	write(t, filepath.Join(canary, "precious"), "precious\n")
	h.must("run", "--name=trap", ref, "--", "ln", "-s", canary, "/link")
	uuid := h.firstPod()
	upper, err := filepath.Glob(filepath.Join(h.data, "pods", "*", uuid, "apps", "*", "fs", "upper"))
	if err != nil || len(upper) != 1 {
		t.Fatalf("the app's writable layer: %v %v", upper, err)
	}
	inside := filepath.Join(upper[0], "mounted")
	if err := os.Mkdir(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "--bind", canary, inside).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	r := h.rkt("rm", "trap")
	if out, err := exec.Command("sh", "-c", "umount "+filepath.Join(h.data, "pods", "*", uuid, "apps", "*", "fs", "upper", "mounted")).CombinedOutput(); err != nil {
		t.Errorf("umount: %s", out)
	}
	if r.code != 125 || !strings.Contains(r.stderr, "mount") {
		t.Errorf("rm of a pod with a mount inside: %d %q", r.code, r.stderr)
	}
	if b, _ := os.ReadFile(filepath.Join(canary, "precious")); string(b) != "precious\n" {
		t.Errorf("the canary is gone")
	}
	h.must("gc", "--grace-period=0")
}

func TestRestartPolicies(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	got := h.rkt("run", "--rm", "--volume=v,kind=empty", ref, "--restart=on-failure:3", "--mount=volume=v,target=/v", "--", "sh", "-c", "echo start >> /v/log; wc -l < /v/log; exit 4")
	if got.stdout != "1\n2\n3\n4\n" || got.code != 4 {
		t.Errorf("on-failure:3: code %d, %q", got.code, got.stdout)
	}
}
