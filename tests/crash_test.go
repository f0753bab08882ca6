package tests

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// crashBudgetVariable is how long each test here goes on, as a time.Duration;
// 0 = until every point was tried, as `make test-crash` does.
const crashBudgetVariable = "RKT_CRASH_BUDGET"

// fault is what happens at a point.
type fault struct {
	inject string // as strace has it
	calls  []string
}

// killed ends the process before a call that changes what is on the disk, in the
// kernel or between processes.
var killed = fault{"signal=SIGKILL", []string{
	"openat", "openat2", "write", "pwrite64", "fsync", "ftruncate", "renameat", "renameat2", "linkat", "unlinkat", "mkdirat",
	"fchmod", "fchmodat", "fchown", "fcntl", "flock", "mount", "move_mount", "open_tree", "mount_setattr", "fsmount", "umount2", "clone3",
	"setns", "unshare", "execve", "sendmsg", "pidfd_send_signal",
}}

// full and broken are a disk without space and one that fails. A pipe cannot
// fail, and os/exec would wait for ever if its own did: read is left out.
var (
	full = fault{"error=ENOSPC", []string{
		"write", "pwrite64", "writev", "copy_file_range", "fallocate", "ftruncate", "mkdirat", "symlinkat", "linkat", "renameat", "renameat2", "fsync",
	}}
	broken = fault{"error=EIO", []string{"pread64", "write", "pwrite64", "fsync", "syncfs", "sync_file_range", "renameat2", "unlinkat", "getdents64"}}
)

// SIGKILL of any process of a command before any of its system calls: the next
// command sees the truth and finishes or undoes what was begun. C1-1, INV-1,
// INV-2, INV-6, INV-7, INV-8, INV-10.
func TestKilledAtAnyCall(t *testing.T) { tryFaults(t, 45*time.Second, killed) }

// A disk that is full, or fails, at any call: the command fails and says so, and
// the same holds. C3-1, C3-2.
func TestDiskFailsAtAnyCall(t *testing.T) { tryFaults(t, 45*time.Second, full, broken) }

func tryFaults(t *testing.T, budget time.Duration, faults ...fault) {
	if s := os.Getenv(crashBudgetVariable); s != "" {
		var err error
		if budget, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	h := newHost(t)
	ref := h.image("busybox")
	h.must("run", "--rm", ref, "--", "true") // mounts the layers
	other := "oci:" + layout(t, "layers")
	fetched := h.must("fetch", other)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := &crash{host: h, ref: ref, random: rand.New(rand.NewPCG(seed, 0))}

	drop := func() {
		if strings.Contains(h.must("image", "list", "--no-legend", "--fields=id", "--full"), fetched) {
			h.must("image", "rm", fetched)
		}
		h.must("gc", "--images")
	}
	commands := []crashCommand{
		{name: "fetch", before: drop, argv: []string{"fetch", other}, again: true},
		{name: "run", argv: []string{"run", ref, "--", "true"}, again: true},
		{name: "run --rm", argv: []string{"run", "--rm", ref, "--", "true"}, again: true},
		{name: "prepare", argv: []string{"prepare", ref, "--", "true"}, again: true},
		{name: "run-prepared", before: func() { h.must("prepare", "--name=p", ref, "--", "true") }, argv: []string{"run-prepared", "p"}},
		{name: "rm", before: func() { h.must("run", "--name=p", ref, "--", "true") }, argv: []string{"rm", "p"}},
		{name: "gc", before: func() {
			h.must("run", "--name=p", ref, "--", "true")
			h.must("prepare", ref)
		}, argv: []string{"gc", "--grace-period=0", "--expire-prepared=0"}, again: true},
		{name: "image rm", before: func() { h.must("fetch", other) }, argv: []string{"image", "rm", fetched}},
		{name: "gc --images", before: func() { h.must("fetch", other); h.must("image", "rm", fetched) }, argv: []string{"gc", "--images"}, again: true},
		{name: "trust add", argv: []string{"trust", "add", "--accept", "registry.example/crash"}, again: true},
	}
	for _, command := range commands {
		for _, f := range faults {
			c.tryAll(command, f, budget/time.Duration(len(commands)*len(faults)))
		}
	}
}

// crashCommand is a command that meets faults.
type crashCommand struct {
	name   string
	before func() // makes what it works on; may be nil
	argv   []string
	again  bool // it can be given again, and must succeed then
}

// crash lets commands meet faults.
type crash struct {
	*host
	ref    string // an image that is there
	random *rand.Rand
}

// crashPoint is the n-th use of a system call by one process.
type crashPoint struct {
	call string
	n    int
}

// tryAll tries a fault at all points of a command, in a random order, as long as
// there is time; 0 = no limit.
func (c *crash) tryAll(command crashCommand, f fault, budget time.Duration) {
	c.t.Helper()
	points := c.points(command, f)
	c.random.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	begin, tried := time.Now(), 0
	for _, p := range points {
		if budget > 0 && time.Since(begin) > budget {
			break
		}
		tried++
		c.try(command, f, p)
		if c.t.Failed() {
			c.t.Fatalf("%s, with %s at its %s number %d", command.name, f.inject, p.call, p.n)
		}
	}
	c.t.Logf("%s: %s at %d of %d points", command.name, f.inject, tried, len(points))
}

// try lets a command meet a fault at one point and looks at what is left.
func (c *crash) try(command crashCommand, f fault, p crashPoint) {
	c.t.Helper()
	if command.before != nil {
		command.before()
	}
	c.traced(command, p.call, fmt.Sprintf("inject=%s:%s:when=%d", p.call, f.inject, p.n), os.DevNull)
	c.must("list")
	if command.again {
		c.must(command.argv...)
	}
	for range 2 { // the second time there is nothing to do
		c.must("gc", "--grace-period=0", "--expire-prepared=0")
	}
	if left := c.must("list", "--no-legend"); left != "" {
		c.t.Errorf("gc left pods:\n%s", left)
	}
	c.must("fsck")
	if got := c.must("run", "--rm", c.ref, "--", "echo", "works"); got != "works" {
		c.t.Errorf("a pod printed %q", got)
	}
	if left := processes(filepath.Dir(c.data)); len(left) > 0 {
		c.t.Errorf("processes are left: %q", left)
	}
}

// points runs the command undisturbed and lists the calls of its processes.
func (c *crash) points(command crashCommand, fault fault) []crashPoint {
	c.t.Helper()
	if command.before != nil {
		command.before()
	}
	log := filepath.Join(c.t.TempDir(), "trace")
	c.traced(command, strings.Join(fault.calls, ","), "", log)
	f, err := os.Open(log)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	counts := map[string]map[string]int{} // by thread and call: strace counts so
	most := map[string]int{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		thread, rest, _ := strings.Cut(lines.Text(), " ")
		call, _, ok := strings.Cut(strings.TrimSpace(rest), "(")
		if !ok || strings.HasPrefix(call, "<") || strings.HasPrefix(call, "-") {
			continue
		}
		if counts[thread] == nil {
			counts[thread] = map[string]int{}
		}
		counts[thread][call]++
		most[call] = max(most[call], counts[thread][call])
	}
	var points []crashPoint
	for _, call := range fault.calls {
		for n := 1; n <= most[call]; n++ {
			points = append(points, crashPoint{call, n})
		}
	}
	if len(points) == 0 {
		c.t.Fatalf("%s: no call could be traced", command.name)
	}
	return points
}

// traced runs a command under strace to its end.
func (c *crash) traced(command crashCommand, calls, inject, log string) {
	c.t.Helper()
	argv := []string{"-f", "-qq", "-o", log, "-e", "trace=" + calls}
	if inject != "" {
		argv = append(argv, "-e", inject)
	}
	cmd := exec.CommandContext(c.t.Context(), "strace", append(argv, c.command(c.t.Context(), command.argv...).Args...)...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1") // fewer threads to count by
	cmd.WaitDelay = patience
	done := make(chan error, 1)
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		if inject == "" && err != nil {
			c.t.Fatalf("%s under strace: %v", command.name, err)
		}
	case <-time.After(patience):
		cmd.Process.Kill()
		c.t.Errorf("%s hangs with %s", command.name, inject)
	}
}
