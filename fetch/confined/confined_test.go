package confined

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rkt/fetch/ingest"
	"rkt/fetch/wire"
	"rkt/internal/mutant"
)

// The test binary is rkt-fetch too, when it is started under that name: confined
// by the same code, and then in the hands of the test. The tag of the request
// says what it does.
func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == "rkt-fetch":
		if err := ingest.Main(os.Args, ingest.Options{Instead: fake}); err != nil {
			os.Exit(4)
		}
	case os.Getenv("CONFINED_TEST_PARENT") != "":
		parent()
	case os.Getenv("CONFINED_TEST_REFUSE") != "":
		if err := restricted(os.Getenv("CONFINED_TEST_REFUSE")); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	default:
		os.Exit(m.Run())
	}
}

func fake(request wire.Request, report func(wire.Message) error) error {
	what, argument, _ := strings.Cut(request.Source.Tag, "=")
	switch what {
	case "tell": // what it was started with
		var limit unix.Rlimit
		_ = unix.Getrlimit(unix.RLIMIT_CORE, &limit)
		source := make([]byte, 100)
		n, _ := os.NewFile(wire.SourceFD, "source").Read(source)
		fds := 0
		for fd := range 1000 {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && fd > wire.FactsFD {
				fds++
			}
		}
		return report(wire.Message{Type: wire.Note, Text: fmt.Sprintf("env=%q args=%q core=%d source=%q more=%v uid=%d pid=%d ",
			os.Environ(), os.Args, limit.Cur, source[:n], fds, os.Getuid(), os.Getpid())})
	case "probe":
		port, _ := strconv.Atoi(argument)
		return probe(port, report)
	case "complain":
		fmt.Fprint(os.Stderr, strings.Repeat("x", 3*maxStderr)+"\nbroken \x1b[2J\n")
		os.Exit(3)
	case "half":
		_, _ = os.NewFile(wire.ReportFD, "report").Write([]byte{1, 2, 3})
		os.Exit(0)
	case "hang":
		_ = report(wire.Message{Type: wire.Note, Text: "hanging"})
		_, _, _ = wire.ReceiveGrant(wire.OrderFD)
	case "failing":
		_ = report(wire.Message{Type: wire.Done})
		os.Exit(4)
	}
	return nil
}

// parent starts an rkt-fetch that hangs, tells its pid, and waits to be killed.
func parent() {
	spool, err := os.Open(os.TempDir())
	if err != nil {
		os.Exit(1)
	}
	p, err := start(context.Background(), wire.ReadImage, "hang", spool, nil)
	if err != nil {
		os.Exit(1)
	}
	_, err = p.Receive(time.Minute)
	fmt.Println(p.p.pid, err)
	select {}
}

func start(ctx context.Context, role wire.Role, what string, spool, source *os.File) (*Task, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	request := wire.Request{
		Version: wire.Version, Mode: wire.Fetch, Platform: wire.Platform{OS: "linux", Arch: "amd64"},
		Source: wire.Source{Kind: wire.AnyArchive, Tag: what},
	}
	return StartJob(ctx, Options{Program: self, Demand: true}, Job{Role: role, Spool: spool, Source: source, Request: request})
}

func mustStart(t *testing.T, ctx context.Context, what string) *Task {
	t.Helper()
	p, err := start(ctx, wire.ReadImage, what, openDir(t, t.TempDir()), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func openDir(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// RT-24: what others can see of the process has nothing of ours in it, and the
// part that reads images and layers is not even told the proxies.
func TestProcessGetsTheFilesAndNothingElse(t *testing.T) {
	t.Setenv("RKT_TEST_SECRET", "leak")
	t.Setenv("HTTPS_PROXY", "http://user:secret@proxy.example:3128")
	left, err := unix.Open("/", unix.O_RDONLY, 0) // by whoever started rkt
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(left)
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, []byte("image"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, role := range []wire.Role{wire.AskRegistries, wire.ReadImage, wire.ReadLayer, wire.VerifySignatures} {
		p, err := start(context.Background(), role, "tell", openDir(t, t.TempDir()), openDir(t, path))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		m, err := p.Receive(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{`args=["rkt-fetch" "` + string(role) + `" "user" `, "core=0 ", `source="image"`, "uid=0 pid=1 "}
		if !mutant.Built {
			want = append(want, map[bool]string{true: `env=["HTTPS_PROXY=`, false: `env=[]`}[role == wire.AskRegistries])
		}
		for _, w := range want {
			if !strings.Contains(m.Text, w) {
				t.Errorf("%s: %q is not in %s", role, w, m.Text)
			}
		}
		// The poller of the Go runtime has two.
		if strings.Contains(m.Text, "leak") || !slices.ContainsFunc([]string{"more=0 ", "more=1 ", "more=2 "}, func(s string) bool { return strings.Contains(m.Text, s) }) {
			t.Errorf("%s: the environment or files are handed on: %s", role, m.Text)
		}
		if m, err := p.Receive(time.Minute); err != nil || m.Type != wire.Done {
			t.Errorf("Receive() = %v, %v, want Done", m, err)
		}
		if err := p.Wait(); err != nil {
			t.Errorf("Wait() = %v", err)
		}
	}
}

// IM-16: from inside, everything but what the role is for is denied.
func TestProbesFromInside(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	allowed := map[wire.Role]string{
		wire.AskRegistries:    "open /, write to the spool, connect to the loopback, tcp, udp6",
		wire.ReadImage:        "write to the spool",
		wire.ReadLayer:        "",
		wire.VerifySignatures: "",
	}
	for role, want := range allowed {
		t.Run(string(role), func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			inside := filepath.Join(dir, "spool")
			if err := errors.Join(os.Mkdir(inside, 0o777), os.Chmod(inside, 0o777),
				os.WriteFile(filepath.Join(dir, "beside"), []byte("x"), 0o666), os.Chmod(filepath.Join(dir, "beside"), 0o666)); err != nil {
				t.Fatal(err)
			}
			p, err := start(context.Background(), role, fmt.Sprintf("probe=%d", port), openDir(t, inside), openDir(t, inside))
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			m, err := p.Receive(time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			tried, done, ok := strings.Cut(m.Text, " tried; done: ")
			if !ok || tried != fmt.Sprint(len(attempts(0))) || done != want {
				t.Errorf("%s could do: %s\nwant: %s", role, m.Text, want)
			}
		})
	}
}

// IM-16, from outside: what the kernel says about the process.
func TestKernelSaysThatItIsConfined(t *testing.T) {
	p := mustStart(t, context.Background(), "hang")
	if _, err := p.Receive(time.Minute); err != nil {
		t.Fatal(err)
	}
	proc := fmt.Sprintf("/proc/%d/", p.p.pid)
	tasks, err := os.ReadDir(proc + "task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks { // each thread has credentials and a filter of its own
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			t.Fatal(err)
		}
		status, err := readStatus(tid)
		if err != nil {
			t.Fatal(err)
		}
		none := "0000000000000000"
		for key, want := range map[string]string{
			"CapInh": none, "CapPrm": none, "CapEff": none, "CapAmb": none,
			"NoNewPrivs": "1", "Seccomp": "2", "Seccomp_filters": "1", "Groups": "",
		} {
			if status[key] != want {
				t.Errorf("thread %d: %s is %q, want %q", tid, key, status[key], want)
			}
		}
		if strings.HasPrefix(status["Uid"], "0") || strings.HasPrefix(status["Gid"], "0") {
			t.Errorf("thread %d: uid %s, gid %s", tid, status["Uid"], status["Gid"])
		}
	}
	mounts, err := os.ReadFile(proc + "mountinfo")
	if err != nil || strings.Count(string(mounts), "\n") != 1 || !strings.Contains(string(mounts), " / ro,nosuid,nodev,noexec") {
		t.Errorf("mounts %q, %v; want one, read-only", mounts, err)
	}
	for name, want := range map[string]string{"oom_score_adj": "500\n", "environ": ""} {
		if name == "environ" && mutant.Built {
			continue
		}
		if b, err := os.ReadFile(proc + name); err != nil || string(b) != want {
			t.Errorf("%s is %q, %v", name, b, err)
		}
	}
	// Who has the same uid outside sees nothing of it; of a process of its own it does.
	if out, err := asUser(p.l.id.uid, "cat", proc+"maps"); err == nil {
		t.Errorf("its memory can be looked at: %s", out)
	}
	if out, err := asUser(p.l.id.uid, "cat", "/proc/self/maps"); err != nil {
		t.Errorf("nothing can be looked at: %v: %s", err, out)
	}
	limits, err := os.ReadFile(proc + "limits")
	if err != nil || !strings.Contains(string(limits), "Max core file size        0                    0 ") {
		t.Errorf("limits %s, %v", limits, err)
	}
}

// asUser runs a program with another uid.
func asUser(uid int, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// SG-05: whatever happens to the process, it is never taken for success.
func TestEndOfTheProcessIsAnError(t *testing.T) {
	for what, want := range map[string]string{"complain": `exit status 3: ` + "x", "half": "exit status 0"} {
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
	t.Run("killed", func(t *testing.T) {
		p := mustStart(t, context.Background(), "hang")
		if _, err := p.Receive(time.Minute); err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(p.p.pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if m, err := p.Receive(time.Minute); !errors.Is(err, ErrEnded) || !strings.Contains(err.Error(), "signal: killed") {
			t.Errorf("Receive() = %v, %v", m, err)
		}
	})
	for _, program := range []string{"/bin/true", "/bin/false"} {
		_, err := StartJob(context.Background(), Options{Program: program}, Job{Role: wire.ReadLayer})
		if !errors.Is(err, ErrEnded) {
			t.Errorf("%s: %v, want ErrEnded", program, err)
		}
	}
	if _, err := StartJob(context.Background(), Options{Program: "/nonexistent/rkt-fetch"}, Job{}); !errors.Is(err, os.ErrNotExist) {
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
			if _, err := p.Receive(time.Minute); err != nil {
				t.Fatal(err)
			}
			if how == "cancel" {
				cancel(reason)
				if m, err := p.Receive(time.Minute); !errors.Is(err, reason) {
					t.Errorf("Receive() = %v, %v, want %v", m, err, reason)
				}
			}
			p.Close()
			if err := unix.Kill(p.p.pid, 0); !errors.Is(err, unix.ESRCH) {
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
	cmd.Env = append(os.Environ(), "CONFINED_TEST_PARENT=1")
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

// What Check tells is what version prints.
func TestCheckTellsEveryLine(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	lines, why, err := Check(context.Background(), self, wire.ReadLayer)
	if err != nil || why != "" || len(lines) != len(wire.ReadLayer.Lines().Names()) {
		t.Fatalf("Check() = %v, %q, %v", lines, why, err)
	}
	for _, l := range lines {
		if !l.Granted {
			t.Errorf("%s is refused", l.Name)
		}
	}
}
