// Package confined starts rkt-fetch, the process that reads what strangers
// wrote, and speaks fetch/wire with it. It hands over folders and files as fds
// and a request over a pipe, so that no secret is ever in an argument or in the
// environment. Start with Start.
package confined

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
)

// exitGrace is how long rkt-fetch may take to end once it has said Done or was
// told to end; a process that has nothing left to do needs none of it.
const exitGrace = 5 * time.Second

// maxStderr bounds what is kept of its stderr, in bytes: it says something only
// when it cannot speak the protocol.
const maxStderr = 4 << 10

// Files are what rkt-fetch is given besides the pipes.
type Files struct {
	Spool  *os.File // the only folder it writes to
	Source *os.File // a local image or a tar; nil for a registry
}

// Process is a running rkt-fetch. Close must be called.
type Process struct {
	ctx    context.Context
	cancel context.CancelFunc
	report *os.File
	orders *os.File
	stderr *tail
	ended  chan struct{} // closed when the process is gone
	err    error         // of Wait; valid when ended is closed

	mu  sync.Mutex
	cut bool // Receive waits no more
}

// Start runs the program and sends it the request. The process is killed when
// ctx ends, when Close is called, and by the kernel when this process dies. The
// files stay the caller's and may be closed.
func Start(ctx context.Context, program string, files Files, request wire.Request) (*Process, error) {
	reportRead, reportWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe for rkt-fetch: %w", err)
	}
	defer reportWrite.Close()
	orderRead, orderWrite, err := os.Pipe()
	if err != nil {
		reportRead.Close()
		return nil, fmt.Errorf("make pipe for rkt-fetch: %w", err)
	}
	defer orderRead.Close()

	p := &Process{report: reportRead, orders: orderWrite, stderr: &tail{max: maxStderr}, ended: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(ctx)
	cmd := command(p.ctx, program)
	cmd.Stderr = p.stderr
	cmd.ExtraFiles = []*os.File{wire.SpoolFD - 3: files.Spool, wire.ReportFD - 3: reportWrite, wire.OrderFD - 3: orderRead}
	if files.Source != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, files.Source) // wire.SourceFD
	}
	if err := p.run(cmd); err != nil {
		p.Close()
		return nil, fmt.Errorf("start %q: %w", program, err)
	}
	context.AfterFunc(p.ctx, p.cutOff)
	if err := wire.WriteRequest(p.orders, request); err != nil {
		err = p.explain(err, 0)
		p.Close()
		return nil, fmt.Errorf("ask rkt-fetch: %w", err)
	}
	return p, nil
}

// command is rkt-fetch with nothing of this process but the proxies.
func command(ctx context.Context, program string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program)
	cmd.Args = []string{"rkt-fetch"}
	cmd.Dir = "/"
	cmd.Env = proxies(os.Environ())
	cmd.WaitDelay = exitGrace // for what it left behind with its stderr open
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true, // Ctrl-C is for rkt, which ends it in good order
		Pdeathsig: unix.SIGKILL,
	}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	return cmd
}

// run starts cmd on a thread that does nothing else until it has ended: the
// parent-death signal is sent when the *thread* that started the child ends, and
// threads of Go do end when code that changed their namespaces gives them up.
func (p *Process) run(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			err = noCore(cmd.Process.Pid)
		}
		started <- err
		if cmd.Process == nil {
			close(p.ended)
			return
		}
		if err != nil {
			_ = cmd.Process.Kill() // Wait tells how it ended
		}
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return <-started
}

// noCore keeps the process, which will be told credentials, from leaving a core.
func noCore(pid int) error {
	err := unix.Prlimit(pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
	if errors.Is(err, unix.ESRCH) {
		return nil // it is gone already; the pipe will tell
	}
	if err != nil {
		return fmt.Errorf("limit core size: %w", err)
	}
	return nil
}

// proxies returns the variables of env that say which proxies to use.
func proxies(env []string) []string {
	names := []string{"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
	kept := []string{}
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if slices.Contains(names, strings.ToLower(name)) {
			kept = append(kept, v)
		}
	}
	return kept
}

// tail keeps the last max bytes written to it.
type tail struct {
	max  int
	mu   sync.Mutex
	data []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p[max(0, len(p)-t.max):]...)
	t.data = t.data[max(0, len(t.data)-t.max):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.data)
}
