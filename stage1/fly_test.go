package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// newFlyPod makes a pod of one app for the flavour fly.
func newFlyPod(t *testing.T, command []string) *testPod {
	p := newPod(t, command)
	p.pod.Stage1.Name = "fly"
	p.pod.User, p.pod.IPC, p.pod.UTS, p.pod.Net.Mode = contract.Shared, contract.Shared, contract.Shared, contract.NetHost
	p.pod.Hostname, p.host.IDs = "", nil
	p.apps["a"].PID = contract.PIDHost
	s := p.specs["a"]
	s.Process.Capabilities, s.Process.NoNewPrivileges, s.Mounts, s.Linux = nil, false, nil, &specs.Linux{}
	return p
}

// TestFly looks at an app of fly from inside.
func TestFly(t *testing.T) {
	p := newFlyPod(t, script(
		"readlink /proc/self/ns/user; readlink /proc/self/ns/net; readlink /proc/self/ns/pid",
		"readlink /proc/self/ns/mnt",
		"ls /; cat /data/x; ls /dev/kmsg /sys/kernel >/dev/null && echo host",
		"echo new > /data/y; echo own > /bin/own",
		"head -60 /proc/self/status",
	))
	volume := t.TempDir()
	p.must(os.WriteFile(filepath.Join(volume, "x"), []byte("volume\n"), 0o644))
	p.specs["a"].Mounts = []specs.Mount{
		{Destination: "/data", Type: "bind", Source: volume, Options: []string{"rbind"}},
		{Destination: "/scratch", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=64k"}},
	}
	code, out, stderr := p.run()
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, stderr %q, stdout %q", code, stderr, out)
	}
	lines := strings.Fields(out)
	for i, ns := range []string{"user", "net", "pid"} {
		host, err := os.Readlink("/proc/self/ns/" + ns)
		p.must(err)
		if lines[i] != host {
			t.Errorf("%s namespace is %s, want the host's %s", ns, lines[i], host)
		}
	}
	if host, _ := os.Readlink("/proc/self/ns/mnt"); lines[3] == host {
		t.Error("the mount namespace is the host's")
	}
	own, err := os.ReadFile("/proc/self/status")
	p.must(err)
	for _, want := range []string{"volume", "host", "scratch", field(string(own), "CapEff"), field(string(own), "CapBnd")} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in %q", want, out)
		}
	}
	if b, err := os.ReadFile(filepath.Join(volume, "y")); err != nil || string(b) != "new\n" {
		t.Errorf("the app wrote %q to the volume, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(p.pods, "layer/bin/own")); err == nil {
		t.Error("the app wrote to its image")
	}
	p.checkClean()
}

// field is a line of /proc/PID/status.
func field(status, key string) string {
	_, rest, _ := strings.Cut(status, key+":")
	line, _, _ := strings.Cut(rest, "\n")
	return key + ":" + line
}

// TestFlyLifecycle enters, stops and collects a pod of fly.
func TestFlyLifecycle(t *testing.T) {
	sleeper := []string{"sh", "-c", "setsid sleep 1000 & exec sleep 1000"}
	t.Run("stop", func(t *testing.T) {
		p := newFlyPod(t, sleeper)
		r := p.start()
		p.await(contract.ReadyFile)
		p.must(p.entry("fly", "stop").Run())
		if code := r.wait(); code != 143 {
			t.Errorf("exit code %d, want 143; stderr %q", code, r.stderr.String())
		}
		p.checkClean()
	})
	t.Run("enter", func(t *testing.T) {
		p := newFlyPod(t, sleeper)
		p.start()
		p.await(contract.ReadyFile)
		code, out := p.flyEnter("sh", "-c", "ls /; readlink /proc/self/ns/mnt; exit 9")
		ns, err := os.Readlink("/proc/" + itoa(p.started("a").PID) + "/ns/mnt")
		p.must(err)
		if code != 9 || !strings.Contains(out, "tmp") || !strings.Contains(out, ns) {
			t.Errorf("exit code %d, output %q, want 9 and %s", code, out, ns)
		}
		p.must(p.entry("fly", "stop", "--force").Run())
		p.awaitThat("the end", func() bool { return len(p.cgroupFolders()) == 0 })
	})
	t.Run("gc of an orphan and what it started", func(t *testing.T) {
		p := newFlyPod(t, sleeper)
		r := p.start()
		p.await(contract.ReadyFile)
		p.must(r.cmd.Process.Kill())
		r.wait()
		if out, err := p.entry("fly", "gc").CombinedOutput(); err != nil {
			t.Fatalf("gc: %v: %s", err, out)
		}
		if pid := p.started("a").PID; alive(pid) {
			t.Errorf("process %d is alive", pid)
		}
		p.checkClean()
	})
	t.Run("refused", func(t *testing.T) {
		p := newFlyPod(t, sleeper)
		p.specs["a"].Linux.MaskedPaths = []string{"/proc/kcore"}
		code, _, stderr := p.run()
		if code != 125 || !strings.Contains(stderr, "this stage1 has no support for masked paths") {
			t.Errorf("exit code %d, stderr %q", code, stderr)
		}
		p.checkClean()
	})
}

// flyEnter runs a command in the app.
func (p *testPod) flyEnter(args ...string) (int, string) {
	p.t.Helper()
	b, err := json.Marshal(contract.EnterRequest{
		Version: contract.Version, App: "a", Args: args, Candidates: []string{"/bin/" + args[0]}, Env: []string{"PATH=/bin"}, Cwd: "/",
	})
	p.must(err)
	fd, err := unix.MemfdCreate("request", unix.MFD_CLOEXEC)
	p.must(err)
	f := os.NewFile(uintptr(fd), "request")
	defer f.Close()
	_, err = f.Write(b)
	p.must(err)
	_, err = f.Seek(0, 0)
	p.must(err)
	cmd := p.entry("fly", "enter")
	cmd.ExtraFiles = []*os.File{f}
	out, err := cmd.CombinedOutput()
	if _, ok := err.(*exec.ExitError); err != nil && !ok {
		p.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}
