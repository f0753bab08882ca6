package cas

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/internal/atomicfile"
	"rkt/internal/safepath"
)

// validKind bounds what may be the name of a folder of derived data.
func validKind(kind string) bool {
	return kind != "" && len(kind) <= 64 && strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

func derivedPath(kind string, d Digest) string { return derivedDir + "/" + kind + "/" + d.Hex() }

// DerivedPath returns the path of data derived from the blob d, whether it is
// there or not. kind names its format with a version: "erofs-1".
func (s *Store) DerivedPath(kind string, d Digest) string {
	return filepath.Join(s.dir, derivedPath(kind, d))
}

// HasDerived reports whether that derived data is there.
func (s *Store) HasDerived(kind string, d Digest) bool {
	var st unix.Stat_t
	return unix.Fstatat(int(s.root.Fd()), derivedPath(kind, d), &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// StatDerived tells the file or folder of derived data as Stat does.
func (s *Store) StatDerived(kind string, d Digest) (unix.Stat_t, error) {
	return s.stat(derivedPath(kind, d))
}

// OpenDerived opens a derived file or folder read-only. The errors are
// ErrNotFound and ErrCorrupt.
func (s *Store) OpenDerived(kind string, d Digest) (*os.File, error) {
	f, err := s.open(derivedPath(kind, d))
	if err != nil {
		return nil, fmt.Errorf("open %s of %s: %w", kind, d, err)
	}
	st, err := f.Stat()
	if err == nil && !st.IsDir() {
		_, err = checkBlob(f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open %s of %s: %w", kind, d, err)
	}
	return f, nil
}

// RemoveDerived deletes a derived file or folder. A nil error means that it is
// not there now.
func (s *Store) RemoveDerived(_ context.Context, kind string, d Digest) error {
	return s.remove(derivedPath(kind, d))
}

// WalkDerived calls fn for each derived file or folder until it returns an error.
func (s *Store) WalkDerived(fn func(kind string, d Digest) error) error {
	dir := filepath.Join(s.dir, derivedDir)
	return walk(dir, func(kind string) error {
		if !validKind(kind) {
			return nil
		}
		return walk(filepath.Join(dir, kind), func(name string) error {
			d, err := FromHex(name)
			if err != nil {
				return nil
			}
			return fn(kind, d)
		})
	})
}

// CommitDerived makes the file or folder name of the ingest folder the derived
// data of that kind for d. It appears whole or, after a power cut, not at all.
// One that is there already is success and stays as it is.
func (in *Ingest) CommitDerived(ctx context.Context, kind string, d Digest, name string) (err error) {
	if !validKind(kind) {
		return fmt.Errorf("internal error: commit derived data of the kind %q", kind)
	}
	taken, err := in.take(name)
	if err != nil {
		return fmt.Errorf("commit %s of %s: %w", kind, d, err)
	}
	defer func() { err = in.dropOnError(err, taken) }()
	if err := in.sealDerived(taken); err != nil {
		return fmt.Errorf("commit %s of %s: %w", kind, d, err)
	}
	if err := in.s.makeKind(kind); err != nil {
		return fmt.Errorf("commit %s of %s: %w", kind, d, err)
	}
	if err := in.place(ctx, d, taken, derivedPath(kind, d)); err != nil {
		return fmt.Errorf("commit %s of %s: %w", kind, d, err)
	}
	return nil
}

// sealDerived brings the data of a taken file or folder to the disk.
func (in *Ingest) sealDerived(taken string) error {
	f, err := in.openTaken(taken, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if st.IsDir() {
		// One call for what may be 100,000 files.
		return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
	}
	if err := Seal(f); err != nil {
		return err
	}
	return f.Sync()
}

// makeKind makes the folder of a kind of derived data.
func (s *Store) makeKind(kind string) error {
	dir := filepath.Join(s.dir, derivedDir)
	if _, err := os.Lstat(filepath.Join(dir, kind)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := safepath.PrivateDir(filepath.Join(dir, kind)); err != nil {
		return err
	}
	return atomicfile.SyncDir(dir)
}
