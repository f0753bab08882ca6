package pod

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"rkt/internal/safepath"
	"rkt/stage1/contract"
)

// lastFiles are removed after everything else in a pod directory, in this
// order: as long as one is left it can be told what the pod was and what it
// holds on this host, and the lock keeps others away until the very end.
var lastFiles = []string{contract.HostFile, contract.PodFile, lockFile}

// deleteAttempts bounds how often Delete starts again because somebody put a
// file into the directory.
const deleteAttempts = 16

// Delete removes the directory of a locked pod, and its name. It follows no
// link and crosses no mount: the error is safepath.ErrMount and names the mount
// point. The pod is moved to InGarbage first, except on a disk that is too full
// even for that. After an error, or a kill, calling it again goes on.
//
// That nothing of the pod is alive is for the caller to see to.
func (p *Pod) Delete() error {
	if p.held == Nobody {
		return fmt.Errorf("internal error: delete pod %s, which is not locked", p.id)
	}
	if err := p.ToGarbage(); err != nil && !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		return err
	}
	if err := p.ReleaseName(); err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		if err := p.empty(); err != nil {
			return fmt.Errorf("remove pod %s: %w", p.id, err)
		}
		err := unix.Unlinkat(int(p.dir.root.Fd()), p.name(), unix.AT_REMOVEDIR)
		if err == nil || err == unix.ENOENT {
			return nil
		}
		// Another gc that opened the directory before it was removed makes a lock
		// file after ours is gone, and then finds that there is no pod.
		if err != unix.ENOTEMPTY || attempt == deleteAttempts {
			return fmt.Errorf("remove pod %s: %w", p.id, err)
		}
	}
}

// empty removes everything in the pod directory.
func (p *Pod) empty() error {
	entries, err := readDir(p.Folder())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if slices.Contains(lastFiles, e.Name()) {
			continue
		}
		if err := safepath.RemoveAll(p.Folder(), e.Name()); err != nil {
			return err
		}
	}
	for _, name := range lastFiles {
		if err := safepath.RemoveAll(p.Folder(), name); err != nil {
			return err
		}
	}
	return nil
}

// DeleteEmbryo removes what a crash in the first steps of Create left behind,
// and reports whether it did. It does not touch a pod that is being created.
func (p *Pod) DeleteEmbryo() (bool, error) {
	// Before it has a lock file an embryo is empty, and only then this succeeds.
	err := unix.Unlinkat(int(p.dir.root.Fd()), p.name(), unix.AT_REMOVEDIR)
	switch err {
	case nil:
		return true, nil
	case unix.ENOENT:
		return false, nil
	case unix.ENOTEMPTY, unix.EEXIST:
	default:
		return false, fmt.Errorf("remove embryo of pod %s: %w", p.id, err)
	}
	err = p.LockToCollect()
	if errors.Is(err, ErrLocked) || errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil || p.place != InEmbryo {
		return false, err
	}
	return true, p.Delete()
}
