package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/internal/filelock"
	"rkt/internal/safepath"
)

// Kinds of derived data in the store.
const (
	kindIndex    = "erofs-1"    // an image of the package erofs
	kindDir      = "dir-1"      // a folder with treeDir and sumFile
	kindAccounts = "accounts-2" // a sum and a facts file with the accounts, see accounts.go
)

func maxParallel() int { return max(2, runtime.GOMAXPROCS(0)) }

// prepare opens what the layer d is mounted from: derived if it is missing, and
// verified if that was not done in this boot. One process at a time does that
// for one layer; the others wait for it.
func (l *Layers) prepare(ctx context.Context, s *state, d cas.Digest, m *meter) (_ source, err error) {
	store, ok := l.o.Stores.Find(d)
	if !ok {
		return source{}, cas.ErrNotFound
	}
	tar, _, err := store.Open(d)
	if err != nil {
		return source{}, err
	}
	from := source{tar: tar}
	defer func() {
		if err != nil {
			from.Close()
		}
	}()
	lock, err := lockBlob(ctx, tar)
	if err != nil {
		return source{}, err
	}
	defer lock.Close()
	made, err := l.openDerived(ctx, store, d, &from)
	if err != nil {
		return source{}, err
	}
	if from.print, err = fingerprint(from.files()...); err != nil {
		return source{}, err
	}
	return from, l.verifyAs(ctx, s, store, d, &from, made, m)
}

// lockBlob locks the blob itself: a lock file for each layer would have to be
// removed some day, and lock files cannot be. The blob stays the caller's.
func lockBlob(ctx context.Context, blob *os.File) (*filelock.Lock, error) {
	own, err := os.Open(fdPath(blob))
	if err != nil {
		return nil, err
	}
	lock := filelock.New(own)
	if err := lock.Exclusive(ctx); err != nil {
		return nil, fmt.Errorf("lock layer: %w", err)
	}
	return lock, nil
}

// findAll opens the derived data that the driver needs; the error may be
// cas.ErrNotFound.
func (l *Layers) findAll(store *cas.Store, d cas.Digest, from *source) (err error) {
	if l.choice.Driver != DriverDir {
		from.index, err = l.findDerived(store, kindIndex, d)
		return err
	}
	if from.derived, err = l.findDerived(store, kindDir, d); err != nil {
		return err
	}
	from.root, err = safepath.OpenBeneath(from.derived, treeDir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	return err
}

// openDerived opens the derived data that the driver needs, and makes it, from a
// tar that is verified then, if it is missing.
func (l *Layers) openDerived(ctx context.Context, store *cas.Store, d cas.Digest, from *source) (made bool, err error) {
	err = l.findAll(store, d, from)
	if !errors.Is(err, cas.ErrNotFound) {
		return false, err
	}
	kind := kindIndex
	if l.choice.Driver == DriverDir {
		kind = kindDir
	}
	if err := l.derive(ctx, store, kind, d); err != nil {
		return false, err
	}
	return true, l.findAll(store, d, from)
}

// findDerived opens derived data in the store we write to, where derived data
// of read-only stores is, too, or where the blob is. The error may be
// cas.ErrNotFound.
func (l *Layers) findDerived(store *cas.Store, kind string, d cas.Digest) (*os.File, error) {
	own := l.o.Stores.CAS()
	f, err := own.OpenDerived(kind, d)
	if errors.Is(err, cas.ErrNotFound) && store != own {
		return store.OpenDerived(kind, d)
	}
	return f, err
}

// verifyOnce verifies a layer unless that was done in this boot, or just now
// because it was derived.
func (l *Layers) verifyOnce(ctx context.Context, s *state, d cas.Digest, from source, done bool, m *meter) error {
	if s.verified(d, from.print) {
		m.add(sizeOf(from.tar))
		return nil
	}
	if !done {
		if err := from.verify(ctx, d, m); err != nil {
			return err
		}
	}
	if err := s.recordVerified(d, from.print); err != nil {
		return fmt.Errorf("record verification: %w", err)
	}
	return nil
}
