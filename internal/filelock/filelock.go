// Package filelock locks files and folders with flock(2). A lock belongs to the
// open file: it ends when the last copy of the descriptor is closed, at the
// latest with the process. Lock files are never removed: somebody may be
// waiting for one.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked reports a lock that somebody else holds.
var ErrLocked = errors.New("locked")

// Lock is an open file or folder that can be locked.
type Lock struct{ f *os.File }

// Open opens an existing file or folder for locking, without locking it.
func Open(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return &Lock{f}, nil
}

// Create opens a file for locking, making it (mode 0600) if it is missing.
func Create(path string) (*Lock, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	return &Lock{f}, nil
}

// New makes a Lock of an open file, which it owns from then on.
func New(f *os.File) *Lock { return &Lock{f} }

// File returns the open file, which the Lock keeps. Handing it to another
// process hands over a share of the lock.
func (l *Lock) File() *os.File { return l.f }

// TryExclusive locks for one holder. The error is ErrLocked. Changing from a
// shared lock is not atomic.
func (l *Lock) TryExclusive() error { return l.try(unix.LOCK_EX) }

// TryShared locks for many holders. The error is ErrLocked.
func (l *Lock) TryShared() error { return l.try(unix.LOCK_SH) }

// Exclusive waits for the lock for one holder. When ctx ends first, its error
// is returned and the Lock is closed.
func (l *Lock) Exclusive(ctx context.Context) error { return l.wait(ctx, unix.LOCK_EX) }

// Shared waits for the lock for many holders. When ctx ends first, its error is
// returned and the Lock is closed.
func (l *Lock) Shared(ctx context.Context) error { return l.wait(ctx, unix.LOCK_SH) }

// Unlock gives the lock back and keeps the file open.
func (l *Lock) Unlock() error { return flock(l.f, unix.LOCK_UN) }

// Close closes the file, which gives the lock back unless another process has
// the file open. Close may be called twice.
func (l *Lock) Close() error {
	if err := l.f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

func (l *Lock) try(how int) error {
	err := flock(l.f, how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%q: %w", l.f.Name(), ErrLocked)
	}
	return err
}

func (l *Lock) wait(ctx context.Context, how int) error {
	if err := l.try(how); err == nil || !errors.Is(err, ErrLocked) {
		return err
	}
	// flock(2) cannot be cancelled. It waits on a copy of the descriptor, so
	// that closing the file drops a lock that comes when nobody wants it any more.
	fd, err := unix.FcntlInt(l.f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("lock %q: %w", l.f.Name(), err)
	}
	waiter := os.NewFile(uintptr(fd), l.f.Name())
	done := make(chan error, 1)
	go func() {
		defer waiter.Close()
		done <- flock(waiter, how)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		l.Close()
		return fmt.Errorf("wait for lock %q: %w", l.f.Name(), ctx.Err())
	}
}

func flock(f *os.File, how int) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return fmt.Errorf("lock %q: %w", f.Name(), err)
	}
	var flockErr error
	err = raw.Control(func(fd uintptr) {
		for {
			if flockErr = unix.Flock(int(fd), how); flockErr != unix.EINTR {
				return
			}
		}
	})
	if err = errors.Join(err, flockErr); err != nil {
		return fmt.Errorf("lock %q: %w", f.Name(), err)
	}
	return nil
}
