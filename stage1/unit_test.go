package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// manager is a service manager that listens to what a pod tells it.
type manager struct {
	t    *testing.T
	path string
	fd   int
}

// newManager listens on a path or, with abstract, on an abstract name.
func newManager(t *testing.T, abstract bool) *manager {
	t.Helper()
	name := filepath.Join(t.TempDir(), "notify")
	if abstract {
		name = "@rkt-test-" + newUUID()
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		t.Cleanup(func() { unix.Close(fd) })
		err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: name}), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
	}
	if err != nil {
		t.Fatal(err)
	}
	return &manager{t, name, fd}
}

// within waits for a message for at most that long.
func (m *manager) within(d time.Duration) bool {
	p := []unix.PollFd{{Fd: int32(m.fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, int(d.Milliseconds()))
		if err != unix.EINTR {
			return err == nil && n == 1
		}
	}
}

// next is the next message, the pid of its sender, and how many files came with it.
func (m *manager) next() (message string, sender, files int) {
	m.t.Helper()
	if !m.within(patience) {
		m.t.Fatal("no message comes")
	}
	b, oob := make([]byte, 8192), make([]byte, 8192)
	n, on, _, _, err := unix.Recvmsg(m.fd, b, oob, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:on])
	if err != nil {
		m.t.Fatal(err)
	}
	for _, c := range messages {
		if cred, err := unix.ParseUnixCredentials(&c); err == nil {
			sender = int(cred.Pid)
		}
		if fds, err := unix.ParseUnixRights(&c); err == nil {
			files += len(fds)
		}
	}
	return string(b[:n]), sender, files
}

// expect fails unless the next message is want and comes from the main process
// without any files.
func (m *manager) expect(r *running, want string) {
	m.t.Helper()
	got, sender, files := m.next()
	if got != want || sender != r.cmd.Process.Pid || files != 0 {
		m.t.Errorf("message %q of %d with %d files, want %q of the supervisor %d", got, sender, files, want, r.cmd.Process.Pid)
	}
}

// unit makes the pod one whose manager is m.
func (p *testPod) unit(m *manager) *contract.Unit {
	p.host.Unit = &contract.Unit{Main: true}
	if m != nil {
		p.host.Unit.NotifySocket = m.path
	}
	return p.host.Unit
}

// status is how the supervisor ended, as its parent sees it.
func (r *running) status() syscall.WaitStatus {
	r.t.Helper()
	r.wait()
	return r.cmd.ProcessState.Sys().(syscall.WaitStatus)
}

func TestReadyWhenAllAppsRunAndStoppingWhenTheyDoNot(t *testing.T) {
	for _, abstract := range []bool{false, true} {
		m := newManager(t, abstract)
		p := newPod(t, []string{"sleep", "1000"}, []string{"sleep", "1000"})
		p.unit(m)
		r := p.start()
		m.expect(r, "READY=1\nSTATUS=2 apps running")
		p.await(contract.ReadyFile)
		p.must(r.cmd.Process.Signal(unix.SIGTERM))
		m.expect(r, "STOPPING=1")
		if got, _, _ := m.next(); !strings.HasPrefix(got, "STATUS=stopping, waiting for ") {
			t.Errorf("message %q, want a status", got)
		}
		if ws := r.status(); !ws.Signaled() || ws.Signal() != unix.SIGTERM {
			t.Errorf("status %#x, want an end by SIGTERM, as the apps had", ws)
		}
		p.checkClean()
	}
}

func TestTheEndIsTheApps(t *testing.T) {
	for _, test := range []struct {
		name   string
		script []string
		main   bool
		init   bool
		want   func(syscall.WaitStatus) bool
	}{
		{"exit code", script("exit 7"), true, false, func(w syscall.WaitStatus) bool { return w.ExitStatus() == 7 }},
		{"no signal but its number", script("exit 143"), true, false, func(w syscall.WaitStatus) bool { return w.ExitStatus() == 143 }},
		{"signal under an init", script("kill -ABRT $$"), true, true, func(w syscall.WaitStatus) bool { return w.Signal() == unix.SIGABRT && !w.CoreDump() }},
		{"from a shell", script("kill -ABRT $$"), false, true, func(w syscall.WaitStatus) bool { return w.ExitStatus() == 128+int(unix.SIGABRT) }},
		{"not found", []string{"/no/such"}, true, false, func(w syscall.WaitStatus) bool { return w.ExitStatus() == contract.ExitNotFound }},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPod(t, test.script)
			p.apps["a"].Init = test.init
			p.unit(nil).Main = test.main
			if ws := p.start().status(); !test.want(ws) {
				t.Errorf("status %#x", ws)
			}
			p.checkClean()
		})
	}
}

// A watchdog that has waited in vain aborts the main process.
func TestAbortIsTheApps(t *testing.T) {
	for _, init := range []bool{false, true} {
		p := newPod(t, []string{"sleep", "1000"})
		p.apps["a"].Init = init
		p.apps["a"].Restart.Policy = contract.RestartAlways
		p.unit(nil)
		r := p.start()
		p.await(contract.ReadyFile)
		p.must(r.cmd.Process.Signal(unix.SIGABRT))
		if ws := r.status(); !ws.Signaled() || ws.Signal() != unix.SIGABRT || ws.CoreDump() {
			t.Errorf("init %v: status %#x, want an end by SIGABRT; stderr %q", init, ws, r.stderr.String())
		}
		if e := p.exit("a"); e.Code != contract.ExitSignal+int(unix.SIGABRT) || e.Restarts != 0 {
			t.Errorf("init %v: exit record %+v", init, e)
		}
		p.checkClean()
	}
}

// Behind an init, signals reach an app that has handlers for them.
func TestInitPassesSignalsToTheApp(t *testing.T) {
	p := newPod(t, script("trap 'echo usr1' USR1; trap 'echo term; exit 9' TERM; echo ready; while :; do sleep 0.1; done"))
	p.apps["a"].Init = true
	r := p.start()
	for _, s := range []struct {
		after string
		sig   unix.Signal
	}{{"ready\n", unix.SIGUSR1}, {"usr1\n", unix.SIGTERM}} {
		p.awaitThat(s.after, func() bool { return strings.HasSuffix(r.stdout.String(), s.after) })
		p.must(r.cmd.Process.Signal(s.sig))
	}
	if code := r.wait(); code != 9 || r.stdout.String() != "ready\nusr1\nterm\n" {
		t.Errorf("exit code %d, stdout %q", code, r.stdout.String())
	}
	p.checkClean()
}

func TestFailedStartIsNotReady(t *testing.T) {
	m := newManager(t, false)
	p := newPod(t, []string{"sleep", "1000"}, []string{"/no/such"})
	p.unit(m)
	r := p.start()
	m.expect(r, "STOPPING=1")
	for {
		message, _, _ := m.next()
		if strings.Contains(message, "READY=1") {
			t.Fatalf("message %q of a pod that was never ready", message)
		}
		if strings.Contains(message, "b ended with an error: ") && strings.Contains(message, "not found in the image") && strings.Contains(message, "a ended") {
			break
		}
	}
	r.wait()
	p.checkClean()
}

func TestWatchdogOfThePod(t *testing.T) {
	m := newManager(t, false)
	p := newPod(t, []string{"sleep", "1000"})
	p.unit(m).WatchdogMicros = 50_000
	r := p.start()
	m.expect(r, "READY=1\nSTATUS=1 app running")
	for range 5 {
		m.expect(r, "WATCHDOG=1")
	}
	// One that hangs gives no sign of life.
	p.must(r.cmd.Process.Signal(unix.SIGSTOP))
	p.awaitThat("the supervisor to stop", func() bool { return processState(t, r.cmd.Process.Pid) == "T" })
	for m.within(300 * time.Millisecond) {
		m.next()
	}
	p.must(r.cmd.Process.Signal(unix.SIGCONT))
	m.expect(r, "WATCHDOG=1")
	p.must(r.cmd.Process.Signal(unix.SIGTERM))
	r.wait()
	p.checkClean()
}

func processState(t *testing.T, pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))[0]
}

func TestNothingIsToldWithoutBeingWanted(t *testing.T) {
	m := newManager(t, false)
	p := newPod(t, []string{"true"})
	p.unit(m).WatchdogMicros = 1000
	p.pod.Notify = contract.NotifyNo
	if code, _, stderr := p.run(); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	if m.within(0) {
		message, _, _ := m.next()
		t.Errorf("the manager is told %q", message)
	}
}

// A manager whose queue is full, such as one that was stopped, is offered every
// message again, and the pod goes on meanwhile.
func TestBusyManagerLosesNothing(t *testing.T) {
	m := newManager(t, false)
	fill, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fill)
	filled := 0
	for err == nil {
		if err = unix.Sendto(fill, []byte("x"), 0, &unix.SockaddrUnix{Name: m.path}); err == nil {
			filled++
		}
	}
	p := newPod(t, []string{"sleep", "1000"})
	p.unit(m)
	r := p.start()
	p.await(contract.ReadyFile)
	p.must(r.cmd.Process.Signal(unix.SIGHUP)) // what it would say to that waits, too
	for range filled {
		m.next()
	}
	m.expect(r, "READY=1\nSTATUS=1 app running")
	p.must(r.cmd.Process.Signal(unix.SIGTERM))
	for {
		if message, _, _ := m.next(); strings.HasPrefix(message, "STOPPING=1") {
			break
		}
	}
	r.wait()
	p.checkClean()
}

// appSpeaks makes app a the one that speaks for the pod.
func (p *testPod) appSpeaks() {
	p.pod.Notify, p.apps["a"].Notify = contract.NotifyApp, true
	p.specs["a"].Process.Env = append(p.specs["a"].Process.Env, "NOTIFY_SOCKET="+contract.NotifyPath)
	p.specs["a"].Mounts = append(p.specs["a"].Mounts, specs.Mount{
		Destination: contract.NotifyPath, Type: "bind", Source: filepath.Join(contract.AppsDir, "a", contract.NotifyFile),
		Options: []string{"bind", "ro", "nosuid", "nodev", "noexec"},
	})
}

// speak makes a pod whose app is this test, which says something (see
// TestMain and sayings).
func speak(t *testing.T, what string) *testPod {
	t.Helper()
	p := newPod(t, []string{"/bin/speaker", what})
	self, err := os.Executable()
	p.must(err)
	b, err := os.ReadFile(self)
	p.must(err)
	p.must(os.WriteFile(filepath.Join(p.pods, "layer/bin/speaker"), b, 0o755))
	p.specs["a"].Process.Env = append(p.specs["a"].Process.Env, "RKT_TEST_SPEAKER=1")
	p.specs["a"].Process.User = specs.User{UID: 1000, GID: 1000}
	p.specs["a"].Process.Capabilities.Permitted, p.specs["a"].Process.Capabilities.Effective = nil, nil
	p.appSpeaks()
	return p
}

// speaker is what such an app does. It returns its exit code.
func speaker(what string) int {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	to := &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")}
	say := func(message string, files ...int) {
		var rights []byte
		if len(files) > 0 {
			rights = unix.UnixRights(files...)
		}
		if err := unix.Sendmsg(fd, []byte(message), rights, to, 0); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	switch what {
	case "words":
		say("STATUS=warming\x1b[31m up\u202e\xff" + strings.Repeat("x", 2000))
		say("MAINPID=1\nFDSTORE=1\nFDNAME=x\nMAINPIDFD=1\nNOTIFYACCESS=all\nSTATUS=one\nSTATUS=two\nREADY=2\nERRNO=x\nSTOPPING=\nX_OTHER=1\nERRNO=007\nBUSERROR=a\n\n=\nREADY", 0, 1, 2)
		say(strings.Repeat("A", 5000))
		say("EXTEND_TIMEOUT_USEC=5000000\nWATCHDOG_USEC=18446744073709551615\nMONOTONIC_USEC=18446744073709551616")
		say("")
		say("FDSTORE=1", 0)
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return 1
		}
		say("BARRIER=1", p[1])
		unix.Close(p[1])
		if n, err := unix.Read(p[0], make([]byte, 1)); n != 0 || err != nil { // its end says that all was taken
			return 1
		}
		fmt.Println("barrier", os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID"), os.Getpid())
		say("READY=1")
		say("RELOADING=1\nMONOTONIC_USEC=12")
		say("READY=1\nWATCHDOG=1")
		say("WATCHDOG=trigger")
	case "flood":
		say("READY=1")
		for i := range 300 {
			say("STATUS=" + strconv.Itoa(i))
		}
	}
	return int(unix.Pause().(unix.Errno))
}

func TestOnlyPermittedWordsOfAnAppGetThrough(t *testing.T) {
	m := newManager(t, false)
	p := speak(t, "words")
	p.unit(m).WatchdogMicros = 3_000_000
	r := p.start()
	for i, want := range []string{
		"STATUS=warming\ufffd[31m up\ufffd\ufffd" + strings.Repeat("x", 512-len("warming\x1b[31m up\u202e\xff")),
		"STATUS=one\nERRNO=7",
		"EXTEND_TIMEOUT_USEC=5000000\nWATCHDOG_USEC=18446744073709551615",
		"READY=1", "RELOADING=1\nMONOTONIC_USEC=12", "READY=1\nWATCHDOG=1", "WATCHDOG=trigger",
	} {
		if want == "READY=1" && i == 3 {
			// The barrier was answered when everything before it had been passed on.
			p.awaitThat("the app to get over its barrier", func() bool { return strings.HasPrefix(r.stdout.String(), "barrier ") })
		}
		m.expect(r, want)
	}
	if got, want := strings.TrimSpace(r.stdout.String()), "barrier 3000000 1 1"; got != want {
		t.Errorf("the app says %q, want %q", got, want)
	}
	p.await(contract.ReadyFile)
	if files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.cmd.Process.Pid)); err != nil || len(files) > 40 {
		t.Errorf("the supervisor has %d open files, %v", len(files), err)
	}
	p.must(r.cmd.Process.Signal(unix.SIGTERM))
	m.expect(r, "STOPPING=1")
	r.wait()
	p.checkClean()
}

// An app that is not ready yet is not ready because it runs.
func TestReadyIsTheApps(t *testing.T) {
	m := newManager(t, false)
	p := speak(t, "silent")
	p.unit(m)
	r := p.start()
	p.await("apps/a/started")
	p.must(r.cmd.Process.Signal(unix.SIGTERM))
	m.expect(r, "STOPPING=1")
	r.wait()
	if _, err := os.Stat(filepath.Join(p.dir, contract.ReadyFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the pod became ready: %v", err)
	}
	p.checkClean()
}

// An app that sends without end is slowed down; the supervisor answers as ever.
func TestFloodOfNotes(t *testing.T) {
	m := newManager(t, false)
	p := speak(t, "flood")
	p.unit(m)
	r := p.start()
	begin := time.Now()
	m.expect(r, "READY=1")
	for i := range 300 {
		m.expect(r, "STATUS="+strconv.Itoa(i))
	}
	if took, least := time.Since(begin), (300-64)*25*time.Millisecond; took < least*9/10 {
		t.Errorf("300 messages got through in %v, want %v at least", took, least)
	}
	p.must(p.entry("stop").Run())
	m.expect(r, "STOPPING=1")
	r.wait()
	p.checkClean()
}
