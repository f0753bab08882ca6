package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// killRound bounds how long Kill waits for those it has signalled before it
// looks again: a process in an uninterruptible wait dies late, others may have
// been born meanwhile.
const killRound = 100 * time.Millisecond

// Kill ends every process in the cgroups of the pod and returns when none is
// left, or with an error that names who is when ctx ends. Only for a pod whose
// supervisor is gone; a living one would start apps again.
func Kill(ctx context.Context, cg contract.Cgroup) error {
	for {
		left, err := killOnce(cg)
		if err != nil {
			return err
		}
		if err := awaitAll(ctx, left); err != nil {
			return err
		}
		pids, err := Processes(cg)
		if err != nil || len(pids) == 0 {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("processes %v do not die: %w", pids, err)
		}
	}
}

// killOnce sends SIGKILL to all that are in the cgroups and returns pidfds of
// those that were found one by one.
func killOnce(cg contract.Cgroup) (left []int, err error) {
	own, err := Folders(cg)
	if err != nil {
		return nil, err
	}
	for _, dir := range own {
		err := walk(dir, 0, func(dir string) error {
			// In this order: no new processes, kill, let the frozen ones die.
			// What a hierarchy does not have fails, and need not be there.
			_ = writeFile(filepath.Join(dir, "pids.max"), "0")
			_ = writeFile(filepath.Join(dir, "cgroup.kill"), "1")
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	before, err := Processes(cg)
	if err != nil {
		return nil, err
	}
	var open []int
	var pids []int
	for _, pid := range before {
		if fd, err := unix.PidfdOpen(pid, 0); pid > 0 && err == nil {
			open, pids = append(open, fd), append(pids, pid)
		}
	}
	after, err := Processes(cg)
	for i, fd := range open {
		// Listed again after its pidfd was opened: that is the process that is in
		// the cgroup, and not a stranger that got its number. A pid that died in
		// between and was given out again inside the pod is the pod's as well.
		if err != nil || !slices.Contains(after, pids[i]) {
			unix.Close(fd)
			continue
		}
		left = append(left, fd)
		if e := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); e != nil && e != unix.ESRCH {
			err = fmt.Errorf("kill process %d: %w", pids[i], e)
		}
	}
	thaw(cg)
	return left, err
}

// thaw lets frozen processes run, which on v1 is what they need to die.
func thaw(cg contract.Cgroup) {
	own, _ := Folders(cg)
	for _, dir := range own {
		_ = walk(dir, 0, func(dir string) error {
			_ = writeFile(filepath.Join(dir, "freezer.state"), "THAWED")
			_ = writeFile(filepath.Join(dir, "cgroup.freeze"), "0")
			return nil
		})
	}
}

// awaitAll waits until all the processes are over, the round or ctx ends, and
// closes the pidfds. That ctx ended is not an error here.
func awaitAll(ctx context.Context, pidfds []int) error {
	defer func() {
		for _, fd := range pidfds {
			unix.Close(fd)
		}
	}()
	end := time.Now().Add(killRound)
	for _, fd := range pidfds {
		for ctx.Err() == nil && time.Now().Before(end) {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(fds, int(time.Until(end).Milliseconds())+1)
			if err != nil && err != unix.EINTR {
				return fmt.Errorf("wait for killed processes: %w", err)
			}
			if n > 0 {
				break
			}
		}
	}
	return nil
}

// Find looks for the folders of a pod in all hierarchies of the host by its
// UUID. It is for pods whose own record of them is missing: it walks everything.
func Find(uuid string) (contract.Cgroup, error) {
	cg := contract.Cgroup{V1: map[string]string{}}
	err := filepath.WalkDir(mountRoot, func(path string, e os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil // removed meanwhile
		}
		if err != nil || !e.IsDir() {
			return err
		}
		if strings.Count(path, "/") > maxDepth {
			return filepath.SkipDir
		}
		if e.Name() == podPrefix+uuid {
			// The kind of hierarchy does not matter for what is done with these.
			cg.V1[path] = path
			return filepath.SkipDir
		}
		if isPod(e.Name()) {
			return filepath.SkipDir // another pod's
		}
		if strings.HasPrefix(e.Name(), appPrefix) {
			if mark, err := markOf(path); err == nil && mark == uuid {
				cg.V1[path] = path
			}
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		return cg, fmt.Errorf("look for cgroups of pod %s: %w", uuid, err)
	}
	return cg, nil
}

// isPod says whether a folder of that name is a pod's. A unit may well be called
// rkt-redis.service, and have pods below it.
func isPod(name string) bool {
	uuid, ok := strings.CutPrefix(name, podPrefix)
	return ok && len(uuid) == 36 && strings.Trim(uuid, "0123456789abcdef-") == ""
}
