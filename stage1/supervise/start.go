package supervise

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage1/compile"
	"rkt/stage1/contract"
	"rkt/stage1/program"
)

// startError is a failed start with the exit code that it gives the app.
type startError struct {
	code int
	err  error
}

func (e *startError) Error() string { return e.err.Error() }
func (e *startError) Unwrap() error { return e.err }

// start starts the process of an app, first or again. It returns when the app's
// command has been executed. On an error nothing of it is left.
func (s *supervisor) start(a *app) (err error) {
	if a.spec == nil {
		if a.spec, err = loadSpec(a.name); err != nil {
			return err
		}
	}
	defer func() { a.spec = nil }()
	uid, ok := outside(s.host.IDs, a.spec.Process.User.UID)
	if !ok {
		return fmt.Errorf("user %d is not in the id range of the pod", a.spec.Process.User.UID)
	}
	a.streams, err = openStreams(a.conf, int(uid), s.journal)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			a.release()
		}
	}()
	child, err := s.clone(a)
	if err != nil {
		return err
	}
	defer child.Close()

	a.streams.handOver()
	if err := s.meet(a, child); err != nil {
		child.Kill()
		unix.Close(child.Pidfd)
		return err
	}
	a.pid, a.pidfd, a.state, a.since = child.PID, child.Pidfd, appRunning, time.Now()
	if a == s.apps[0] {
		s.announce(a)
	}
	return nil
}

// clone opens what only the host's root may open and starts the program with it.
func (s *supervisor) clone(a *app) (*program.Child, error) {
	p, release, err := s.flavour.Start(s.task(a))
	if err != nil {
		return nil, err
	}
	defer release()

	a.oomBefore = s.cg.oomKills(a.name)
	var clone program.Clone
	if dir := s.cg.main(a.name); dir != "" {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open cgroup %s: %w", dir, err)
		}
		clone.Cgroup = os.NewFile(uintptr(fd), dir)
		defer clone.Cgroup.Close()
	}
	return p.Start(clone)
}

func (s *supervisor) task(a *app) *Task {
	t := &Task{
		Pod: s.pod, Host: s.host, Dir: a.dir(), App: a.conf, Spec: a.spec,
		Stdio: a.streams.fds, KeepCapabilities: !s.flavour.Confines(),
	}
	t.takeUnit()
	return t
}

// meet does the parent's part of a start.
func (s *supervisor) meet(a *app, child *program.Child) error {
	if a.conf.PID != contract.PIDHost {
		if err := child.UntilForked(); err != nil {
			return err
		}
	}
	// The child makes its mounts meanwhile. What is on disk comes before the app
	// may run, so that it can be found when this process dies.
	if err := s.record(a, child.PID); err != nil {
		return err
	}
	if err := child.Until(compile.WaitExec); err != nil {
		return err
	}
	if err := s.flavour.Verify(s.task(a), child.PID); err != nil {
		return fmt.Errorf("verify confinement: %w", err)
	}
	if err := s.takeTerminal(a, child); err != nil {
		return err
	}
	if err := s.awaitNetworks(); err != nil {
		return err
	}
	// An order to stop that comes from here on must not end this process alone.
	<-s.taken
	if err := child.Release(); err != nil {
		return err
	}
	executed, err := child.Done()
	if err != nil {
		return err
	}
	if !executed {
		e := compile.ExecFailure(command(a), child.Events)
		return &startError{e.Code, e}
	}
	return nil
}

// command is the name of an app's command as the user gave it.
func command(a *app) string {
	if len(a.spec.Process.Args) == 0 {
		return ""
	}
	return a.spec.Process.Args[0]
}

// record writes the app's started file.
func (s *supervisor) record(a *app, pid int) error {
	ticks, err := startTicks(pid)
	if err != nil {
		return fmt.Errorf("read start time: %w", err)
	}
	st := contract.Started{PID: pid, StartTicks: ticks, BootID: s.host.BootID, Nanos: nanos(), Restarts: a.restarts}
	if err := contract.Write(a.dir(), contract.StartedFile, st); err != nil {
		return fmt.Errorf("write start record: %w", err)
	}
	return nil
}

// takeTerminal fetches the other side of the terminal that the child has made,
// and relays it.
func (s *supervisor) takeTerminal(a *app, child *program.Child) error {
	if !wantsTerminal(a.conf) {
		return nil
	}
	master, err := takeMaster(child)
	if err != nil {
		return err
	}
	return a.streams.attach(master, s.stdin)
}

func wantsTerminal(a *contract.App) bool { return a.Stdin.Kind == contract.StreamPTY }
