package cas

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"rkt/internal/filelock"
	"rkt/internal/safepath"
)

// What is in the folder of an ingest.
const (
	spoolDir  = "spool" // Ingest.Dir
	keepMark  = "keep." // and the hex of a digest that no sweep may take
	takenFile = "take." // and a number: out of the spool, not yet in the store
)

// Ingest is how bytes come into a store: they are written into its folder by
// whoever (Dir), then committed. Its methods may be called concurrently.
type Ingest struct {
	s     *Store
	name  string
	lock  *filelock.Lock // on the folder; free = the folder is garbage
	spool *os.File
	taken atomic.Int64

	close    sync.Once
	closeErr error
}

// Ingest begins an ingest: a private folder whose blobs no Sweep takes before
// it is closed. The error may be ErrReadOnly.
func (s *Store) Ingest(ctx context.Context) (*Ingest, error) {
	if s.readOnly {
		return nil, fmt.Errorf("begin ingest: %w", ErrReadOnly)
	}
	// A sweep would take the folder before it is locked.
	release, err := s.Hold(ctx)
	if err != nil {
		return nil, fmt.Errorf("begin ingest: %w", err)
	}
	defer release()
	in := &Ingest{s: s, name: rand.Text()}
	if err := in.open(); err != nil {
		in.Close()
		return nil, fmt.Errorf("begin ingest: %w", err)
	}
	return in, nil
}

func (in *Ingest) open() error {
	if err := safepath.PrivateDir(in.path("")); err != nil {
		return err
	}
	lock, err := filelock.Open(in.path(""))
	if err != nil {
		return err
	}
	in.lock = lock
	if err := lock.TryExclusive(); err != nil {
		return err
	}
	if err := safepath.PrivateDir(in.path(spoolDir)); err != nil {
		return err
	}
	in.spool, err = os.OpenFile(in.path(spoolDir), unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	return err
}

func (in *Ingest) path(name string) string { return filepath.Join(in.s.dir, tmpDir, in.name, name) }

// Dir returns the folder to write into. The Ingest keeps it open; it holds no
// lock and may be handed to another process.
func (in *Ingest) Dir() *os.File { return in.spool }

// Path returns the path of Dir.
func (in *Ingest) Path() string { return in.path(spoolDir) }

// Keep protects a blob that is in the store already from sweeps, until Close.
// The error may be ErrNotFound.
func (in *Ingest) Keep(ctx context.Context, d Digest) error {
	release, err := in.s.Hold(ctx)
	if err != nil {
		return fmt.Errorf("keep %s: %w", d, err)
	}
	defer release()
	if !in.s.Has(d) {
		return fmt.Errorf("keep %s: %w", d, ErrNotFound)
	}
	return in.mark(d)
}

// mark protects d. The caller holds the store.
func (in *Ingest) mark(d Digest) error {
	f, err := os.OpenFile(in.path(keepMark+d.Hex()), os.O_CREATE|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// Put stores b durably and protects it until Close.
func (in *Ingest) Put(ctx context.Context, b []byte) (Digest, error) {
	d := Of(b)
	name := "put." + rand.Text()
	if err := os.WriteFile(in.path(spoolDir+"/"+name), b, 0o600); err != nil {
		return Digest{}, fmt.Errorf("put %s: %w", d, err)
	}
	if _, err := in.Commit(ctx, name, d); err != nil {
		return Digest{}, err
	}
	return d, nil
}

// Close ends the ingest and removes its folder. What was committed stays; what
// nothing reaches goes with the next Sweep. Close may be called twice.
func (in *Ingest) Close() error {
	in.close.Do(func() {
		if in.spool != nil {
			in.spool.Close()
		}
		in.closeErr = in.s.removeTmp(in.name)
		if in.lock != nil {
			in.lock.Close()
		}
	})
	return in.closeErr
}

// removeTmp removes the folder of an ingest. The caller has its lock.
func (s *Store) removeTmp(name string) error {
	tmp, err := os.OpenFile(filepath.Join(s.dir, tmpDir), unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer tmp.Close()
	return safepath.RemoveAll(tmp, name)
}

// take moves a file or folder out of the spool to where only we can name it,
// and returns its new name.
func (in *Ingest) take(name string) (string, error) {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") {
		return "", fmt.Errorf("%q is not the name of a file", name)
	}
	taken := takenFile + strconv.FormatInt(in.taken.Add(1), 10)
	err := unix.Renameat2(int(in.spool.Fd()), name, unix.AT_FDCWD, in.path(taken), unix.RENAME_NOREPLACE)
	if err != nil {
		return "", &os.PathError{Op: "take", Path: filepath.Join(in.Path(), name), Err: err}
	}
	return taken, nil
}

// openTaken opens what take took.
func (in *Ingest) openTaken(taken string, flags int) (*os.File, error) {
	return os.OpenFile(in.path(taken), flags|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

// dropOnError removes what take took when the commit of it failed, so that a
// long ingest does not pile up rejected bytes.
func (in *Ingest) dropOnError(err error, taken string) error {
	if err == nil {
		return nil
	}
	dir := in.lock.File()
	return errors.Join(err, safepath.RemoveAll(dir, taken))
}
