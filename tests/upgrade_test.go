package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// installed are the files of a tree of programs that an upgrade replaces.
var installed = []string{
	"rkt", "rkt-fetch",
	"stage1/native/stage1", "stage1/native/manifest.json",
	"stage1/fly/stage1", "stage1/fly/manifest.json",
}

// install puts the programs of from into the tree to as a package manager does:
// each file beside its place, then renamed over what is there.
func install(t testing.TB, from, to string) {
	t.Helper()
	for _, name := range installed {
		b, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			t.Fatal(err)
		}
		replace(t, filepath.Join(to, name), b)
	}
}

func replace(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", content, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// newUpgradeHost makes a host with a tree of programs of its own.
func newUpgradeHost(t testing.TB) *host {
	t.Helper()
	bin := t.TempDir()
	install(t, program(""), bin)
	h := newHost(t) // is collected first
	h.bin = bin
	return h
}

// supervisorProgram is the inode of the program that supervises a pod.
func (h *host) supervisorProgram(p *process) string {
	h.t.Helper()
	info, err := os.Stat(fmt.Sprintf("/proc/%d/exe", p.cmd.Process.Pid))
	if err != nil {
		h.t.Fatal(err)
	}
	return inode(info)
}

func inode(info os.FileInfo) string { return fmt.Sprint(info.Sys().(*syscall.Stat_t).Ino) }

// Pods go on while rkt is upgraded, and everything works on them afterwards.
func TestUpgradeWithPodsRunning(t *testing.T) {
	h := newUpgradeHost(t)
	before := h.must("version")
	first, second := h.ready("first"), h.ready("second")
	orphan := h.ready("orphan")
	h.must("prepare", "--name=prepared", h.image("busybox"), "--", "sh", "-c", "echo prepared")
	h.must("run", "--name=over", h.image("busybox"), "--", "true")
	program := h.supervisorProgram(first)

	install(t, filepath.Join(os.Getenv("RKT_BIN"), "next"), h.bin)
	if after := h.must("version"); after == before {
		t.Fatalf("nothing was upgraded: both are %q", before)
	}
	for name, want := range map[string]string{"first": "running", "second": "running", "prepared": "prepared", "over": "exited"} {
		if got := h.state(name); got != want {
			t.Errorf("after the upgrade %s is %s, want %s", name, got, want)
		}
	}
	if now := h.supervisorProgram(first); now != program {
		t.Error("the supervisor runs another program than before")
	}
	if got := h.must("enter", "first", "--", "cat", "/proc/1/comm"); got != "sleep" {
		t.Errorf("enter found %q as the first process", got)
	}
	h.must("stop", "first")
	if code := first.wait(); code != 143 {
		t.Errorf("the stopped pod ended with %d, want 143", code)
	}
	h.must("stop", "--force", "second")
	if code := second.wait(); code != 137 {
		t.Errorf("the killed pod ended with %d, want 137", code)
	}
	orphan.cmd.Process.Kill()
	orphan.wait()
	h.must("stop", "orphan")
	if got := h.must("run-prepared", "prepared"); got != "prepared" {
		t.Errorf("what was prepared before prints %q", got)
	}
	third := h.ready("third")
	if h.supervisorProgram(third) == program {
		t.Error("a new pod runs under the old stage1")
	}
	third.stop()
	h.must("gc", "--grace-period=0")
	if left := h.must("list", "--no-legend"); left != "" {
		t.Errorf("after gc pods are left:\n%s", left)
	}
}

// A running pod is entered and stopped by its own stage1, whatever is installed
// by then: a folder without any program, or with one that does not work.
func TestRunningPodsKeepTheirStage1(t *testing.T) {
	const broken = `{"name":"native","contract":2,"entrypoints":{"run":["other"],"enter":["other"],"stop":["other"],"gc":["other"]}}`
	for name, change := range map[string]func(t *testing.T, dir string){
		"replaced": func(t *testing.T, dir string) {
			replace(t, filepath.Join(dir, "stage1"), []byte("#!/bin/sh\nexit 99\n"))
			replace(t, filepath.Join(dir, "other"), []byte("#!/bin/sh\nexit 98\n"))
			replace(t, filepath.Join(dir, "manifest.json"), []byte(broken))
		},
		"removed": func(t *testing.T, dir string) {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := newUpgradeHost(t)
			p := h.ready("web")
			change(t, filepath.Join(h.bin, "stage1/native"))
			if got := h.must("enter", "web", "--", "echo", "inside"); got != "inside" {
				t.Errorf("enter printed %q", got)
			}
			// The environment of whoever enters is nobody's: no fd but three.
			if got := h.must("enter", "web", "--", "sh", "-c", "ls /proc/self/fd | tr '\\n' ' '"); !strings.HasPrefix(got, "0 1 2 3") {
				t.Errorf("enter has the files %q", got)
			}
			h.must("stop", "web")
			if code := p.wait(); code != 143 {
				t.Errorf("the stopped pod ended with %d, want 143", code)
			}
			install(t, program(""), h.bin) // for the gc of the test's end
		})
	}
}
