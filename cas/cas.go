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
//	tmp/<name>/            one folder per Ingest, garbage once its lock is free
//	lock                   the store lock
package cas

import (
	"context"
	"errors"
	"os"
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

// Options of Open.
type Options struct {
	// ReadOnly never writes, locks or creates; the store may be on read-only media.
	ReadOnly bool
}

// Store is an open store. Its methods may be called from several goroutines
// and processes.
type Store struct {
	dir      string
	readOnly bool
}

// Open opens the store in the folder dir, making what is missing (mode 0700)
// unless read-only. The caller closes it.
func Open(dir string, o Options) (*Store, error) { return &Store{dir: dir, readOnly: o.ReadOnly}, nil }

// Close releases the store's file descriptors.
func (s *Store) Close() error { return nil }

// Dir returns the folder of the store.
func (s *Store) Dir() string { return s.dir }

// ReadOnly reports whether the store was opened read-only.
func (s *Store) ReadOnly() bool { return s.readOnly }

// Has reports whether the store has a blob of that digest. It does not verify.
func (s *Store) Has(d Digest) bool { return false }

// Open returns the blob opened read-only, and its size. The bytes are not
// verified; Check does that. The errors are ErrNotFound and ErrCorrupt (not a
// plain file of ours).
func (s *Store) Open(d Digest) (*os.File, int64, error) { return nil, 0, ErrNotFound }

// Read returns the verified bytes of a blob of at most max bytes.
// The errors are ErrNotFound and ErrCorrupt.
func (s *Store) Read(d Digest, max int64) ([]byte, error) { return nil, ErrNotFound }

// Check hashes a blob again. The errors are ErrNotFound and ErrCorrupt.
func (s *Store) Check(ctx context.Context, d Digest) error { return ErrNotFound }

// Put stores b durably. Nothing protects it from a Sweep: a caller that makes
// it reachable later uses an Ingest.
func (s *Store) Put(ctx context.Context, b []byte) (Digest, error) { return Digest{}, ErrReadOnly }

// Remove deletes a blob and what was derived from it, whoever uses it. A nil
// error means that it is not there now.
func (s *Store) Remove(ctx context.Context, d Digest) error { return ErrReadOnly }

// WalkBlobs calls fn for each blob, in no order, until it returns an error.
func (s *Store) WalkBlobs(fn func(d Digest, size int64) error) error { return nil }

// Hold keeps sweeps away until release is called. Whoever makes a root of what
// is in the store without an Ingest (a pod that names its layers) holds the
// store from before it looks until the root is written. Hold waits for a sweep
// that is under way, and must not be nested.
func (s *Store) Hold(ctx context.Context) (release func(), err error) { return func() {}, nil }

// DerivedPath returns the path of data derived from the blob d, whether it is
// there or not. kind names its format with a version: "erofs-1".
func (s *Store) DerivedPath(kind string, d Digest) string { return "" }

// HasDerived reports whether that derived data is there.
func (s *Store) HasDerived(kind string, d Digest) bool { return false }

// OpenDerived opens a derived file or folder read-only. The error is ErrNotFound.
func (s *Store) OpenDerived(kind string, d Digest) (*os.File, error) { return nil, ErrNotFound }

// RemoveDerived deletes a derived file or folder. A nil error means that it is
// not there now.
func (s *Store) RemoveDerived(ctx context.Context, kind string, d Digest) error { return ErrReadOnly }

// WalkDerived calls fn for each derived file or folder until it returns an error.
func (s *Store) WalkDerived(fn func(kind string, d Digest) error) error { return nil }

// Ingest begins an ingest: a private folder whose blobs no Sweep takes before
// it is closed. The error may be ErrReadOnly.
func (s *Store) Ingest(ctx context.Context) (*Ingest, error) { return nil, ErrReadOnly }

// Ingest is how bytes come into a store: they are written into its folder by
// whoever (Dir), then committed. Its methods may be called concurrently.
type Ingest struct{}

// Dir returns the folder to write into. The Ingest keeps it open; it holds no
// lock and may be handed to another process.
func (in *Ingest) Dir() *os.File { return nil }

// Path returns the path of Dir.
func (in *Ingest) Path() string { return "" }

// Keep protects a blob that is in the store already from sweeps, until Close.
// The error may be ErrNotFound.
func (in *Ingest) Keep(ctx context.Context, d Digest) error { return ErrNotFound }

// Put stores b durably and protects it until Close.
func (in *Ingest) Put(ctx context.Context, b []byte) (Digest, error) { return Digest{}, nil }

// Commit makes the file name of the folder the blob want, durably, and returns
// its size. The file must be complete: nobody has it open for writing. It is
// taken out of the folder, made root's and hashed; when the bytes are others,
// the error is a *MismatchError and the file is gone. A blob that is there
// already is success.
func (in *Ingest) Commit(ctx context.Context, name string, want Digest) (int64, error) {
	return 0, nil
}

// CommitDerived makes the file or folder name of the ingest folder the derived
// data of that kind for d, durably. One that is there already is success and
// stays as it is.
func (in *Ingest) CommitDerived(ctx context.Context, kind string, d Digest, name string) error {
	return nil
}

// Close ends the ingest and removes its folder. What was committed stays; what
// nothing reaches goes with the next Sweep. Close may be called twice.
func (in *Ingest) Close() error { return nil }

// MismatchError reports bytes that do not have the digest they should have.
type MismatchError struct{ Got, Want Digest }

func (e *MismatchError) Error() string {
	return "content has digest " + e.Got.String() + ", want " + e.Want.String()
}

// Roots says why a blob stays: its reasons by digest. What is absent goes.
type Roots map[Digest][]string

// Swept is what a sweep decided about one blob, or about derived data whose
// blob is not in this store.
type Swept struct {
	Digest  Digest
	Size    int64
	Reasons []string // why it stays; none = it was removed
}

// Sweep removes every blob, and everything derived from it, that neither roots
// nor a live Ingest names, and the folders of dead ingests. It calls roots once
// it holds the store lock: what is made reachable before that is in them, what
// is ingested later waits. With dryRun it removes nothing.
func (s *Store) Sweep(ctx context.Context, roots func(context.Context) (Roots, error), dryRun bool) ([]Swept, error) {
	return nil, ErrReadOnly
}
