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

// Sockets are made by hand: package net would link a C library into this program,
// which is an app of other tests.

func newSocket(t *testing.T, protocol string) int {
	t.Helper()
	kind := unix.SOCK_STREAM
	if protocol == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func loopback(port int) unix.Sockaddr {
	return &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}
}

// bind binds a new socket to a free port.
func bind(t *testing.T, protocol string) (fd, port int) {
	t.Helper()
	fd = newSocket(t, protocol)
	if err := unix.Bind(fd, loopback(0)); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, at.(*unix.SockaddrInet4).Port
}

// freePort is a port that nothing listens on.
func freePort(t *testing.T, protocol string) int {
	fd, port := bind(t, protocol)
	unix.Close(fd)
	return port
}

// echo answers on a port of the address that the pod has, until the test ends.
func echo(t *testing.T, protocol string) (port int) {
	t.Helper()
	fd, port := bind(t, protocol)
	t.Cleanup(func() { unix.Close(fd) })
	answer := func(fd int) {
		b := make([]byte, 100)
		for {
			n, from, err := unix.Recvfrom(fd, b, 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil || n == 0 {
				return
			}
			_ = unix.Sendto(fd, b[:n], 0, from)
		}
	}
	if protocol == "udp" {
		go answer(fd)
		return port
	}
	if err := unix.Listen(fd, 10); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, _, err := unix.Accept(fd)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				return
			}
			go func() { answer(c); unix.Close(c) }()
		}
	}()
	return port
}

// TestPortsOfARestedSupervisor connects to a pod before and after a rest, which
// must not come while a connection lasts.
func TestPortsOfARestedSupervisor(t *testing.T) {
	p := newPod(t, []string{"sleep", "1000"})
	ports := []contract.Port{
		{Protocol: "tcp", HostIP: "127.0.0.1", HostPort: freePort(t, "tcp"), PodPort: echo(t, "tcp")},
		{Protocol: "udp", HostIP: "127.0.0.1", HostPort: freePort(t, "udp"), PodPort: echo(t, "udp")},
	}
	p.pod.Net = contract.Net{Mode: contract.NetJoined, Networks: []contract.Network{{Name: "x"}}, Ports: ports}
	attached := fmt.Sprintf(`{"version":%d,"interfaces":[{"network":"x","name":"eth0","addresses":["127.0.0.1/8"]}]}`, contract.Version)
	p.host.Network = &contract.HostNetwork{
		Attach: []string{"/bin/sh", "-c", "echo '" + attached + "' >network"}, Detach: []string{"/bin/true"},
	}
	r := p.start()
	p.await(contract.ReadyFile)
	dial := func(port contract.Port) int {
		t.Helper()
		fd := newSocket(t, port.Protocol)
		p.must(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience.Seconds())}))
		p.must(unix.Connect(fd, loopback(port.HostPort)))
		return fd
	}
	talk := func(fd int) {
		t.Helper()
		p.must(unix.Send(fd, []byte("hello"), unix.MSG_NOSIGNAL))
		b := make([]byte, 10)
		if n, err := unix.Read(fd, b); err != nil || string(b[:n]) != "hello" {
			t.Errorf("answer %q, %v", b[:max(n, 0)], err)
		}
	}
	c := dial(ports[0])
	talk(c)
	time.Sleep(2500 * time.Millisecond) // a rest would have come by then
	talk(c)
	if r.rested() {
		t.Error("the supervisor has rested while somebody was connected")
	}
	p.must(unix.Close(c))
	r.awaitRest()
	for range 2 {
		for _, port := range ports {
			c := dial(port)
			talk(c)
			unix.Close(c)
		}
	}
	if out, err := p.entry("stop").CombinedOutput(); err != nil {
		t.Errorf("stop: %v: %s", err, out)
	}
	if code := r.wait(); code != 143 {
		t.Errorf("exit code %d, want 143; stderr %q", code, r.stderr.String())
	}
	p.checkClean()
}
