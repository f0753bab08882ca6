package pod

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/stage0/cgroup"
	"rkt/stage1/contract"
)

// process is a process held by a pidfd: it cannot be mistaken for a later one
// that got the same number.
type process struct {
	pid int
	fd  int
}

func (q process) close() { unix.Close(q.fd) }

// exited reports whether the process is over; one that nobody has waited for is.
func (q process) exited() bool {
	fds := []unix.PollFd{{Fd: int32(q.fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if err != unix.EINTR {
			return err != nil || n > 0
		}
	}
}

// kill sends a signal. One to a process that is over is no error.
func (q process) kill(sig unix.Signal) error {
	err := unix.PidfdSendSignal(q.fd, sig, nil, 0)
	if err != nil && err != unix.ESRCH {
		return fmt.Errorf("signal process %d: %w", q.pid, err)
	}
	return nil
}

// openProcess opens the process that had the number pid and began at ticks in
// this boot. ok is false when it is over.
func openProcess(pid int, ticks uint64) (q process, ok bool, err error) {
	if pid <= 0 {
		return q, false, nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH || err == unix.EINVAL || err == unix.ENOENT {
		return q, false, nil // gone; the number is now that of a thread (ENOENT: since Linux 6.15)
	}
	if err != nil {
		return q, false, fmt.Errorf("open process %d: %w", pid, err)
	}
	q = process{pid: pid, fd: fd}
	// Read after the pidfd was opened: if the process is alive after that, the
	// ticks are its own.
	now, err := startTicks(pid)
	if err != nil || now != ticks || q.exited() {
		q.close()
		return process{}, false, nil
	}
	return q, true, nil
}

// startTicks reads field 22 of /proc/PID/stat.
func startTicks(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, fmt.Errorf("read start time of process %d: %w", pid, err)
	}
	// The second field is the name in parentheses, which may contain anything.
	const afterName = 22 - 3
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) <= afterName {
		return 0, fmt.Errorf("read start time of process %d: unknown format", pid)
	}
	return strconv.ParseUint(fields[afterName], 10, 64)
}

// cgroups returns the folders of the pod in the cgroup hierarchies. When
// host.json is missing or damaged they are looked for by the pod's UUID.
func (p *Pod) cgroups() (contract.Cgroup, error) {
	h, err := p.Host()
	switch {
	case err == nil && h.BootID != p.dir.boot:
		return contract.Cgroup{}, nil // of another boot
	case err == nil:
		return h.Cgroup, nil
	}
	return cgroup.Find(p.id.String())
}

// Alive reports whether anything of the pod is alive: an app that is recorded
// as started, or any process in the pod's cgroups. The supervisor does not
// count; the lock speaks for it.
func (p *Pod) Alive() (bool, error) {
	if p.place < InRun {
		return false, nil // apps are started after the move to run only
	}
	apps, err := p.startedProcesses()
	for _, q := range apps {
		q.close()
	}
	if err != nil || len(apps) > 0 {
		return len(apps) > 0, err
	}
	cg, err := p.cgroups()
	if err != nil {
		return false, fmt.Errorf("find cgroups of pod %s: %w", p.id, err)
	}
	alive, err := cgroup.Populated(cg)
	if err != nil {
		return false, fmt.Errorf("look into cgroups of pod %s: %w", p.id, err)
	}
	return alive, nil
}

// startedProcesses opens the processes of the start records that are alive. The
// caller closes them.
func (p *Pod) startedProcesses() ([]process, error) {
	var names []string
	if c, err := p.Contract(); err == nil {
		names = c.Apps
	} else if names, err = p.appFolders(); errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil, nil // damaged: the cgroups tell
	} else if err != nil {
		return nil, err
	}
	var alive []process
	for _, name := range names {
		q, ok, err := p.startedProcess(name)
		if err != nil {
			return alive, err
		}
		if ok {
			alive = append(alive, q)
		}
	}
	return alive, nil
}

// startedProcess opens the process of the start record of an app. ok is false
// when there is none, when it is unreadable (the cgroups tell then), or when the
// process is over.
func (p *Pod) startedProcess(app string) (process, bool, error) {
	s, err := p.Started(app)
	if err != nil || s.BootID != p.dir.boot {
		return process{}, false, nil
	}
	return openProcess(s.PID, s.StartTicks)
}

// AppRun is how the last start of an app went.
type AppRun struct {
	State   AppState
	Started *contract.Started // nil = it was not started
	Exit    *contract.Exit    // nil = it has not ended, or left no record
}

// AppRun reads how the last start of an app went. pod is the state of its pod.
func (p *Pod) AppRun(app string, pod State) (AppRun, error) {
	var run AppRun
	started, err := p.Started(app)
	if err == nil {
		run.Started = started
	} else if !errors.Is(err, fs.ErrNotExist) {
		return run, err
	}
	exit, err := p.Exit(app)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return run, err
	}
	// The record of an earlier start is not how this one went.
	if err == nil && (run.Started == nil || exit.Restarts >= started.Restarts) {
		run.Exit = exit
	}
	run.State, err = p.appState(run, pod)
	return run, err
}

// appState is the one place where the state of an app is decided.
func (p *Pod) appState(run AppRun, pod State) (AppState, error) {
	switch {
	case run.Exit != nil:
		return AppExited, nil
	case run.Started == nil:
		return AppCreated, nil
	case pod == Running:
		return AppRunning, nil
	case run.Started.BootID != p.dir.boot:
		return AppExited, nil
	}
	q, alive, err := openProcess(run.Started.PID, run.Started.StartTicks)
	if err != nil || !alive {
		return AppExited, err
	}
	q.close()
	return AppOrphaned, nil
}

// Kill ends everything of a pod that has no supervisor and returns when nothing
// is left, or with an error when ctx ends first. It does not need the lock.
func (p *Pod) Kill(ctx context.Context) error {
	apps, err := p.startedProcesses()
	defer func() {
		for _, q := range apps {
			q.close()
		}
	}()
	if err != nil {
		return err
	}
	for _, q := range apps {
		if err := q.kill(unix.SIGKILL); err != nil {
			return err
		}
	}
	cg, err := p.cgroups()
	if err != nil {
		return fmt.Errorf("find cgroups of pod %s: %w", p.id, err)
	}
	if err := cgroup.Kill(ctx, cg); err != nil {
		return fmt.Errorf("kill pod %s: %w", p.id, err)
	}
	return awaitExit(ctx, apps)
}

// SignalSupervisor sends a signal to the process that locked the pod for
// running. Nothing happens when it is over or not known.
func (p *Pod) SignalSupervisor(sig unix.Signal) error {
	o, ok := p.Owner()
	if !ok || o.BootID != p.dir.boot {
		return nil
	}
	q, alive, err := openProcess(o.PID, o.StartTicks)
	if err != nil || !alive {
		return err
	}
	defer q.close()
	return q.kill(sig)
}

// awaitExit waits until all processes are over or ctx ends.
func awaitExit(ctx context.Context, all []process) error {
	left := slices.Clone(all)
	return pollUntil(ctx, func() []int {
		left = slices.DeleteFunc(left, process.exited)
		var fds []int
		for _, q := range left {
			fds = append(fds, q.fd)
		}
		return fds
	})
}
