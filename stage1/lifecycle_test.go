package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// TestConfinement looks at an app from inside.
func TestConfinement(t *testing.T) {
	p := newPod(t, script(
		"cat /proc/self/status | head -60",
		"cat /proc/self/uid_map",
		"cat /proc/sys/kernel/hostname",
		"ls /proc/self/fd",
		"echo x > /file && cat /file",
		"readlink /proc/self/ns/user",
	))
	p.specs["a"].Process.User = specs.User{UID: 1000, GID: 1000, AdditionalGids: []uint32{7}}
	if err := os.Chmod(filepath.Join(p.dir, contract.AppsDir, "a", contract.UpperDir), 0o777); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := p.run(func(c *exec.Cmd) {
		f, err := os.Open("/")
		p.must(err)
		c.ExtraFiles = append(c.ExtraFiles, f, f, f) // what an operator's shell may have open
	})
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d, stderr %q, stdout %q", code, stderr, out)
	}
	text := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{
		"Uid: 1000 1000 1000 1000", "Gid: 1000 1000 1000 1000", "Groups: 7", "NoNewPrivs: 1",
		"CapEff: 0000000000000000", "0 1900000000 65536", "testpod", " 0 1 2 3 x ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in %q", want, text)
		}
	}
	host, err := os.Readlink("/proc/self/ns/user")
	p.must(err)
	if strings.Contains(out, host) {
		t.Errorf("the app is in the host's user namespace")
	}
	p.checkClean()
}

// TestSignals sends signals to the supervisor and looks at what becomes of apps.
func TestSignals(t *testing.T) {
	trap := script("trap 'echo got; exit 7' INT USR1 HUP TERM", "echo up", "while :; do sleep 1000 & wait; done")
	for _, test := range []struct {
		name    string
		command []string
		signals []unix.Signal
		code    int
		signal  int
	}{
		{"interrupt without handler", []string{"sleep", "1000"}, []unix.Signal{unix.SIGINT}, 130, 2},
		{"hangup without handler", []string{"sleep", "1000"}, []unix.Signal{unix.SIGHUP}, 129, 1},
		{"quit without handler", []string{"sleep", "1000"}, []unix.Signal{unix.SIGQUIT}, 131, 3},
		{"terminate without handler", []string{"sleep", "1000"}, []unix.Signal{unix.SIGTERM}, 143, 15},
		{"ignored by all", []string{"sleep", "1000"}, []unix.Signal{unix.SIGWINCH, unix.SIGCONT, unix.SIGTERM}, 143, 15},
		{"interrupt with handler", trap, []unix.Signal{unix.SIGINT}, 7, 0},
		{"user signal with handler", trap, []unix.Signal{unix.SIGUSR1}, 7, 0},
		{"terminate with handler", trap, []unix.Signal{unix.SIGTERM}, 7, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPod(t, test.command)
			r := p.start()
			p.await(contract.ReadyFile)
			if len(test.command) > 2 {
				p.awaitThat("the handler", func() bool { return caught(p, "a") })
			}
			for _, sig := range test.signals {
				p.must(r.cmd.Process.Signal(sig))
			}
			if code := r.wait(); code != test.code {
				t.Errorf("exit code %d, want %d; stderr %q", code, test.code, r.stderr.String())
			}
			if e := p.exit("a"); e.Signal != test.signal || e.OOM {
				t.Errorf("exit record %+v, want signal %d", e, test.signal)
			}
			p.checkClean()
		})
	}
}

// caught says whether the app has a handler for SIGTERM.
func caught(p *testPod, app string) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.started(app).PID) + "/status")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), "SigCgt:")
	mask, err := strconv.ParseUint(strings.Fields(rest)[0], 16, 64)
	return err == nil && mask&(1<<14) != 0
}

// alive says whether the process exists and is no zombie.
func alive(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	state := b[strings.LastIndexByte(string(b), ')')+2]
	return state != 'Z' && state != 'X'
}

func (p *testPod) started(app string) contract.Started {
	p.t.Helper()
	s, err := contract.LoadStarted(p.dir, app)
	p.must(err)
	return *s
}

// TestEscalation stops an app that does not want to end.
func TestEscalation(t *testing.T) {
	stubborn := script("trap 'echo -n x >> /asked' TERM INT", "while :; do sleep 1000 & wait; done")
	for _, test := range []struct {
		name    string
		grace   int64
		signals []unix.Signal
	}{
		{"by grace", 50, []unix.Signal{unix.SIGTERM}},
		{"by a second terminate", 3_600_000, []unix.Signal{unix.SIGTERM, unix.SIGTERM}},
		{"by three interrupts", 3_600_000, []unix.Signal{unix.SIGINT, unix.SIGINT, unix.SIGINT}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPod(t, stubborn)
			p.apps["a"].StopGraceMillis = test.grace
			r := p.start()
			p.await(contract.ReadyFile)
			p.awaitThat("the handler", func() bool { return caught(p, "a") })
			asked := filepath.Join(p.dir, contract.AppsDir, "a", contract.UpperDir, "asked")
			for i, sig := range test.signals {
				p.must(r.cmd.Process.Signal(sig))
				// Two signals that are pending at once are one: wait for each.
				p.awaitThat("the app to be asked", func() bool {
					b, _ := os.ReadFile(asked)
					return len(b) > i || i+1 == len(test.signals)
				})
			}
			if code := r.wait(); code != 137 {
				t.Errorf("exit code %d, want 137; stderr %q", code, r.stderr.String())
			}
			p.checkClean()
		})
	}
}

// TestTwoApps checks how the end of one app concerns the other.
func TestTwoApps(t *testing.T) {
	t.Run("failure ends the pod", func(t *testing.T) {
		p := newPod(t, []string{"sleep", "1000"}, script("exit 3"))
		code, _, stderr := p.run()
		if code != 3 {
			t.Errorf("exit code %d, want 3; stderr %q", code, stderr)
		}
		if a, b := p.exit("a"), p.exit("b"); a.Signal != 15 || !a.Discarded || b.Code != 3 || b.Discarded {
			t.Errorf("exit records %+v and %+v", a, b)
		}
		p.checkClean()
	})
	t.Run("success waits for the other", func(t *testing.T) {
		p := newPod(t, []string{"true"}, script("read x; exit 0"))
		in, w, err := os.Pipe()
		p.must(err)
		r := p.start(func(c *exec.Cmd) { c.Stdin = in })
		p.await(filepath.Join(contract.AppsDir, "a", contract.ExitFile))
		w.Close()
		if code := r.wait(); code != 0 {
			t.Errorf("exit code %d, want 0; stderr %q", code, r.stderr.String())
		}
		p.checkClean()
	})
	t.Run("one that cannot start", func(t *testing.T) {
		p := newPod(t, []string{"sleep", "1000"}, []string{"nothing"})
		code, _, stderr := p.run()
		if code != 127 || !strings.Contains(stderr, "stage1: app b: execute") {
			t.Errorf("exit code %d, want 127; stderr %q", code, stderr)
		}
		if _, err := os.Stat(filepath.Join(p.dir, contract.ReadyFile)); err == nil {
			t.Error("the pod was ready")
		}
		p.checkClean()
	})
	t.Run("they share the network and not processes", func(t *testing.T) {
		look := script("echo $(readlink /proc/self/ns/net) $(readlink /proc/self/ns/pid)") // as one write
		p := newPod(t, look, look)
		code, out, stderr := p.run()
		f := strings.Fields(out)
		if code != 0 || len(f) != 4 || f[0] != f[2] || f[1] == f[3] {
			t.Errorf("exit code %d, namespaces %q, stderr %q", code, f, stderr)
		}
	})
}

// TestRestart counts the starts in a file of the writable layer.
func TestRestart(t *testing.T) {
	count := "echo x >> /count"
	for _, test := range []struct {
		name    string
		command []string
		restart contract.Restart
		code    int
		starts  int
	}{
		{"never", script(count, "exit 1"), contract.Restart{Policy: contract.RestartNo}, 1, 1},
		{"on failure, bounded", script(count, "exit 1"), contract.Restart{Policy: contract.RestartOnFailure, Max: 2}, 1, 3},
		{"on failure, not on success", script(count, "exit 0"), contract.Restart{Policy: contract.RestartOnFailure}, 0, 1},
		{"until success", script(count, "test $(cat /count | grep -c x) -ge 2"), contract.Restart{Policy: contract.RestartOnFailure}, 0, 2},
		{"always, bounded", script(count), contract.Restart{Policy: contract.RestartAlways, Max: 1}, 0, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPod(t, test.command)
			p.must(os.Symlink("busybox", filepath.Join(p.pods, "layer/bin/grep")))
			p.apps["a"].Restart = test.restart
			code, _, stderr := p.run()
			if code != test.code {
				t.Errorf("exit code %d, want %d; stderr %q", code, test.code, stderr)
			}
			b, err := os.ReadFile(filepath.Join(p.dir, contract.AppsDir, "a", contract.UpperDir, "count"))
			p.must(err)
			if n := strings.Count(string(b), "x"); n != test.starts || p.exit("a").Restarts != test.starts-1 || p.started("a").Restarts != test.starts-1 {
				t.Errorf("%d starts, want %d; exit %+v", n, test.starts, p.exit("a"))
			}
			p.checkClean()
		})
	}
}

// TestStopDuringBackoff stops a pod whose app waits for its restart.
func TestStopDuringBackoff(t *testing.T) {
	p := newPod(t, script("exit 4"))
	p.apps["a"].Restart = contract.Restart{Policy: contract.RestartAlways}
	r := p.start()
	p.awaitThat("three restarts", func() bool {
		s, err := contract.LoadStarted(p.dir, "a")
		return err == nil && s.Restarts >= 3 && !alive(s.PID)
	})
	p.must(p.entry("stop").Run())
	if code := r.wait(); code != 4 {
		t.Errorf("exit code %d, want 4; stderr %q", code, r.stderr.String())
	}
	p.checkClean()
}

// TestStop uses the entrypoint in all the states of a supervisor.
func TestStop(t *testing.T) {
	for _, test := range []struct {
		name  string
		args  []string
		state func(r *running)
		code  int
	}{
		{"asked", []string{"stop"}, func(*running) {}, 143},
		{"forced", []string{"stop", "--force"}, func(*running) {}, 137},
		{"forced while the supervisor hangs", []string{"stop", "--force"}, func(r *running) {
			r.must(r.cmd.Process.Signal(unix.SIGSTOP))
		}, 137},
		{"asked while the app is stopped", []string{"stop"}, func(r *running) {
			r.must(unix.Kill(r.started("a").PID, unix.SIGSTOP))
		}, 143},
		{"supervisor dead", []string{"stop"}, func(r *running) {
			r.must(r.cmd.Process.Kill())
			r.wait()
		}, 137},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPod(t, []string{"sleep", "1000"})
			r := p.start()
			p.await(contract.ReadyFile)
			pid := p.started("a").PID
			test.state(r)
			if out, err := p.entry(test.args...).CombinedOutput(); err != nil {
				t.Fatalf("stop: %v: %s", err, out)
			}
			p.awaitThat("the app to end", func() bool { return !alive(pid) })
			if test.name == "supervisor dead" {
				return
			}
			if code := r.wait(); code != test.code {
				t.Errorf("exit code %d, want %d; stderr %q", code, test.code, r.stderr.String())
			}
		})
	}
}

// TestOrphans kills the supervisor of an app that has changed its user, as gosu
// does, and lets gc clean up.
func TestOrphans(t *testing.T) {
	p := newPod(t, []string{"su", "-s", "/bin/sh", "u", "-c", "exec sleep 1000"})
	p.must(os.WriteFile(filepath.Join(p.pods, "layer/etc/passwd"), []byte("u:x:1000:1000::/:/bin/sh\n"), 0o644))
	r := p.start()
	p.await(contract.ReadyFile)
	pid := p.started("a").PID
	p.awaitThat("the change of user", func() bool {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		return err == nil && strings.HasPrefix(string(b), "sleep")
	})
	p.must(r.cmd.Process.Kill())
	r.wait()
	if !alive(pid) {
		t.Fatal("the app went with its supervisor")
	}
	for range 2 { // the second time there is nothing to do
		if out, err := p.entry("gc").CombinedOutput(); err != nil {
			t.Fatalf("gc: %v: %s", err, out)
		}
	}
	if alive(pid) {
		t.Error("the app is alive after gc")
	}
	p.checkClean()
}

// TestRemove runs a pod that is to leave nothing.
func TestRemove(t *testing.T) {
	p := newPod(t, script("echo x > /file; mkdir -p /a/b/c; chmod 0 /a"))
	p.pod.Remove = true
	code, _, stderr := p.run()
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	for _, dir := range []string{p.dir, filepath.Join(p.pods, contract.GarbageDir, p.pod.UUID)} {
		if _, err := os.Lstat(dir); err == nil {
			t.Errorf("%s is left", dir)
		}
	}
	p.checkClean()
}

// TestLeftovers runs an app in the host's pid namespace that leaves a process
// behind which holds its stdout.
func TestLeftovers(t *testing.T) {
	p := newPod(t, script("setsid sleep 1000 &", "echo done"))
	p.apps["a"].PID = contract.PIDHost
	code, out, stderr := p.run(func(c *exec.Cmd) {
		f, err := os.Create(filepath.Join(p.pods, "out"))
		p.must(err)
		c.Stdout = f
	})
	b, err := os.ReadFile(filepath.Join(p.pods, "out"))
	p.must(err)
	if code != 0 || string(b) != "done\n" {
		t.Errorf("exit code %d, stdout %q %q, stderr %q", code, out, b, stderr)
	}
	p.checkClean()
}

// TestOOM lets the kernel kill an app for memory (v1 and v2).
func TestOOM(t *testing.T) {
	p := newPod(t, script("exec tail /dev/zero"))
	limit := filepath.Join(p.host.Cgroup.V2, "app.a/memory.max")
	if dir := p.host.Cgroup.V1["memory"]; dir != "" {
		limit = filepath.Join(dir, "app.a/memory.limit_in_bytes")
	}
	if err := os.WriteFile(limit, []byte("16777216"), 0); err != nil {
		p.write() // for the clean-up
		t.Skipf("no memory controller: %v", err)
	}
	code, _, stderr := p.run()
	if e := p.exit("a"); code != 137 || !e.OOM || e.Signal != 9 {
		t.Errorf("exit code %d, record %+v, stderr %q", code, e, stderr)
	}
	p.checkClean()
}

// TestClosedStreams starts a pod without stdin, stdout and stderr.
func TestClosedStreams(t *testing.T) {
	p := newPod(t, script("echo out; echo err >&2; exit 5"))
	p.write()
	cmd := exec.Command("/bin/sh", "-c", `exec 3<>lock && exec "$0" run <&- >&- 2>&-`, program)
	cmd.Dir = p.dir
	_ = cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 5 {
		t.Errorf("exit code %d, want 5", code)
	}
	p.checkClean()
}

// TestTimesOfExit checks that records are in order.
func TestTimesOfExit(t *testing.T) {
	before := time.Now().UnixNano()
	p := newPod(t, []string{"true"})
	p.run()
	if s, e := p.started("a"), p.exit("a"); s.Nanos < before || e.Nanos < s.Nanos {
		t.Errorf("started at %d, exit at %d, test at %d", s.Nanos, e.Nanos, before)
	}
}
