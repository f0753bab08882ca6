package pod

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"rkt/stage0/cgroup"
	"rkt/stage1/contract"
)

// AwaitEnd blocks until the pod has ended: nobody owns its lock and nothing of
// it is alive. A prepared pod ends after it was run; one that is removed has
// ended. It does not poll and takes no lock that could be in anybody's way. When
// ctx ends first, the error is its cause; the thread that blocks on the lock
// then stays until the pod ends.
func (p *Pod) AwaitEnd(ctx context.Context) error {
	for {
		if err := p.AwaitUnlock(ctx); err != nil {
			return err
		}
		waiting, err := p.awaitRun(ctx)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if !waiting {
			return p.awaitDead(ctx)
		}
	}
}

// awaitRun blocks as long as the pod is prepared and reports whether it was.
func (p *Pod) awaitRun(ctx context.Context) (waited bool, err error) {
	if err := p.locate(); err != nil || p.place != InPrepared {
		return false, err
	}
	watch, err := p.watch(unix.IN_MOVE_SELF | unix.IN_DELETE_SELF)
	if err != nil {
		return false, err
	}
	defer unix.Close(watch)
	var lookErr error
	err = pollUntil(ctx, func() []int {
		drain(watch)
		if lookErr = p.locate(); lookErr != nil || p.place != InPrepared {
			return nil
		}
		return []int{watch}
	})
	return true, errors.Join(err, lookErr)
}

// awaitDead blocks until nothing of the pod is alive.
func (p *Pod) awaitDead(ctx context.Context) error {
	for {
		left, err := p.processes()
		if err != nil {
			return err
		}
		err = awaitExit(ctx, left)
		for _, q := range left {
			q.close()
		}
		if err != nil || len(left) == 0 {
			return err
		}
	}
}

// watch returns an inotify instance that watches the pod directory, by the open
// folder, because the pod may move.
func (p *Pod) watch(events uint32) (int, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("watch pod %s: %w", p.id, err)
	}
	path := fmt.Sprintf("/proc/self/fd/%d", p.fd)
	if _, err := unix.InotifyAddWatch(fd, path, events); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("watch pod %s: %w", p.id, err)
	}
	return fd, nil
}

// AwaitUnlock blocks until nobody owns the lock, or ctx ends.
func (p *Pod) AwaitUnlock(ctx context.Context) error {
	fd, err := openLock(p.fd, unix.O_RDONLY)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("pod %s: %w", p.id, err)
	}
	unlocked := make(chan error, 1)
	go func() {
		defer unix.Close(fd) // gives back the read lock at once
		unlocked <- awaitLock(fd)
	}()
	select {
	case err := <-unlocked:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// processes opens every process of the pod that can be found, apps and what is
// in the cgroups. The caller closes them.
func (p *Pod) processes() ([]process, error) {
	all, err := p.startedProcesses()
	if err != nil {
		return all, err
	}
	cg, err := p.cgroups()
	if err != nil {
		return all, err
	}
	pids, err := cgroup.Processes(cg)
	if err != nil {
		return all, err
	}
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if pid <= 0 || err != nil {
			continue
		}
		q := process{pid: pid, fd: fd}
		if q.exited() {
			q.close()
			continue
		}
		all = append(all, q)
	}
	return all, nil
}

// ErrEnded reports a pod that ended before what was waited for happened.
var ErrEnded = errors.New("pod has ended")

// AwaitReady blocks until every app of the pod has been started. A pod that
// ends before is ErrEnded, unless it had been ready.
func (p *Pod) AwaitReady(ctx context.Context) error {
	watch, err := p.watch(unix.IN_MOVED_TO | unix.IN_CREATE)
	if err != nil {
		return err
	}
	defer unix.Close(watch)
	other, err := p.dir.Get(p.id) // for the goroutine: a Pod is not safe to share
	if err != nil {
		return err
	}
	defer other.Close()

	ctx, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := other.AwaitEnd(ctx); err == nil {
			cancel(ErrEnded)
		}
	}()
	err = pollUntil(ctx, func() []int {
		drain(watch)
		if p.isReady() {
			return nil
		}
		return []int{watch}
	})
	cancel(nil)
	<-ended
	if err != nil && p.isReady() {
		return nil
	}
	return err
}

func (p *Pod) isReady() bool {
	_, err := p.Read(contract.ReadyFile)
	return err == nil || !errors.Is(err, fs.ErrNotExist)
}

// drain reads all events of an inotify instance.
func drain(fd int) {
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buf)
		if n <= 0 && err != unix.EINTR {
			return
		}
	}
}

// pollUntil calls fds, waits until one of the descriptors it returns is
// readable, and so on until it returns none. When ctx ends first, the error is
// its cause.
func pollUntil(ctx context.Context, fds func() []int) error {
	wakeRead, wakeWrite, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	defer wakeRead.Close()
	defer wakeWrite.Close()
	stop := context.AfterFunc(ctx, func() { wakeWrite.Write([]byte{0}) })
	defer stop()
	wake := int32(wakeRead.Fd())
	for {
		waiting := fds()
		if len(waiting) == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		set := []unix.PollFd{{Fd: wake, Events: unix.POLLIN}}
		for _, fd := range waiting {
			set = append(set, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		}
		if _, err := unix.Poll(set, -1); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait: %w", err)
		}
	}
}
