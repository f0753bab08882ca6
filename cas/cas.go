// Package cas stores bytes under their SHA-256. It knows nothing about images:
// callers say which digests are reachable. Begin with Store.Open, which gives
// the bytes of a digest, and Ingest.Commit, which is the only way in.
//
// The promise is crash safety: a process killed at any instant, or a power cut,
// leaves under a digest either no name or the whole bytes.
//
// The folder of a store:
//
//	blobs/sha256/<hex>     the blobs, mode 0400, never changed
//	derived/<kind>/<hex>   data made from the blob <hex>; can be made again
//	tmp/<name>             a folder per Ingest, and what is being removed; garbage
//	                       once its lock is free
//	lock                   the store lock
//
// The store lock is shared by whoever makes something reachable, and exclusive
// to a sweep, which waits for no other lock while it has it. docs/on-disk.md has
// the order of all locks.
package cas

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rkt/internal/atomicfile"
	"rkt/internal/filelock"
	"rkt/internal/safepath"
)

var (
	// ErrNotFound reports a digest that the store does not have.
	ErrNotFound = errors.New("not in the store")
	// ErrCorrupt reports bytes that do not have their digest, or a file in the
	// store that no store makes.
	ErrCorrupt = errors.New("corrupt")
	// ErrReadOnly reports a change to a store that was opened read-only.
	ErrReadOnly = errors.New("store is read-only")
)

// The folders and files of a store.
const (
	blobsDir   = "blobs/sha256"
	derivedDir = "derived"
	tmpDir     = "tmp"
	lockFile   = "lock"
)

// Options of Open.
type Options struct {
	// ReadOnly never writes, locks or creates; the store may be on read-only media.
	ReadOnly bool
}

// Store is an open store. Its methods may be called from several goroutines
// and processes.
type Store struct {
	dir      string
	root     *os.File
	readOnly bool
}

// Open opens the store in the folder dir, making what is missing (mode 0700)
// unless read-only. A folder that others may write to is refused. The caller
// closes the store.
func Open(dir string, o Options) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if !o.ReadOnly {
		if err := create(dir); err != nil {
			return nil, fmt.Errorf("make store: %w", err)
		}
	}
	root, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := checkOwner(root); err != nil {
		root.Close()
		return nil, err
	}
	return &Store{dir: dir, root: root, readOnly: o.ReadOnly}, nil
}

// create makes a store. The lock is made last: where it is, the rest is.
func create(dir string) error {
	lock := filepath.Join(dir, lockFile)
	if _, err := os.Lstat(lock); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, sub := range []string{".", filepath.Dir(blobsDir), blobsDir, derivedDir, tmpDir} {
		path := filepath.Join(dir, sub)
		if err := safepath.PrivateDir(path); err != nil {
			return err
		}
		if err := atomicfile.SyncDir(filepath.Dir(path)); err != nil {
			return err
		}
	}
	l, err := filelock.Create(lock)
	if err != nil {
		return err
	}
	l.Close()
	return atomicfile.SyncDir(dir)
}

// checkOwner refuses a file or folder of somebody else, or one that others can
// write to.
func checkOwner(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat %q: %w", f.Name(), err)
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%q belongs to the user %d", f.Name(), st.Uid)
	}
	if st.Mode&0o022 != 0 {
		return fmt.Errorf("%q can be written by others: mode %#o", f.Name(), st.Mode&0o7777)
	}
	return nil
}

// Close releases the store's file descriptors. Ingests must be closed before.
func (s *Store) Close() error { return s.root.Close() }

// Dir returns the folder of the store, as an absolute path.
func (s *Store) Dir() string { return s.dir }

// ReadOnly reports whether the store was opened read-only.
func (s *Store) ReadOnly() bool { return s.readOnly }

// Hold keeps sweeps away until release is called. Whoever makes a root of what
// is in the store without an Ingest (a pod that names its layers) holds the
// store from before it looks until the root is written. Hold waits for a sweep
// that is under way. A holder may begin an Ingest, and may wait for those who do
// that, but not for a Sweep.
func (s *Store) Hold(ctx context.Context) (release func(), err error) {
	if s.readOnly {
		return func() {}, nil
	}
	l, err := filelock.Open(filepath.Join(s.dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("hold store: %w", err)
	}
	if err := l.Shared(ctx); err != nil {
		l.Close()
		return nil, fmt.Errorf("hold store: %w", err)
	}
	return func() { l.Close() }, nil
}

// Put stores b durably. Nothing protects it from a Sweep: a caller that makes
// it reachable later uses an Ingest.
func (s *Store) Put(ctx context.Context, b []byte) (d Digest, err error) {
	in, err := s.Ingest(ctx)
	if err != nil {
		return Digest{}, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	return in.Put(ctx, b)
}
