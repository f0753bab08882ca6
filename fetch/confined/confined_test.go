package confined

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
)

// The test binary is rkt-fetch too, when it is started under that name. The tag
// of the request says what it does.
func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == "rkt-fetch":
		fake()
	case os.Getenv("CONFINED_TEST_PARENT") != "":
		parent()
	default:
		os.Exit(m.Run())
	}
}

func fake() {
	report, orders := os.NewFile(wire.ReportFD, "report"), os.NewFile(wire.OrderFD, "orders")
	request, err := wire.ReadRequest(orders)
	if err != nil {
		os.Exit(9)
	}
	switch request.Source.Tag {
	case "tell": // what it was started with
		fds, _ := os.ReadDir("/proc/self/fd")
		var limit unix.Rlimit
		_ = unix.Getrlimit(unix.RLIMIT_CORE, &limit)
		cmdline, _ := os.ReadFile("/proc/self/cmdline")
		cwd, _ := os.Getwd()
		source, _ := io.ReadAll(os.NewFile(wire.SourceFD, "source"))
		spool := os.NewFile(wire.SpoolFD, "spool")
		names, _ := spool.Readdirnames(-1)
		text := fmt.Sprintf("env=%q cmdline=%q cwd=%s core=%d source=%q spool=%q fds=%d group=%v",
			os.Environ(), cmdline, cwd, limit.Cur, source, names, len(fds), unix.Getpgrp() == os.Getpid())
		_ = wire.Send(report, wire.Message{Type: wire.Note, Text: text})
	case "order":
		_ = wire.Send(report, wire.Message{Type: wire.Resolved})
		order, _ := wire.ReceiveOrder(orders)
		_ = wire.Send(report, wire.Message{Type: wire.Note, Text: fmt.Sprint(order.Want)})
	case "complain":
		fmt.Fprint(os.Stderr, strings.Repeat("x", 3*maxStderr)+"\nbroken \x1b[2J\n")
		os.Exit(3)
	case "die":
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	case "half":
		_, _ = report.Write([]byte{1, 2, 3})
		os.Exit(0)
	case "hang":
		_ = wire.Send(report, wire.Message{Type: wire.Note, Text: strconv.Itoa(os.Getpid())})
		_ = unix.Pause() // not select {}: the runtime would call it a deadlock
	}
	_ = wire.Send(report, wire.Message{Type: wire.Done})
	if request.Source.Tag == "failing" {
		os.Exit(4)
	}
}

// parent starts an rkt-fetch that hangs, tells its pid, and waits to be killed.
func parent() {
	p, err := start(context.Background(), "hang", nil)
	if err != nil {
		os.Exit(1)
	}
	m, err := p.Receive(time.Minute)
	fmt.Println(m.Text, err)
	select {}
}

func start(ctx context.Context, what string, source *os.File) (*Process, error) {
	spool, err := os.Open(os.TempDir())
	if err != nil {
		return nil, err
	}
	defer spool.Close()
	return startIn(ctx, what, spool, source)
}

func startIn(ctx context.Context, what string, spool, source *os.File) (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return Start(ctx, self, Files{Spool: spool, Source: source}, wire.Request{
		Version: wire.Version, Mode: wire.Fetch, Platform: wire.Platform{OS: "linux", Arch: "amd64"},
		Source: wire.Source{Kind: wire.AnyArchive, Tag: what},
	})
}

func mustStart(t *testing.T, ctx context.Context, what string) *Process {
	t.Helper()
	p, err := start(ctx, what, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// RT-24: what others can see of the process has nothing of ours in it.
func TestProcessGetsTheFilesAndNothingElse(t *testing.T) {
	t.Setenv("RKT_TEST_SECRET", "leak")
	t.Setenv("HTTPS_PROXY", "http://proxy.example:3128")
	t.Setenv("no_proxy", "localhost")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "inside"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	spool, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	sourcePath := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(sourcePath, []byte("image"), 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := os.Open(sourcePath)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()

	p, err := startIn(context.Background(), "tell", spool, source)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	m, err := p.Receive(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"HTTPS_PROXY=http://proxy.example:3128"`, `"no_proxy=localhost"`, `cmdline="rkt-fetch\x00"`, "cwd=/ ", "core=0 ",
		`source="image"`, `spool=["inside"]`, "group=true",
	} {
		if !strings.Contains(m.Text, want) {
			t.Errorf("%q is not in %s", want, m.Text)
		}
	}
	if strings.Contains(m.Text, "leak") {
		t.Errorf("the environment is handed on: %s", m.Text)
	}
	if m, err := p.Receive(time.Minute); err != nil || m.Type != wire.Done {
		t.Errorf("Receive() = %v, %v, want Done", m, err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("Wait() = %v", err)
	}
}

func TestOrderArrives(t *testing.T) {
	p := mustStart(t, context.Background(), "order")
	if m, err := p.Receive(time.Minute); err != nil || m.Type != wire.Resolved {
		t.Fatalf("Receive() = %v, %v", m, err)
	}
	if err := p.Order(wire.Order{Want: []bool{true, false, true}}); err != nil {
		t.Fatal(err)
	}
	m, err := p.Receive(time.Minute)
	if err != nil || m.Text != "[true false true]" {
		t.Errorf("Receive() = %v, %v", m, err)
	}
}

// SG-05: whatever happens to the process, it is never taken for success.
func TestEndOfTheProcessIsAnError(t *testing.T) {
	for what, want := range map[string]string{
		"complain": `exit status 3: ` + "x", "die": "signal: killed", "half": "exit status 0",
	} {
		t.Run(what, func(t *testing.T) {
			p := mustStart(t, context.Background(), what)
			m, err := p.Receive(time.Minute)
			if !errors.Is(err, ErrEnded) || !strings.Contains(err.Error(), want) {
				t.Fatalf("Receive() = %v, %v; want ErrEnded with %q", m, err, want)
			}
			if strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 2*maxStderr {
				t.Errorf("its stderr is shown raw or whole: %d bytes", len(err.Error()))
			}
		})
	}
	for _, program := range []string{"/bin/true", "/bin/false"} {
		spool, err := os.Open("/tmp")
		if err != nil {
			t.Fatal(err)
		}
		defer spool.Close()
		p, err := Start(context.Background(), program, Files{Spool: spool}, wire.Request{
			Version: wire.Version, Mode: wire.Scan,
		})
		if err == nil {
			_, err = p.Receive(time.Minute)
			p.Close()
		}
		if !errors.Is(err, ErrEnded) {
			t.Errorf("%s: %v, want ErrEnded", program, err)
		}
	}
	if _, err := Start(context.Background(), "/nonexistent/rkt-fetch", Files{Spool: os.Stdin}, wire.Request{Version: 1, Mode: wire.Scan}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a program that is not there: %v", err)
	}
}

func TestExitStatusCountsAfterDone(t *testing.T) {
	p := mustStart(t, context.Background(), "failing")
	if m, err := p.Receive(time.Minute); err != nil || m.Type != wire.Done {
		t.Fatalf("Receive() = %v, %v", m, err)
	}
	if err := p.Wait(); !errors.Is(err, ErrEnded) {
		t.Errorf("Wait() = %v, want ErrEnded", err)
	}
}

func TestSilenceIsBounded(t *testing.T) {
	p := mustStart(t, context.Background(), "hang")
	if _, err := p.Receive(time.Minute); err != nil {
		t.Fatal(err)
	}
	if m, err := p.Receive(10 * time.Millisecond); !errors.Is(err, ErrSilent) {
		t.Errorf("Receive() = %v, %v, want ErrSilent", m, err)
	}
}

func TestCancelAndCloseLeaveNoProcess(t *testing.T) {
	for _, how := range []string{"cancel", "close"} {
		t.Run(how, func(t *testing.T) {
			reason := errors.New("the reason")
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			p := mustStart(t, ctx, "hang")
			m, err := p.Receive(time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(m.Text)
			if err != nil {
				t.Fatal(err)
			}
			if how == "cancel" {
				cancel(reason)
				if m, err := p.Receive(time.Minute); !errors.Is(err, reason) {
					t.Errorf("Receive() = %v, %v, want %v", m, err, reason)
				}
			}
			p.Close()
			if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
				t.Errorf("the process is still there: %v", err)
			}
			p.Close()
		})
	}
}

func TestProcessDiesWithItsParent(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = []string{"CONFINED_TEST_PARENT=1"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var state string
	if _, err := fmt.Fscan(out, &pid, &state); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 10_000); n != 1 {
		t.Errorf("rkt-fetch lives on: %v", err)
	}
}
