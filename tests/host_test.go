// Package tests runs the built programs as their users do: on real images,
// real registries and a real kernel, as root, and looks at the host's side of
// what they did. It imports nothing of the product.
//
// RKT_BIN names the folder of the programs and RKT_TEST_CACHE the folder that
// keeps the images; `make test-e2e` sets both. RKT_TEST_DRIVER mounts layers by
// a driver that is not this host's first choice.
package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// patience bounds every wait for something that is about to happen. A machine
// without hardware help, RKT_TEST_SLOW, needs more.
var patience = func() time.Duration {
	if os.Getenv("RKT_TEST_SLOW") != "" {
		return 2 * time.Minute
	}
	return 30 * time.Second
}()

// host is a store and a run folder of their own on this machine.
type host struct {
	t      testing.TB
	data   string
	run    string
	conf   string // --local-config
	vendor string // --system-config; "" = there is none
	bin    string // where rkt is; "" = RKT_BIN
	// flags are further flags of every command.
	flags []string
}

// newHost makes an empty host. When the test is over, everything on it is
// stopped and collected, and nothing of it may be left on the machine.
func newHost(t testing.TB) *host {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("these tests need root")
	}
	base, err := os.MkdirTemp("/var/tmp", "rkt-test-")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, data: filepath.Join(base, "data"), run: filepath.Join(base, "run"), conf: filepath.Join(base, "etc")}
	if err := os.Mkdir(h.conf, 0o755); err != nil {
		t.Fatal(err)
	}
	if driver := os.Getenv("RKT_TEST_DRIVER"); driver != "" {
		h.flags = []string{"--driver=" + driver}
	}
	before := cgroups()
	t.Cleanup(func() {
		h.collect()
		h.assertNothingLeft(before)
		if err := os.RemoveAll(base); err != nil {
			t.Errorf("remove the test's folder: %v", err)
		}
	})
	return h
}

// collect ends every pod and takes everything off the store.
func (h *host) collect() {
	h.t.Helper()
	for _, line := range strings.Split(h.rkt("list", "--full", "--no-legend").stdout, "\n") {
		if uuid, _, _ := strings.Cut(strings.TrimSpace(line), " "); len(uuid) == 36 {
			h.rkt("stop", "--force", uuid)
		}
	}
	h.must("gc", "--grace-period=0", "--expire-prepared=0")
	for _, line := range strings.Split(h.rkt("image", "list", "--no-legend", "--fields=id", "--full").stdout, "\n") {
		if id := strings.TrimSpace(line); id != "" {
			h.rkt("image", "rm", id)
		}
	}
	h.must("gc", "--images")
}

func (h *host) assertNothingLeft(cgroupsBefore map[string]bool) {
	h.t.Helper()
	base := filepath.Dir(h.data)
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || bytes.Contains(mounts, []byte(base)) {
		h.t.Errorf("mounts are left under %s (%v):\n%s", base, err, grep(string(mounts), base))
	}
	for _, p := range processes(base) {
		h.t.Errorf("a process is left: %s", p)
	}
	h.assertCgroupsGone(cgroupsBefore)
	for _, pattern := range []string{"data/pods/*/*", "data/cas/tmp/*", "data/cas/blobs/sha256/*", "run/pods/*", "run/ids/[0-9]*"} {
		if left, _ := filepath.Glob(filepath.Join(base, pattern)); len(left) > 0 {
			h.t.Errorf("files are left: %s", strings.Join(left, " "))
		}
	}
}

// assertCgroupsGone finds the cgroups of pods that are left for good. Those of
// somebody else's pods on this machine come and go.
func (h *host) assertCgroupsGone(before map[string]bool) {
	h.t.Helper()
	suspects := cgroups()
	for c := range before {
		delete(suspects, c)
	}
	deadline := time.Now().Add(patience / 3)
	for len(suspects) > 0 && time.Now().Before(deadline) {
		now := cgroups()
		for c := range suspects {
			if !now[c] {
				delete(suspects, c)
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	for c := range suspects {
		h.t.Errorf("a cgroup is left: %s", c)
	}
}

// grep returns the lines of s that hold what.
func grep(s, what string) string {
	var out strings.Builder
	for line := range strings.Lines(s) {
		if strings.Contains(line, what) {
			out.WriteString(line)
		}
	}
	return out.String()
}

// processes lists the processes whose command line or root mentions path.
func processes(path string) []string {
	var found []string
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		if d == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join(d, "cmdline"))
		cwd, _ := os.Readlink(filepath.Join(d, "cwd"))
		if bytes.Contains(cmdline, []byte(path)) || strings.HasPrefix(cwd, path) {
			found = append(found, fmt.Sprintf("%s %q cwd %s", filepath.Base(d), cmdline, cwd))
		}
	}
	return found
}

// cgroups lists the cgroups that rkt made, in every hierarchy.
func cgroups() map[string]bool {
	found := map[string]bool{}
	filepath.WalkDir("/sys/fs/cgroup", func(p string, d os.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(d.Name(), "rkt") {
			found[p] = true
		}
		return nil
	})
	return found
}

// result is how a command ended.
type result struct {
	args           []string
	stdout, stderr string
	code           int
}

// command is the program rkt with the folders of h.
func (h *host) command(ctx context.Context, args ...string) *exec.Cmd {
	all := append(h.arguments(), args...)
	if slices.ContainsFunc(args, isLimit) && delegates() {
		return exec.CommandContext(ctx, "systemd-run", append([]string{"--quiet", "--scope", "--property=Delegate=yes", "--", h.program()}, all...)...)
	}
	return exec.CommandContext(ctx, h.program(), all...)
}

// arguments are those that every command of h begins with.
func (h *host) arguments() []string {
	vendor := h.vendor
	if vendor == "" {
		vendor = "/nonexistent"
	}
	return append([]string{"--dir=" + h.data, "--run-dir=" + h.run, "--local-config=" + h.conf, "--system-config=" + vendor}, h.flags...)
}

func isLimit(arg string) bool {
	return strings.HasPrefix(arg, "--memory=") || strings.HasPrefix(arg, "--cpu=") || strings.HasPrefix(arg, "--pids=")
}

// delegates says whether limits need what systemd delegates: with cgroup v2 alone,
// a cgroup in which a shell or a test is beside rkt gives its children none.
func delegates() bool {
	_, unified := os.Stat("/sys/fs/cgroup/cgroup.controllers")
	_, booted := os.Stat("/run/systemd/system")
	return unified == nil && booted == nil
}

// program is the path of the rkt of h.
func (h *host) program() string {
	if h.bin != "" {
		return filepath.Join(h.bin, "rkt")
	}
	return program("rkt")
}

// program is the path of a built program.
func program(name string) string {
	return filepath.Join(os.Getenv("RKT_BIN"), name)
}

// rkt runs rkt to its end, with stdin empty.
func (h *host) rkt(args ...string) result {
	h.t.Helper()
	return h.rktWith(nil, args...)
}

// rktWith runs rkt to its end after edit changed its command.
func (h *host) rktWith(edit func(*exec.Cmd), args ...string) result {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	cmd := h.command(ctx, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = patience
	if edit != nil {
		edit(cmd)
	}
	err := cmd.Run()
	r := result{args: args, stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		h.t.Fatalf("rkt %s: %v\n%s", strings.Join(args, " "), err, r.stderr)
	}
	if strings.Contains(r.stderr, "goroutine ") || strings.Contains(r.stderr, "panic:") {
		h.t.Errorf("rkt %s: panicked:\n%s", strings.Join(args, " "), r.stderr)
	}
	return r
}

// must runs rkt, which must succeed, and returns its stdout without the last newline.
func (h *host) must(args ...string) string {
	h.t.Helper()
	r := h.rkt(args...)
	if r.code != 0 {
		h.t.Fatalf("rkt %s: exit code %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return strings.TrimSuffix(r.stdout, "\n")
}

// refuses runs rkt, which must refuse with rkt's own exit code and one error
// line that holds all of want.
func (h *host) refuses(args []string, want ...string) result {
	h.t.Helper()
	r := h.rkt(args...)
	r.assertRefusal(h.t, want...)
	return r
}

func (r result) assertRefusal(t testing.TB, want ...string) {
	t.Helper()
	if r.code != 125 {
		t.Errorf("rkt %s: exit code %d, want 125\nstdout: %s\nstderr: %s", strings.Join(r.args, " "), r.code, r.stdout, r.stderr)
	}
	if n := strings.Count(r.stderr, "rkt: error: "); n != 1 {
		t.Errorf("rkt %s: %d error lines, want 1:\n%s", strings.Join(r.args, " "), n, r.stderr)
	}
	for _, w := range want {
		if !strings.Contains(r.stderr, w) {
			t.Errorf("rkt %s: the message lacks %q:\n%s", strings.Join(r.args, " "), w, r.stderr)
		}
	}
}

// eventually waits until check is nil, for things that give no event to wait on.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %v: %v", patience, err)
		}
		<-tick.C
	}
}
