package cas

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/internal/filelock"
)

// Roots says why a blob stays: its reasons by digest. What is absent goes.
type Roots map[Digest][]string

// Swept is what a sweep decided about one blob, or about derived data whose
// blob is not in this store (Size 0).
type Swept struct {
	Digest  Digest
	Size    int64
	Reasons []string // why it stays; none = it was removed
}

// reasonIngest is why what a live ingest names stays.
const reasonIngest = "an import is under way"

// Sweep removes every blob, and everything derived from it, that neither roots
// nor a live Ingest names, and the folders of dead ingests. It calls roots once
// it holds the store lock: what is made reachable before that is in them, what
// is made reachable later waits in Hold. So roots must use neither Hold nor
// Ingest. With dryRun, Sweep removes nothing.
//
// It works on a full disk. After an error, what was swept so far is returned.
func (s *Store) Sweep(ctx context.Context, roots func(context.Context) (Roots, error), dryRun bool) (swept []Swept, err error) {
	if s.readOnly {
		return nil, fmt.Errorf("sweep: %w", ErrReadOnly)
	}
	w := &sweeper{s: s, ctx: ctx, dryRun: dryRun, derived: map[Digest][]string{}}
	defer func() { err = errors.Join(err, w.close()) }()
	unlock, err := s.exclusive(ctx)
	if err != nil {
		return nil, fmt.Errorf("sweep: %w", err)
	}
	// Deleting takes longer than deciding: it comes after the lock is given back.
	defer unlock()
	for _, step := range []func() error{
		// Before the roots: an ingest may make a root and end at any moment. It is
		// still seen here, or the root is already there.
		w.findIngests,
		func() (err error) { w.roots, err = roots(ctx); return err },
		w.findDerived,
		w.blobs,
		w.orphans,
	} {
		if err := step(); err != nil {
			return w.swept, fmt.Errorf("sweep: %w", err)
		}
	}
	return w.swept, nil
}

// exclusive takes the store lock for one holder.
func (s *Store) exclusive(ctx context.Context) (unlock func(), err error) {
	l, err := filelock.Open(filepath.Join(s.dir, lockFile))
	if err != nil {
		return nil, err
	}
	if err := l.Exclusive(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return func() { l.Close() }, nil
}

// sweeper is one sweep.
type sweeper struct {
	s      *Store
	ctx    context.Context
	dryRun bool
	trash  []string // names in the folder tmp

	roots   Roots
	live    map[Digest]bool     // named by live ingests
	dead    []deadIngest        // to be removed
	derived map[Digest][]string // kinds of derived data by blob
	swept   []Swept
}

type deadIngest struct {
	name string
	lock *filelock.Lock
}

// close deletes what was swept. The store lock is free by then.
func (w *sweeper) close() error {
	var errs []error
	for _, d := range w.dead {
		if !w.dryRun {
			errs = append(errs, w.s.removeTmp(d.name))
		}
		if d.lock != nil {
			d.lock.Close()
		}
	}
	return errors.Join(append(errs, w.emptyTrash())...)
}

func (w *sweeper) emptyTrash() error {
	var errs []error
	for _, name := range w.trash {
		errs = append(errs, w.s.removeTmp(name))
	}
	w.trash = nil
	return errors.Join(errs...)
}

// findIngests reads the marks of the ingests that are alive and locks those
// that are dead.
func (w *sweeper) findIngests() error {
	w.live = map[Digest]bool{}
	tmp := filepath.Join(w.s.dir, tmpDir)
	return walk(tmp, func(name string) error {
		path := filepath.Join(tmp, name)
		lock, err := filelock.Open(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil // closed just now
		case errors.Is(err, unix.ELOOP):
			w.dead = append(w.dead, deadIngest{name: name}) // a link is nobody's ingest
			return nil
		case err != nil:
			return err
		}
		err = lock.TryExclusive()
		if err == nil {
			w.dead = append(w.dead, deadIngest{name, lock})
			return nil
		}
		lock.Close()
		if !errors.Is(err, filelock.ErrLocked) {
			return err
		}
		return walk(path, func(name string) error {
			if digits, ok := strings.CutPrefix(name, keepMark); ok {
				if d, err := FromHex(digits); err == nil {
					w.live[d] = true
				}
			}
			return nil
		})
	})
}

func (w *sweeper) findDerived() error {
	return w.s.WalkDerived(func(kind string, d Digest) error {
		w.derived[d] = append(w.derived[d], kind)
		return nil
	})
}

// reasons returns why d stays.
func (w *sweeper) reasons(d Digest) []string {
	reasons := w.roots[d]
	if w.live[d] {
		reasons = append(reasons[:len(reasons):len(reasons)], reasonIngest)
	}
	return reasons
}

func (w *sweeper) blobs() error {
	return w.s.WalkBlobs(func(d Digest, size int64) error {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		reasons := w.reasons(d)
		if len(reasons) == 0 {
			// What is derived goes first: without its blob it would be an orphan
			// if we were killed between the two, which orphans finds as well.
			if err := w.dropDerived(d); err != nil {
				return err
			}
			if err := w.drop(blobPath(d)); err != nil {
				return err
			}
		}
		delete(w.derived, d)
		w.swept = append(w.swept, Swept{Digest: d, Size: size, Reasons: reasons})
		return nil
	})
}

// orphans sweeps derived data without a blob here. The blob may be in another
// store, so its roots count.
func (w *sweeper) orphans() error {
	for d := range w.derived {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		reasons := w.reasons(d)
		if len(reasons) == 0 {
			if err := w.dropDerived(d); err != nil {
				return err
			}
		}
		w.swept = append(w.swept, Swept{Digest: d, Reasons: reasons})
	}
	return nil
}

func (w *sweeper) dropDerived(d Digest) error {
	for _, kind := range w.derived[d] {
		if err := w.drop(derivedPath(kind, d)); err != nil {
			return err
		}
	}
	return nil
}

// drop takes a path out of the store.
func (w *sweeper) drop(path string) error {
	if w.dryRun {
		return nil
	}
	name, err := w.s.discard(path)
	if isFull(err) && len(w.trash) > 0 {
		if err := w.emptyTrash(); err != nil {
			return err
		}
		name, err = w.s.discard(path)
	}
	if err != nil {
		return err
	}
	w.trash = append(w.trash, name)
	return nil
}

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// discard moves a path of the store, if it is there, to where it is garbage, and
// returns the name that it has in the folder tmp. So a folder disappears at
// once, and what a killed process leaves is taken by the next sweep.
func (s *Store) discard(path string) (name string, err error) {
	name = rand.Text()
	root := int(s.root.Fd())
	err = unix.Renameat2(root, path, root, tmpDir+"/"+name, unix.RENAME_NOREPLACE)
	if isFull(err) && unix.Unlinkat(root, path, 0) == nil {
		return name, nil // a plain file needs no move
	}
	if err != nil && err != unix.ENOENT {
		return "", &os.PathError{Op: "remove", Path: filepath.Join(s.dir, path), Err: err}
	}
	return name, nil
}

// Remove deletes a blob and what was derived from it, whoever uses it. It is
// for a damaged one, so that the next fetch brings it again. A nil error means
// that it is not there now.
func (s *Store) Remove(ctx context.Context, d Digest) error {
	var paths []string
	err := s.WalkDerived(func(kind string, derived Digest) error {
		if derived == d {
			paths = append(paths, derivedPath(kind, d))
		}
		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("remove blob %s: %w", d, err)
	}
	// The blob last: as long as it is there, Remove can be called again.
	return s.remove(append(paths, blobPath(d))...)
}

// remove deletes paths of the store. It takes no lock: whoever opened one of
// them before keeps it, who comes later does not find it.
func (s *Store) remove(paths ...string) error {
	if s.readOnly {
		return fmt.Errorf("remove %s: %w", paths[0], ErrReadOnly)
	}
	for _, path := range paths {
		name, err := s.discard(path)
		if err == nil {
			err = s.removeTmp(name)
		}
		if err != nil {
			return fmt.Errorf("remove %s: %w", path, err)
		}
	}
	return nil
}
