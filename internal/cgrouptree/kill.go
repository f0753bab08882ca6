package cgrouptree

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// killRound bounds how long Kill waits for those it has signalled before it
// looks again: a process in an uninterruptible wait dies late, others may have
// been born meanwhile.
const killRound = 100 * time.Millisecond

// Seal keeps processes from being born in the trees, as far as the hierarchies
// can do that: a fork bomb would win the race of lists and signals. It is not
// undone, and so for cgroups that are at their end.
func Seal(dirs ...string) error {
	return each(dirs, "pids.max", "0")
}

// Kill ends every process in the trees and returns when none is left, or with an
// error that names who is, and the cause, when ctx ends.
func Kill(ctx context.Context, dirs ...string) error {
	for {
		left, err := killOnce(dirs)
		if err == nil {
			awaitAll(ctx, left)
		}
		for _, fd := range left {
			unix.Close(fd)
		}
		if err != nil {
			return err
		}
		// Only a list that is empty proves it: what was listed may have forked.
		pids, err := Processes(dirs...)
		if err != nil || len(pids) == 0 {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("processes %v do not die: %w", pids, err)
		}
	}
}

// killOnce sends SIGKILL to all that are in the trees and returns pidfds, for the
// caller to close, of those that it found one by one.
func killOnce(dirs []string) (left []int, err error) {
	for _, dir := range dirs {
		_ = WriteFile(filepath.Join(dir, "cgroup.kill"), "1") // v2: the whole tree at once
	}
	before, err := Processes(dirs...)
	if err != nil {
		return nil, err
	}
	type process struct{ pid, fd int }
	var open []process
	for _, pid := range before {
		if pid == 0 {
			continue // of another pid namespace
		}
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			open = append(open, process{pid, fd})
		}
	}
	after, err := Processes(dirs...)
	for _, p := range open {
		// Listed again after its pidfd was opened, and alive after that: this is the
		// process that is in the cgroup, and not a stranger that got its number.
		_, listed := slices.BinarySearch(after, p.pid)
		if err != nil || !listed || exited(p.fd, 0) {
			unix.Close(p.fd)
			continue
		}
		left = append(left, p.fd)
		if e := unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0); e != nil && e != unix.ESRCH {
			err = fmt.Errorf("kill process %d: %w", p.pid, e)
		}
	}
	thaw(dirs)
	return left, err
}

// thaw lets frozen processes run, which on v1 is what they need to die.
func thaw(dirs []string) {
	_ = each(dirs, "freezer.state", "THAWED")
	_ = each(dirs, "cgroup.freeze", "0")
}

// each writes a file of all cgroups of the trees. What a hierarchy does not have
// need not be there.
func each(dirs []string, file, value string) error {
	for _, dir := range dirs {
		err := Walk(dir, func(dir string) error {
			_ = WriteFile(filepath.Join(dir, file), value)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitAll waits until all the processes are over, or the round or ctx ends.
// Where there is none to wait for, the list is to have changed before the next
// look.
func awaitAll(ctx context.Context, pidfds []int) {
	if len(pidfds) == 0 {
		select {
		case <-ctx.Done():
		case <-time.After(time.Millisecond):
		}
	}
	end := time.Now().Add(killRound)
	for _, fd := range pidfds {
		for ctx.Err() == nil && time.Now().Before(end) && !exited(fd, time.Until(end)) {
		}
	}
}

// exited says whether the process of a pidfd is over, within the time.
func exited(pidfd int, patience time.Duration) bool {
	millis := int(patience.Milliseconds())
	if patience > 0 {
		millis++
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, millis)
	return err == nil && n > 0
}
