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
	"rkt/internal/mutant"
)

// exitGrace is how long rkt-fetch may take to end once it has said Done or was
// told to end; a process that has nothing left to do needs none of it.
const exitGrace = 30 * time.Second

// startGrace is how long it may take to confine itself.
const startGrace = time.Minute

// maxStderr bounds what is kept of its stderr, in bytes: it says something only
// when it cannot speak the protocol.
const maxStderr = 4 << 10

// programFD is the number of the program when it is executed.
const programFD = wire.FactsFD + 1

// files are what a process is given, by their number there; nil = none.
type files [wire.FactsFD + 1]*os.File

// process is a running rkt-fetch in one role. close must be called.
type process struct {
	role   wire.Role
	how    wire.How
	ctx    context.Context
	cancel context.CancelFunc
	report *os.File
	orders *os.File
	stderr *tail
	pid    int
	ended  chan struct{} // closed when the process is gone
	err    error         // of Wait; valid when ended is closed

	mu  sync.Mutex
	cut bool // receive waits no more
}

// launcher starts processes of one program, as confined as this kernel lets it.
type launcher struct {
	program *os.File
	null    *os.File // stands for files that a role does not have
	id      identity

	mu sync.Mutex
	// ways are the ways to start a process that may still work, strongest first;
	// refused says why those before do not.
	ways    []wire.How
	refused []string
}

// newLauncher opens the program.
func newLauncher(program string) (*launcher, error) {
	f, err := os.Open(program)
	if err != nil {
		return nil, fmt.Errorf("start %q: %w", program, err)
	}
	l := &launcher{program: f, ways: []wire.How{wire.HowUser, wire.HowRoot, wire.HowPlain}}
	l.null, err = os.Open(os.DevNull)
	if err == nil {
		l.id, err = findIdentity()
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *launcher) close() {
	l.program.Close()
	l.null.Close() // nil if it was not opened
}

// start runs the program in a role. The process is killed when ctx ends, when
// close is called, and by the kernel when this process dies. The files stay the
// caller's. It has said nothing yet and has been given no request.
func (l *launcher) start(ctx context.Context, role wire.Role, given files) (*process, error) {
	for {
		l.mu.Lock()
		way := l.ways[0]
		l.mu.Unlock()
		if mutant.On("unconfined") {
			way = wire.HowPlain
		}
		if way == wire.HowUser && role.Lines()&wire.OwnUserNS == 0 {
			way = wire.HowRoot
		}
		p, err := l.startAs(ctx, role, way, given)
		if err == nil || way == wire.HowPlain || !isRefusal(err) {
			return p, err
		}
		l.giveUp(way, err)
	}
}

// giveUp remembers that a way does not work here.
func (l *launcher) giveUp(way wire.How, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.ways, way); i >= 0 {
		l.ways = l.ways[i+1:]
		l.refused = append(l.refused, fmt.Sprintf("%s: %v", map[wire.How]string{
			wire.HowUser: "user namespace", wire.HowRoot: "namespaces",
		}[way], err))
	}
}

// why tells what was given up.
func (l *launcher) why() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.refused)
}

// isRefusal reports whether a start failed because the kernel makes no such
// namespaces for us.
func isRefusal(err error) bool {
	for _, e := range []error{unix.EPERM, unix.EINVAL, unix.ENOSPC, unix.ENOSYS, unix.EUSERS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (l *launcher) startAs(ctx context.Context, role wire.Role, how wire.How, given files) (*process, error) {
	reportRead, reportWrite, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make pipe for rkt-fetch: %w", err)
	}
	defer reportWrite.Close()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		reportRead.Close()
		return nil, fmt.Errorf("make socket for rkt-fetch: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "orders")
	defer theirs.Close()

	p := &process{role: role, how: how, report: reportRead, orders: os.NewFile(uintptr(pair[0]), "orders"), stderr: &tail{max: maxStderr}, ended: make(chan struct{})}
	p.ctx, p.cancel = context.WithCancel(ctx)
	given[wire.ReportFD], given[wire.OrderFD] = reportWrite, theirs
	cmd := l.command(p.ctx, role, how, given)
	cmd.Stderr = p.stderr
	if err := p.run(cmd); err != nil {
		p.close()
		return nil, fmt.Errorf("start %q: %w", l.program.Name(), err)
	}
	context.AfterFunc(p.ctx, p.cutOff)
	return p, nil
}

// command is rkt-fetch with nothing of this process but the proxies, which only
// the one that has a network is told.
func (l *launcher) command(ctx context.Context, role wire.Role, how wire.How, given files) *exec.Cmd {
	// By its descriptor: the ids that it gets may not come along the path.
	cmd := exec.CommandContext(ctx, fmt.Sprintf("/proc/self/fd/%d", programFD))
	cmd.Args = []string{"rkt-fetch", string(role), string(how), fmt.Sprint(l.id.uid), fmt.Sprint(l.id.gid)}
	cmd.Dir = "/"
	cmd.Env = mutant.Environ()
	if role == wire.AskRegistries {
		cmd.Env = append(cmd.Env, proxies(os.Environ())...)
	}
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	for _, f := range given[3:] {
		if f == nil {
			f = l.null // else the number would be that of a file of the Go runtime
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	cmd.ExtraFiles = append(cmd.ExtraFiles, l.program) // programFD; it closes what it does not know
	cmd.WaitDelay = exitGrace                          // for what it left behind with its stderr open
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:    true, // Ctrl-C is for rkt, which ends it in good order
		Pdeathsig:  unix.SIGKILL,
		Cloneflags: cloneFlags(role, how),
	}
	if how == wire.HowUser {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: l.id.uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: l.id.gid, Size: 1}}
		cmd.SysProcAttr.GidMappingsEnableSetgroups = true // to have none
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 0, Gid: 0, Groups: []uint32{}}
	}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	return cmd
}

// cloneFlags are the namespaces of a role.
func cloneFlags(role wire.Role, how wire.How) uintptr {
	if how == wire.HowPlain {
		return 0
	}
	flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP)
	if how == wire.HowUser {
		flags |= unix.CLONE_NEWUSER
	}
	if role.Lines()&wire.NoNetwork != 0 && !mutant.On("sharenet") {
		flags |= unix.CLONE_NEWNET
	}
	return flags
}

// run starts cmd on a thread that does nothing else until it has ended: the
// parent-death signal is sent when the *thread* that started the child ends, and
// threads of Go do end when code that changed their namespaces gives them up.
func (p *process) run(cmd *exec.Cmd) error {
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if cmd.Process == nil {
			close(p.ended)
			return
		}
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return <-started
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
