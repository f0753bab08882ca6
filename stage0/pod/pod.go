// Package pod keeps the directories of pods: their names, the lock that says
// who works on one, the moves that are its life, and the processes that belong
// to it. It knows nothing about images or about how a pod is run.
//
// A pod is a directory <data>/pods/<place>/<uuid>. Its state is computed from
// the place, the lock and what is alive; nothing else is remembered, so that any
// process may be killed at any instant and the next one sees the truth. Moves
// are renames by the owner of the lock. Looking at a pod neither writes nor
// locks.
//
// Start with Dir.Create, which makes a pod, Dir.Find and Dir.Walk, which look at
// those that exist, and stateOf, which decides what a pod is doing.
package pod

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// Errors that callers act on.
var (
	ErrNotFound  = errors.New("no such pod")
	ErrAmbiguous = errors.New("more than one pod matches")
	ErrLocked    = errors.New("pod is in use by another process")
	ErrNameInUse = errors.New("pod name is in use")
)

// AmbiguousError is an ErrAmbiguous that tells which pods match.
type AmbiguousError struct {
	Word    string
	Matches []UUID
}

func (e *AmbiguousError) Error() string {
	var ids []string
	for _, u := range e.Matches {
		ids = append(ids, u.String())
	}
	return fmt.Sprintf("%q matches %d pods: %s", e.Word, len(ids), strings.Join(ids, ", "))
}

// Is makes an AmbiguousError an ErrAmbiguous.
func (e *AmbiguousError) Is(target error) bool { return target == ErrAmbiguous }

// Pod is an open pod directory. It follows the directory through renames. It is
// not safe for concurrent use; Close releases it and, with it, the lock.
type Pod struct {
	dir    *Dir
	id     UUID
	place  Place
	fd     int      // the directory
	folder *os.File // the same, once somebody asked for it
	lock   int      // the lock file, -1 = not opened
	held   Holder   // as what this Pod owns the lock
	// What was read of files that do not change any more.
	contract *contract.Pod
	host     *contract.Host
}

// UUID returns the identity of the pod.
func (p *Pod) UUID() UUID { return p.id }

// Place returns the place where the pod was last seen.
func (p *Pod) Place() Place { return p.place }

// Path returns the absolute path of the directory where it was last seen. The
// owner of the lock can rely on it, others should use Folder.
func (p *Pod) Path() string { return filepath.Join(p.dir.path, p.name()) }

// PathIn returns the absolute path that the directory has in a place.
func (p *Pod) PathIn(place Place) string {
	return filepath.Join(p.dir.path, place.String(), p.id.String())
}

// Folder returns the open directory, which belongs to the Pod.
func (p *Pod) Folder() *os.File {
	if p.folder == nil {
		p.folder = os.NewFile(uintptr(p.fd), p.Path())
	}
	return p.folder
}

// name is the path of the directory below the folder of all pods.
func (p *Pod) name() string { return p.place.String() + "/" + p.id.String() }

// Close releases the directory and the lock, if this Pod owns it.
func (p *Pod) Close() error {
	p.closeLock()
	if p.folder != nil {
		return p.folder.Close()
	}
	return unix.Close(p.fd)
}

func (p *Pod) closeLock() {
	if p.lock >= 0 {
		unix.Close(p.lock)
	}
	p.lock, p.held = -1, Nobody
}

// Lock makes this Pod the owner of the lock in order to run it, without waiting.
// It returns ErrLocked when another process (or another Pod of this process)
// owns it and ErrNotFound when the pod has been removed. Afterwards the place is
// current, and stays so until the Pod is closed or moves.
func (p *Pod) Lock() error { return p.lockAs(Runner) }

// LockToCollect is Lock in order to remove the pod or to move it aside. To
// others the pod stays what it is, instead of seeming to run.
func (p *Pod) LockToCollect() error { return p.lockAs(Collector) }

func (p *Pod) lockAs(as Holder) error {
	if p.held != Nobody {
		return nil
	}
	// Made anew in a damaged pod that has none, so that two who repair or remove
	// it are not in each other's way.
	fd, err := openLock(p.fd, unix.O_RDWR|unix.O_CREAT)
	if err != nil {
		if p.vanished() {
			return fmt.Errorf("pod %s: %w", p.id, ErrNotFound)
		}
		return fmt.Errorf("pod %s: %w", p.id, err)
	}
	if err := takeLock(fd, as); err != nil {
		unix.Close(fd)
		return fmt.Errorf("pod %s: %w", p.id, err)
	}
	p.closeLock()
	p.lock, p.held = fd, as
	if err := p.locate(); err != nil {
		p.closeLock()
		return err
	}
	return nil
}

// Unlock gives up the lock. It does nothing when this Pod does not own it.
func (p *Pod) Unlock() {
	if p.held != Nobody {
		p.closeLock()
	}
}

// Holder reports who owns the lock, be it this Pod or another. It does not take
// the lock.
func (p *Pod) Holder() (Holder, error) {
	if p.held != Nobody {
		return p.held, nil
	}
	err := p.openLockToRead()
	if errors.Is(err, unix.ENOENT) {
		return Nobody, nil // an embryo, or the remains of a pod
	}
	if err != nil {
		return Nobody, err
	}
	return holderOf(p.lock)
}

// openLockToRead opens the lock file, once.
func (p *Pod) openLockToRead() error {
	if p.lock >= 0 {
		return nil
	}
	fd, err := openLock(p.fd, unix.O_RDONLY)
	if err != nil {
		return fmt.Errorf("pod %s: %w", p.id, err)
	}
	p.lock = fd
	return nil
}

// Owner returns who locked the pod for running, if that is known.
func (p *Pod) Owner() (Owner, bool) {
	if p.openLockToRead() != nil {
		return Owner{}, false
	}
	return readOwner(p.lock)
}

// State computes what the pod is doing now. A pod that was removed while it was
// looked at is ErrNotFound.
func (p *Pod) State() (State, error) {
	for {
		holder, err := Nobody, error(nil)
		if p.place != InEmbryo && p.place != InPrepared { // where it does not matter
			holder, err = p.Holder()
		}
		if err != nil {
			return "", err
		}
		s, err := stateOf(p.place, holder, p.Alive)
		if err != nil || p.held != Nobody || s != Aborted && s != Exited {
			return s, err
		}
		// An unlocked pod may be one whose owner moved it on and ended after it
		// was opened here: what counts is where it is now.
		before := p.place
		if err := p.locate(); err != nil {
			return "", err
		}
		if p.place == before {
			return s, nil
		}
	}
}

// locate finds the place where the open directory is now.
func (p *Pod) locate() error {
	var mine, there unix.Stat_t
	if err := unix.Fstat(p.fd, &mine); err != nil {
		return fmt.Errorf("stat pod %s: %w", p.id, err)
	}
	for place := p.place; place < places; place++ {
		name := place.String() + "/" + p.id.String()
		err := unix.Fstatat(int(p.dir.root.Fd()), name, &there, unix.AT_SYMLINK_NOFOLLOW)
		if err == nil && there.Ino == mine.Ino && there.Dev == mine.Dev {
			p.place = place
			return nil
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("look for pod %s: %w", p.id, err)
		}
	}
	return fmt.Errorf("pod %s: %w", p.id, ErrNotFound)
}

// vanished reports whether the directory has been removed.
func (p *Pod) vanished() bool { return errors.Is(p.locate(), ErrNotFound) }

// openBeneath opens name below folder without following any symbolic link.
func openBeneath(folder int, name string, flags int, mode uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	if flags&unix.O_CREAT != 0 {
		how.Mode = mode
	}
	for {
		fd, err := unix.Openat2(folder, name, &how)
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}
