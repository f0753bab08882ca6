package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// rested says whether the supervisor has executed itself again.
func (r *running) rested() bool {
	b, err := os.ReadFile("/proc/" + itoa(r.cmd.Process.Pid) + "/cmdline")
	return err == nil && strings.Contains(string(b), "--resume=")
}

// awaitRest waits until the supervisor has let its memory go.
func (r *running) awaitRest() {
	r.t.Helper()
	r.awaitThat("the supervisor to rest", r.rested)
}

// files counts what the supervisor has open, once nothing is under way.
func (r *running) files() (n int) {
	r.t.Helper()
	last := -1
	r.awaitThat("nothing to be under way", func() bool {
		fds, err := os.ReadDir("/proc/" + itoa(r.cmd.Process.Pid) + "/fd")
		r.must(err)
		last, n = n, len(fds)
		time.Sleep(20 * time.Millisecond)
		return n == last
	})
	return n
}

// incarnation differs between a process and what it executes: the end of its stack.
func (r *running) incarnation() string {
	b, err := os.ReadFile("/proc/" + itoa(r.cmd.Process.Pid) + "/maps")
	r.must(err)
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, "[stack]") {
			_, end, _ := strings.Cut(strings.Fields(line)[0], "-")
			return end
		}
	}
	return ""
}

// TestRestedSupervisorGoesOn looks at all that a supervisor does after a rest.
func TestRestedSupervisorGoesOn(t *testing.T) {
	p := newPod(t, script("trap 'echo heard' USR1", "trap 'echo bye; exit 9' TERM", "echo up; echo err >&2", "while :; do sleep 1000 & wait; done"),
		script("trap '' USR1; exec sleep 1000"))
	dir := t.TempDir()
	a := p.apps["a"]
	a.Stdout = contract.Stream{Kind: contract.StreamFile, Path: filepath.Join(dir, "out"), Format: "raw"}
	a.Stderr = contract.Stream{Kind: contract.StreamFile, Path: filepath.Join(dir, "err"), Format: "raw"}
	p.apps["b"].StopSignal = int(unix.SIGINT)
	r := p.start()
	p.await(contract.ReadyFile)
	before := r.files()
	r.awaitRest()
	log := func(want string) {
		t.Helper()
		p.awaitThat(fmt.Sprintf("the log to be %q", want), func() bool {
			b, _ := os.ReadFile(filepath.Join(dir, "out"))
			return string(b) == want
		})
	}
	log("up\n")
	p.must(r.cmd.Process.Signal(unix.SIGUSR1))
	log("up\nheard\n")
	p.awaitThat("no more open files than before", func() bool { return r.files() <= before })
	if out, err := p.entry("stop").CombinedOutput(); err != nil {
		t.Errorf("stop: %v: %s", err, out)
	}
	if code := r.wait(); code != 9 && code != 130 {
		t.Errorf("exit code %d, want 9 or 130; stderr %q", code, r.stderr.String())
	}
	log("up\nheard\nbye\n")
	if a, b := p.exit("a"), p.exit("b"); a.Code != 9 || b.Signal != int(unix.SIGINT) {
		t.Errorf("exit records %+v and %+v", a, b)
	}
	p.checkClean()
}

// TestRestBetweenStarts rests again after an app was started again.
func TestRestBetweenStarts(t *testing.T) {
	p := newPod(t, script("sleep 1000 & wait; exit 3"))
	p.apps["a"].Restart = contract.Restart{Policy: contract.RestartOnFailure}
	p.apps["a"].Stdout = contract.Stream{Kind: contract.StreamFile, Path: filepath.Join(t.TempDir(), "log"), Format: "cri"}
	r := p.start(asStage0Does)
	p.await(contract.ReadyFile)
	files, memory, before := 0, 0, ""
	for start := range 4 {
		p.awaitThat("a start", func() bool {
			s, err := contract.LoadStarted(p.dir, "a")
			return err == nil && s.Restarts == start && alive(s.PID)
		})
		p.awaitThat("the supervisor to have rested since", func() bool { return r.rested() && r.incarnation() != before })
		before = r.incarnation()
		open, now := r.files(), pss(t, r.cmd.Process.Pid)-filePages(t, r)
		t.Logf("start %d: %d files, %d KiB", start, open, now)
		if start == 0 {
			files, memory = open, now
		}
		if open > files || now > memory+128 {
			t.Errorf("after %d restarts the supervisor has %d files and %d KiB, %d and %d at first", start, open, now, files, memory)
		}
		p.must(unix.Kill(p.started("a").PID, unix.SIGKILL))
	}
	if out, err := p.entry("stop").CombinedOutput(); err != nil {
		t.Errorf("stop: %v: %s", err, out)
	}
	r.wait()
	p.checkClean()
}

// filePages is what the program itself has in memory, which all supervisors of a
// host share, in KiB.
func filePages(t *testing.T, r *running) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + itoa(r.cmd.Process.Pid) + "/smaps_rollup")
	r.must(err)
	_, rest, _ := strings.Cut(string(b), "\nPss_File:")
	var n int
	_, err = fmt.Sscan(rest, &n)
	r.must(err)
	return n
}

// TestTerminalOfARestedSupervisor types into an app before and after a rest.
func TestTerminalOfARestedSupervisor(t *testing.T) {
	pty := contract.Stream{Kind: contract.StreamPTY}
	master, slave := openPTY(t)
	p := newPod(t, script("trap 'stty size' WINCH", "echo up", "while :; do read line || continue; echo \"read $line\"; test \"$line\" = end && exit 6; done"))
	p.apps["a"].Stdin, p.apps["a"].Stdout, p.apps["a"].Stderr = pty, pty, pty
	p.host.Terminal = true
	s := watchScreen(t, master)
	r := p.start(onTerminal(slave))
	s.expect("^up$")
	write := func(text string) {
		t.Helper()
		_, err := master.WriteString(text)
		p.must(err)
	}
	write("one\r")
	s.expect("^read one$")
	r.awaitRest()
	if !isRaw(t, slave) {
		t.Error("the terminal is not raw after a rest")
	}
	write("two\r")
	s.expect("^read two$")
	p.must(unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 22, Col: 88}))
	p.must(r.cmd.Process.Signal(unix.SIGWINCH))
	s.expect("^22 88$")
	write("end\r")
	s.expect("^read end$")
	if code := r.wait(); code != 6 {
		t.Errorf("exit code %d, want 6", code)
	}
	if isRaw(t, slave) {
		t.Error("the terminal is raw still")
	}
	p.checkClean()
}

// TestSignalDuringRest ends pods while their supervisors execute themselves again,
// a little later each time: every app must get its own stop signal.
func TestSignalDuringRest(t *testing.T) {
	var all sync.WaitGroup
	killed := make(chan bool, 1000)
	for i := range 40 {
		p := newPod(t, script("trap 'echo bye > /bye; exit 9' TERM", "sleep 1000 & wait"))
		all.Go(func() {
			r := p.start()
			p.await(contract.ReadyFile)
			for end := time.Now().Add(patience); !r.rested(); time.Sleep(20 * time.Microsecond) {
				if time.Now().After(end) {
					t.Error("the supervisor does not rest")
					return
				}
			}
			time.Sleep(time.Duration(i) * 50 * time.Microsecond)
			p.must(r.cmd.Process.Signal(unix.SIGTERM))
			code := r.wait()
			killed <- code != 9
			if code != 9 && code != 143 {
				t.Errorf("exit code %d, want 9; stderr %q", code, r.stderr.String())
			}
			p.await(filepath.Join(contract.AppsDir, "a", contract.UpperDir, "bye"))
		})
	}
	all.Wait()
	close(killed)
	n := 0
	for k := range killed {
		if k {
			n++
		}
	}
	t.Logf("%d of 40 supervisors died of the signal", n)
}
