package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// openPTY makes a terminal as an operator has one.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no terminals here")
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close(); slave.Close() })
	return master, slave
}

// screen collects what is written to a terminal.
type screen struct {
	t     *testing.T
	lines chan string
}

func watchScreen(t *testing.T, master *os.File) *screen {
	s := &screen{t, make(chan string, 1000)}
	go func() {
		for r := bufio.NewReader(master); ; {
			line, err := r.ReadString('\n')
			if line != "" {
				s.lines <- strings.TrimRight(line, "\r\n")
			}
			if err != nil {
				return
			}
		}
	}()
	return s
}

// expect waits for a line that matches.
func (s *screen) expect(pattern string) string {
	s.t.Helper()
	var seen []string
	for deadline := time.After(patience); ; {
		select {
		case line := <-s.lines:
			if regexp.MustCompile(pattern).MatchString(line) {
				return line
			}
			seen = append(seen, line)
		case <-deadline:
			s.t.Fatalf("waited in vain for %q, saw %q", pattern, seen)
		}
	}
}

func isRaw(t *testing.T, tty *os.File) bool {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return m.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) == 0
}

func onTerminal(slave *os.File) func(*exec.Cmd) {
	return func(c *exec.Cmd) {
		c.Stdin, c.Stdout, c.Stderr = slave, slave, slave
	}
}

// TestTerminal runs an app on a terminal of its own.
func TestTerminal(t *testing.T) {
	pty := contract.Stream{Kind: contract.StreamPTY}
	for _, end := range []string{"exit", "kill"} {
		t.Run(end, func(t *testing.T) {
			master, slave := openPTY(t)
			p := newPod(t, script(
				"stty size; readlink /proc/self/fd/0; readlink /proc/self/fd/1",
				"trap 'stty size; echo resized' WINCH",
				"trap 'echo interrupted' INT",
				"echo up",
				// A trap ends the read that it interrupts.
				"while :; do read line || continue; echo \"read $line\"; test \"$line\" = end && exit 6; done",
			))
			p.apps["a"].Stdin, p.apps["a"].Stdout, p.apps["a"].Stderr = pty, pty, pty
			p.host.Terminal = true
			p.must(unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 99}))
			s := watchScreen(t, master)
			r := p.start(onTerminal(slave))
			s.expect("^33 99$")
			s.expect("^/dev/pts/0$")
			s.expect("^/dev/pts/0$")
			s.expect("^up$")
			if !isRaw(t, slave) {
				t.Error("the caller's terminal is not raw")
			}
			_, err := master.WriteString("hello\r")
			p.must(err)
			s.expect("^read hello$")
			p.must(unix.IoctlSetWinsize(int(slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 22, Col: 88}))
			p.must(r.cmd.Process.Signal(unix.SIGWINCH))
			s.expect("^22 88$")
			_, err = master.WriteString("\x03") // Ctrl-C
			p.must(err)
			s.expect("interrupted")
			want := 6
			if end == "exit" {
				_, err = master.WriteString("end\r")
				p.must(err)
				s.expect("^read end$")
			} else {
				p.must(r.cmd.Process.Signal(unix.SIGTERM))
				want = 143
			}
			if code := r.wait(); code != want {
				t.Errorf("exit code %d, want %d", code, want)
			}
			if isRaw(t, slave) {
				t.Error("the caller's terminal is raw still")
			}
			p.checkClean()
		})
	}
}

// TestBackground runs a pod with a terminal as a job of a shell that has the
// terminal itself: in the background from the start, and stopped in the middle.
func TestBackground(t *testing.T) {
	pty := contract.Stream{Kind: contract.StreamPTY}
	for _, test := range []struct {
		name, shell string
		stopped     bool
		end         func(r *running) // ends the pod; nil = the app ends
		code        string
	}{
		{"asked to stop", `set -m; "$0" run & wait $!; echo "ended $?"`, false, func(r *running) {
			if out, err := r.entry("stop").CombinedOutput(); err != nil {
				r.t.Errorf("stop: %v: %s", err, out)
			}
		}, "143"},
		{"terminated", `set -m; "$0" run & wait $!; echo "ended $?"`, false, func(r *running) {
			r.must(unix.Kill(r.supervisor(), unix.SIGTERM))
		}, "143"},
		{"the app ends", `set -m; "$0" run & wait $!; echo "ended $?"`, false, func(r *running) {
			r.must(unix.Kill(r.started("a").PID, unix.SIGUSR1))
		}, "6"},
		{"stopped by a signal", `set -m; "$0" run; echo "stopped $?"; read x; bg; wait %1; echo "ended $?"`, true, func(r *running) {
			if out, err := r.entry("stop").CombinedOutput(); err != nil {
				r.t.Errorf("stop: %v: %s", err, out)
			}
		}, "143"},
	} {
		t.Run(test.name, func(t *testing.T) {
			master, slave := openPTY(t)
			p := newPod(t, script("trap 'exit 6' USR1; echo up; sleep 1000 & wait; exit 7"))
			p.apps["a"].Stdin, p.apps["a"].Stdout, p.apps["a"].Stderr = pty, pty, pty
			p.host.Terminal = true
			s := watchScreen(t, master)
			r := p.start(onTerminal(slave), func(c *exec.Cmd) {
				c.Path, c.Args = "/bin/sh", []string{"sh", "-c", test.shell, program}
				c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			})
			s.expect("^up$")
			p.await(contract.ReadyFile)
			if raw := isRaw(t, slave); raw != test.stopped {
				t.Errorf("the terminal is raw: %t", raw)
			}
			if test.stopped {
				p.must(unix.Kill(r.supervisor(), unix.SIGSTOP))
				s.expect("^stopped ")
				// What a shell does when it has the terminal back.
				cooked(t, slave)
			}
			// What is typed is for the shell, and no reason to stop.
			_, err := master.WriteString("for the shell\r")
			p.must(err)
			test.end(r)
			s.expect("^ended " + test.code)
			if code := r.wait(); code != 0 {
				t.Errorf("the shell's exit code is %d", code)
			}
			if isRaw(t, slave) {
				t.Error("the terminal is raw")
			}
			p.checkClean()
		})
	}
}

// cooked puts a terminal in the mode in which a shell wants it.
func cooked(t *testing.T, tty *os.File) {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	m.Iflag |= unix.ICRNL
	m.Lflag |= unix.ICANON | unix.ECHO | unix.ISIG
	if err := unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, m); err != nil {
		t.Fatal(err)
	}
}

// supervisor is the pid of the pod's supervisor.
func (r *running) supervisor() int {
	r.t.Helper()
	b, err := os.ReadFile(filepath.Join(r.dir, contract.ReadyFile))
	r.must(err)
	var ready contract.Ready
	r.must(json.Unmarshal(b, &ready))
	return ready.PID
}

// TestOperatorsTerminal checks that an app without a terminal of its own does
// not get that of its caller.
func TestOperatorsTerminal(t *testing.T) {
	master, slave := openPTY(t)
	p := newPod(t, script(
		"for fd in 0 1 2; do readlink /proc/self/fd/$fd; stty <&$fd && echo terminal; done",
		"echo diagnostics >&2; read x; exit 3",
	))
	s := watchScreen(t, master)
	r := p.start(onTerminal(slave))
	s.expect("^/dev/null$")
	s.expect("^pipe:")
	s.expect("^pipe:")
	s.expect("^diagnostics$")
	if code := r.wait(); code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	for len(s.lines) > 0 {
		if line := <-s.lines; line == "terminal" {
			t.Error("the app has a terminal")
		}
	}
	p.checkClean()
}

// TestOutputToFiles runs an app whose caller has sent its output to a file,
// which the app opens again by name, as many images do.
func TestOutputToFiles(t *testing.T) {
	p := newPod(t, script("echo one; echo two > /dev/stdout; echo three >> /dev/stderr; readlink /proc/self/fd/1"))
	out := filepath.Join(t.TempDir(), "out")
	code, _, _ := p.run(func(c *exec.Cmd) {
		f, err := os.OpenFile(out, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		p.must(err)
		c.Stdout, c.Stderr = f, f
	})
	b, err := os.ReadFile(out)
	p.must(err)
	if !regexp.MustCompile(`^one\ntwo\nthree\npipe:.*\n$`).Match(b) || code != 0 {
		t.Errorf("exit code %d, file %q", code, b)
	}
	p.checkClean()
}

// TestLogFiles writes the output of an app to files, raw and in records.
func TestLogFiles(t *testing.T) {
	dir := t.TempDir()
	p := newPod(t, script("echo one; echo -n two", "echo err >&2", "seq 1 3000"))
	app := p.apps["a"]
	app.Stdin = contract.Stream{Kind: contract.StreamNull}
	app.Stdout = contract.Stream{Kind: contract.StreamFile, Path: filepath.Join(dir, "raw"), Format: "raw", Max: 4096}
	app.Stderr = contract.Stream{Kind: contract.StreamFile, Path: filepath.Join(dir, "cri"), Format: "cri"}
	// The second run does not fit beside the first.
	app.Restart = contract.Restart{Policy: contract.RestartAlways, Max: 1}
	if code, _, stderr := p.run(); code != 0 || stderr != "" {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	cri, err := os.ReadFile(filepath.Join(dir, "cri"))
	p.must(err)
	if !regexp.MustCompile(`^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z stderr F err\n){2}$`).Match(cri) {
		t.Errorf("record %q", cri)
	}
	want := "one\ntwo"
	for i := 1; i <= 3000; i++ {
		want += fmt.Sprintln(i)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "raw"))
	p.must(err)
	old, err := os.ReadFile(filepath.Join(dir, "raw.1"))
	p.must(err)
	if len(raw) == 0 || !strings.HasSuffix(want+want, string(old)+string(raw)) {
		t.Errorf("the files, of %d and %d bytes, are not the end of the output", len(old), len(raw))
	}
	p.checkClean()
}

// TestRefusedStreams passes what would let an app out of its pod.
func TestRefusedStreams(t *testing.T) {
	p := newPod(t, []string{"true"})
	code, _, stderr := p.run(func(c *exec.Cmd) {
		f, err := os.Open("/")
		p.must(err)
		c.Stdin = f
	})
	if code != 125 || !strings.Contains(stderr, "app a: open stdin: it is a directory of the host") {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	p.checkClean()
}
