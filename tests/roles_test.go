package tests

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// rktFetches returns the processes of rkt-fetch that rkt with that pid has
// started, by the role in their command line.
func rktFetches(rkt int) map[int]string {
	found := map[int]string{}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", rkt))
	for _, list := range lists {
		b, _ := os.ReadFile(list)
		for _, pid := range strings.Fields(string(b)) {
			cmdline, _ := os.ReadFile("/proc/" + pid + "/cmdline")
			args := strings.Split(string(cmdline), "\x00")
			if len(args) > 2 && args[0] == "rkt-fetch" {
				var n int
				fmt.Sscan(pid, &n)
				found[n] = args[1]
			}
		}
	}
	return found
}

// IM-16, SG-05: killing any of the processes of rkt-fetch, at any point, fails the
// fetch with a line that says so, or changes nothing; and the next one succeeds.
func TestKilledPartsOfRktFetch(t *testing.T) {
	for _, role := range []string{"registry", "local", "layer"} {
		t.Run(role, func(t *testing.T) {
			h := newHost(t)
			h.flags = append(h.flags, anyImage...)
			ref := "oci:" + layout(t, "nginx")
			if role == "registry" {
				_, ref = plainRegistry(t, "nginx", nil)
			}
			begin := time.Now()
			h.must("fetch", ref)
			whole := time.Since(begin)
			killed := 0
			for n := range 12 {
				forget(h)
				if h.fetchAndKill(ref, role, whole*time.Duration(n)/12) {
					killed++
				}
				if left, _ := filepath.Glob(h.data + "/cas/tmp/*"); len(left) != 0 {
					t.Errorf("files are left: %q", left)
				}
			}
			if killed < 3 {
				t.Errorf("%d of 12 fetches met a killed process", killed)
			}
			h.must("fetch", ref)
			h.must("fsck")
		})
	}
}

// forget removes every image and all that they were made of.
func forget(h *host) {
	for _, id := range strings.Fields(h.must("image", "list", "--no-legend", "--fields=id", "--full")) {
		h.must("image", "rm", id)
	}
	h.must("gc", "--images")
}

// fetchAndKill fetches and kills the first process in the role that is found
// after a while. It reports whether the fetch failed of it.
func (h *host) fetchAndKill(ref, role string, after time.Duration) bool {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	cmd := h.command(ctx, "fetch", ref)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	all := map[int]string{}
	due := time.Now().Add(after)
	for done := false; !done; {
		select {
		case err := <-ended:
			ended <- err
			done = true
			continue
		default:
		}
		for pid, r := range rktFetches(cmd.Process.Pid) {
			all[pid] = r
			if r == role && !done && time.Now().After(due) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				done = true
			}
		}
	}
	err := <-ended
	for pid := range all {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err == nil && strings.HasPrefix(string(b), "rkt-fetch") {
			h.t.Errorf("process %d (%s) is left", pid, b)
		}
	}
	if err == nil {
		return false
	}
	if code := cmd.ProcessState.ExitCode(); code != 125 || !strings.Contains(stderr.String(), "rkt-fetch ended before it was done: signal: killed") {
		h.t.Errorf("killed %s: exit code %d:\n%s", role, code, stderr.String())
	}
	if list := h.must("image", "list", "--no-legend"); list != "" {
		h.t.Errorf("a failed fetch left an image: %s", list)
	}
	return true
}
