package pod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"rkt/internal/mutant"
)

// move renames the directory to the next place. Only the owner of the lock
// moves a pod, so nobody else can be moving it.
func (p *Pod) move(to Place) error {
	if p.held == Nobody {
		return fmt.Errorf("internal error: move pod %s, which is not locked", p.id)
	}
	if to <= p.place {
		return fmt.Errorf("internal error: move pod %s from %s back to %s", p.id, p.place, to)
	}
	root := int(p.dir.root.Fd())
	target := to.String() + "/" + p.id.String()
	if err := unix.Renameat2(root, p.name(), root, target, unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("move pod %s to %s: %w", p.id, to, err)
	}
	p.place = to
	return nil
}

// ToPrepared moves a pod from InPrepare to InPrepared. With sync everything in
// it is on disk before and the move is on disk when ToPrepared returns: a pod
// that `rkt prepare` printed survives a power cut. What is not to outlive the
// boot does without.
func (p *Pod) ToPrepared(sync bool) error {
	if p.place != InPrepare {
		return fmt.Errorf("pod %s is not being prepared", p.id)
	}
	if !sync || mutant.On("nopodfsync") {
		return p.move(InPrepared)
	}
	if err := syncTree(p.Folder()); err != nil {
		return fmt.Errorf("sync pod %s: %w", p.id, err)
	}
	if err := p.move(InPrepared); err != nil {
		return err
	}
	for _, place := range []Place{InPrepared, InPrepare} {
		if err := p.dir.sync(place.String()); err != nil {
			return fmt.Errorf("sync pod %s: %w", p.id, err)
		}
	}
	return nil
}

// ToRun moves a pod from InPrepare or InPrepared to InRun and records this
// process, which is about to become the supervisor, as the owner of the lock.
// The move is not synced: after a crash of the host the pod is over anyway.
func (p *Pod) ToRun() error {
	if p.place != InPrepare && p.place != InPrepared || p.held == Collector {
		return fmt.Errorf("pod %s is not prepared", p.id)
	}
	ticks, err := startTicks(os.Getpid())
	if err != nil {
		return err
	}
	if err := p.move(InRun); err != nil {
		return err
	}
	writeOwner(p.lock, Owner{PID: os.Getpid(), StartTicks: ticks, BootID: p.dir.boot, Nanos: time.Now().UnixNano()})
	return nil
}

// ToExitedGarbage moves a pod that is over from InRun to InExitedGarbage, where
// it stays for the grace period of gc.
func (p *Pod) ToExitedGarbage() error {
	if p.place != InRun {
		return fmt.Errorf("pod %s has not been run", p.id)
	}
	return p.move(InExitedGarbage)
}

// ToGarbage moves a pod from anywhere to InGarbage: it is to be deleted. It does
// nothing to a pod that is there.
func (p *Pod) ToGarbage() error {
	if p.place == InGarbage {
		return nil
	}
	return p.move(InGarbage)
}

// sync makes the entries of a folder below the folder of pods durable.
func (d *Dir) sync(folder string) error {
	fd, err := openBeneath(int(d.root.Fd()), folder, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsync(fd)
}

// syncTree makes everything below folder and the folder itself durable. The
// tree is the contract of a pod that has not run: small and written by rkt.
func syncTree(folder *os.File) error {
	entries, err := readDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() && !e.Type().IsRegular() {
			continue
		}
		fd, err := openBeneath(int(folder.Fd()), e.Name(), unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), e.Name())
		if e.IsDir() {
			err = syncTree(f)
		} else {
			err = f.Sync()
		}
		f.Close()
		if err != nil {
			return err
		}
	}
	return folder.Sync()
}

// readDir lists an open folder from its beginning, whatever was read before.
func readDir(folder *os.File) ([]fs.DirEntry, error) {
	if _, err := folder.Seek(0, 0); err != nil {
		return nil, err
	}
	entries, err := folder.ReadDir(-1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // removed meanwhile
	}
	return entries, err
}
