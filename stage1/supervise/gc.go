package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// GC is the gc entrypoint: it ends what is alive of the pod whose directory is
// the working directory and whose supervisor is dead, and gives back what the
// host lent to it. The caller holds the pod's lock. It is idempotent, leaves the
// pod directory itself to the caller, and fails without having given anything
// back when a process of the pod cannot be killed.
func GC() error {
	pod, host, err := loadDead()
	if err != nil || host == nil {
		return err
	}
	if err := killOrphans(pod, host); err != nil {
		return err
	}
	return clear(pod, host)
}

// Stop is the stop entrypoint: it asks the supervisor of the pod to end it, and
// returns when that is under way. With force it returns when nothing of the pod
// is alive any more, be the supervisor willing or not. A pod whose supervisor is
// dead is ended by force in either case. A supervisor that does not listen yet is
// an error: a signal reaches it.
func Stop(force bool) error {
	pod, host, err := loadDead()
	if errors.Is(err, fs.ErrNotExist) || err == nil && host == nil {
		return nil // removed by now, or never run
	}
	if err != nil {
		return err
	}
	op := contract.OpStop
	if force {
		op = contract.OpKill
	}
	supervisor, err := callSupervisor(host, op)
	if supervisor >= 0 {
		defer unix.Close(supervisor)
	}
	switch {
	case errors.Is(err, errNoSupervisor):
		return stopWithout(pod, host)
	case supervisor < 0:
		return err
	case errors.Is(err, errClosed):
		// It was at its end, or somebody killed it. The reply can say no more.
		return endAfter(supervisor, pod, host)
	case !force:
		return err
	}
	if err == nil && awaitExit(supervisor, time.Now().Add(killDeadline)) == nil {
		return nil
	}
	// It is stopped, or hangs. Without it, its apps are orphans like others.
	if err := unix.PidfdSendSignal(supervisor, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill the supervisor: %w", err)
	}
	return endAfter(supervisor, pod, host)
}

// endAfter waits for the end of the supervisor and ends what it has left.
func endAfter(supervisor int, pod *contract.Pod, host *contract.Host) error {
	if err := awaitExit(supervisor, time.Now().Add(killDeadline)); err != nil {
		return fmt.Errorf("wait for the end of the supervisor: %w", err)
	}
	return killOrphans(pod, host)
}

// stopWithout ends a pod of which nobody listens.
func stopWithout(pod *contract.Pod, host *contract.Host) error {
	owned, err := isOwned()
	if err != nil {
		return err
	}
	if !owned {
		return killOrphans(pod, host)
	}
	if _, err := os.Lstat(host.RunDir); errors.Is(err, fs.ErrNotExist) {
		return nil // given back, which is done when nothing is alive
	}
	return errors.New("the supervisor does not listen yet")
}

// isOwned says whether somebody holds the lock of the pod in the working
// directory. It takes nothing, and so is in nobody's way.
func isOwned() (bool, error) {
	fd, err := unix.Open(contract.LockFile, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the lock of the pod: %w", err)
	}
	defer unix.Close(fd)
	owner := unix.Flock_t{Type: unix.F_WRLCK, Start: 0, Len: 1}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &owner); err != nil {
		return false, fmt.Errorf("look at the lock of the pod: %w", err)
	}
	return owner.Type != unix.F_UNLCK, nil
}

// loadDead loads the pod in the working directory. A nil host means that it was
// never run: nothing was lent to it.
func loadDead() (*contract.Pod, *contract.Host, error) {
	pod, err := contract.LoadPod(".")
	if err != nil {
		return nil, nil, err
	}
	host, err := contract.LoadHost(".")
	if errors.Is(err, fs.ErrNotExist) {
		return pod, nil, nil
	}
	return pod, host, err
}

// killOrphans ends every process of a pod without a supervisor.
func killOrphans(pod *contract.Pod, host *contract.Host) error {
	deadline := time.Now().Add(killDeadline)
	// First, because it thaws: a frozen process does not die of SIGKILL.
	if err := (cgroups{host.Cgroup}).kill(deadline); err != nil {
		return err
	}
	for _, name := range pod.Apps {
		if err := killRecorded(name, deadline); err != nil {
			return fmt.Errorf("app %s: %w", name, err)
		}
	}
	return nil
}

// killRecorded ends the process in an app's started file, and with it, where it
// is pid 1 of a pid namespace, everything in that.
func killRecorded(app string, deadline time.Time) error {
	st, err := contract.LoadStarted(".", app)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pidfd, err := openProcess(st.PID, st.StartTicks, st.BootID)
	if errors.Is(err, errGone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	if err := unix.PidfdSendSignal(pidfd, unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("kill process %d: %w", st.PID, err)
	}
	if err := awaitExit(pidfd, deadline); err != nil {
		return fmt.Errorf("process %d: %w", st.PID, err)
	}
	return nil
}
