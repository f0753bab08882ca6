package supervise

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/compile"
	"rkt/stage1/contract"
	"rkt/stage1/program"
)

// requestFD is where the enter entrypoint reads its contract.EnterRequest.
const requestFD = 3

// entered is a process that joins a running app.
type entered struct {
	req     *contract.EnterRequest
	pod     *contract.Pod
	host    *contract.Host
	spec    *specs.Spec // the app's
	streams *streams
	stdin   *feeder
	child   *program.Child
	pid     int  // of the app
	keep    bool // capabilities, where config.json has none
}

// Enter is the enter entrypoint: it runs a command in an app of the running pod
// whose directory is the working directory, confined exactly as the app is, and
// returns its exit code as a shell would see it. The supervisor has no part in
// it: one that hangs blocks nobody.
func Enter(f Flavour) int {
	unix.Umask(0o077)
	e := &entered{stdin: &feeder{}, keep: !f.Confines()}
	code, err := e.run()
	var failed *startError
	if errors.As(err, &failed) {
		Fail(err)
		return failed.code
	}
	if err != nil {
		return Fail(fmt.Errorf("enter app: %w", err))
	}
	return code
}

// run is the life of the process, from the request to its end.
func (e *entered) run() (code int, err error) {
	if err := e.load(); err != nil {
		return 0, err
	}
	process, err := e.openApp()
	if err != nil {
		return 0, err
	}
	defer unix.Close(process)

	signals, _ := watch()
	if err := e.openStreams(); err != nil {
		return 0, err
	}
	defer func() { e.streams.close() }()

	leaf, err := cgroups{e.host.Cgroup}.makeLeaf(e.req.App)
	if err != nil {
		return 0, err
	}
	if e.host.Cgroup.V2 == "" && len(e.host.Cgroup.V1) == 0 {
		if leaf, err = cgroupOf(e.pid, process); err != nil {
			return 0, err
		}
		defer leaf.Close() // nil or not
	} else if leaf != nil {
		// What the process leaves running keeps the folder; it goes with the app.
		defer func() { _ = errors.Join(leaf.Close(), unix.Rmdir(leaf.Name())) }()
	}
	if err := e.start(process, leaf); err != nil {
		return 0, err
	}
	defer unix.Close(e.child.Pidfd)

	go e.passSignals(signals)
	return waitChild(e.child.PID)
}

// load reads the request and the contract.
func (e *entered) load() (err error) {
	if e.req, err = readRequest(); err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	if e.pod, err = contract.LoadPod("."); err != nil {
		return err
	}
	if e.host, err = contract.LoadHost("."); err != nil {
		return err
	}
	if e.spec, err = contract.LoadSpec(".", e.req.App); err != nil {
		return err
	}
	if e.spec.Process == nil {
		return fmt.Errorf("%s has no process", contract.SpecFile)
	}
	return nil
}

// readRequest reads the request and closes its file.
func readRequest() (*contract.EnterRequest, error) {
	f := os.NewFile(requestFD, "request")
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, contract.MaxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > contract.MaxFile {
		return nil, fmt.Errorf("it is larger than %d bytes", contract.MaxFile)
	}
	req := &contract.EnterRequest{}
	if err := contract.Decode(b, req); err != nil {
		return nil, err
	}
	if req.Version != contract.Version {
		return nil, fmt.Errorf("it has version %d, this program speaks %d: %w", req.Version, contract.Version, contract.ErrVersion)
	}
	if len(req.Args) == 0 || !filepath.IsLocal(req.App) {
		return nil, errors.New("it names no command or no app")
	}
	return req, nil
}

// openApp opens the process of the app.
func (e *entered) openApp() (int, error) {
	st, err := contract.LoadStarted(".", e.req.App)
	if errors.Is(err, os.ErrNotExist) {
		return -1, fmt.Errorf("app %q has not been started", e.req.App)
	}
	if err != nil {
		return -1, err
	}
	e.pid = st.PID
	fd, err := openProcess(st.PID, st.StartTicks, st.BootID)
	if errors.Is(err, errGone) {
		return -1, fmt.Errorf("app %q is not running", e.req.App)
	}
	return fd, err
}

func (e *entered) openStreams() (err error) {
	uid, ok := outside(e.host.IDs, e.req.UID)
	if !ok {
		return fmt.Errorf("user %d is not in the id range of the pod", e.req.UID)
	}
	kind := contract.Stream{Kind: contract.StreamInherit}
	if e.req.Terminal {
		kind.Kind = contract.StreamPTY
	}
	e.streams, err = openStreams(&contract.App{Stdin: kind, Stdout: kind, Stderr: kind}, int(uid), nil)
	return err
}

// start compiles the program, runs it, and does the parent's part of it. On an
// error nothing is left.
func (e *entered) start(process int, leaf *os.File) (err error) {
	res := &compile.EnterResources{Process: process}
	task := &Task{Dir: filepath.Join(contract.AppsDir, e.req.App), App: &contract.App{}, Stdio: e.streams.fds, KeepCapabilities: e.keep}
	if res.Common, err = task.Common(); err != nil {
		return err
	}
	res.Terminal = e.req.Terminal
	if res.Tasks, err = (cgroups{e.host.Cgroup}).openTasks(e.req.App); err != nil {
		return err
	}
	defer closeTasks(res.Tasks)
	p, err := compile.Enter(e.req, e.spec, e.pod, res)
	if err != nil {
		return err
	}
	if e.child, err = p.Start(program.Clone{Cgroup: leaf}); err != nil {
		return err
	}
	defer e.child.Close()

	e.streams.handOver()
	if err := e.meet(len(res.Seccomp) > 0); err != nil {
		e.child.Kill()
		unix.Close(e.child.Pidfd)
		return err
	}
	return nil
}

// meet does the parent's part: the process is looked at before it executes
// anything of the image.
func (e *entered) meet(filtered bool) error {
	if err := e.child.Until(compile.WaitExec); err != nil {
		return err
	}
	if err := e.verify(filtered); err != nil {
		return fmt.Errorf("verify confinement: %w", err)
	}
	if e.req.Terminal {
		master, err := takeMaster(e.child)
		if err != nil {
			return err
		}
		if err := e.streams.attach(master, e.stdin); err != nil {
			return err
		}
	}
	if err := e.child.Release(); err != nil {
		return err
	}
	executed, err := e.child.Done()
	if err != nil {
		return err
	}
	if !executed {
		failure := compile.ExecFailure(e.req.Args[0], e.child.Events)
		return &startError{failure.Code, failure}
	}
	return nil
}

// verify reads back what the program has done, as Native.Verify does for a start.
func (e *entered) verify(filtered bool) error {
	st, err := readStatus(e.child.PID)
	if err != nil {
		return err
	}
	process := *e.spec.Process
	process.User.UID, process.User.GID, process.User.AdditionalGids = e.req.UID, e.req.GID, e.req.Groups
	if err := verifyPrivileges(st, &process, filtered, e.keep); err != nil {
		return err
	}
	return verifyUser(st, process.User, e.host.IDs)
}

// passSignals gives the process the signals that this one gets.
func (e *entered) passSignals(signals <-chan os.Signal) {
	for sig := range signals {
		switch sig := sig.(unix.Signal); {
		case sig == unix.SIGCHLD, sig == unix.SIGPIPE:
		case sig == unix.SIGWINCH && e.req.Terminal:
			e.streams.resize()
		case sig == unix.SIGCONT && e.req.Terminal:
			e.streams.resume()
		default:
			_ = unix.PidfdSendSignal(e.child.Pidfd, sig, nil, 0)
		}
	}
}

// waitChild waits for the end of the child pid and gives its exit code.
func waitChild(pid int) (int, error) {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("wait for process %d: %w", pid, err)
		}
		if ws.Signaled() {
			return contract.ExitSignal + int(ws.Signal()), nil
		}
		return ws.ExitStatus(), nil
	}
}

// takeMaster fetches the other side of the terminal that the child has made.
func takeMaster(child *program.Child) (int, error) {
	event, ok := child.Reported(compile.ReportTerminal)
	if !ok || event.Errno != 0 {
		return -1, errors.New("make terminal: the app has none")
	}
	master, err := unix.PidfdGetfd(child.Pidfd, int(event.Value), 0)
	if err != nil {
		return -1, fmt.Errorf("take terminal: %w", err)
	}
	unix.CloseOnExec(master)
	return master, nil
}

// leafPrefix begins the names of the cgroups of entered processes.
const leafPrefix = "enter."

// maxLeaves bounds the entered processes of an app at one time.
const maxLeaves = 4096

// makeLeaf makes a cgroup for an entered process in the unified hierarchy, below
// the app's, whose limits hold for it too. It is nil where there is none.
func (c cgroups) makeLeaf(app string) (*os.File, error) {
	if c.V2 == "" {
		return nil, nil
	}
	for n := range maxLeaves {
		dir := filepath.Join(c.V2, appPrefix+app, leafPrefix+strconv.Itoa(n))
		err := unix.Mkdir(dir, 0o755)
		if err == unix.EEXIST {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("make cgroup %s: %w", dir, err)
		}
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open cgroup %s: %w", dir, err)
		}
		return os.NewFile(uintptr(fd), dir), nil
	}
	return nil, fmt.Errorf("app %q has %d entered processes already", app, maxLeaves)
}
