package image

import (
	"context"
	"errors"

	"rkt/cas"
)

var (
	// ErrNotFound reports a name or ID that no image of the store has.
	ErrNotFound = errors.New("image not found")
	// ErrAmbiguous reports the beginning of an ID that several images have.
	ErrAmbiguous = errors.New("more than one image")
	// ErrNewerVersion reports a store made by a newer rkt.
	ErrNewerVersion = errors.New("store has a newer version")
)

// Store is the images of a data folder, and of read-only ones behind it.
type Store struct{}

// OpenStore opens the data folder dir, making it (mode 0700) if it is missing,
// and read-only data folders that are looked up after it, in order. The error
// may be ErrNewerVersion. The caller closes it.
func OpenStore(dir string, readOnlyDirs []string) (*Store, error) { return &Store{}, nil }

// Close releases the store's file descriptors.
func (s *Store) Close() error { return nil }

// CAS returns the blobs of the writable store.
func (s *Store) CAS() *cas.Store { return nil }

// Find returns the store that has the blob d.
func (s *Store) Find(d cas.Digest) (*cas.Store, bool) { return nil, false }

// Lookup finds an image by a name, by "sha256:" and the beginning of its ID, or
// by at least 12 digits of it. A name wins over an ID. The errors are
// ErrNotFound and ErrAmbiguous.
func (s *Store) Lookup(nameOrID string) (*Record, error) { return nil, ErrNotFound }

// LookupRef finds the image recorded under a reference. The error is ErrNotFound.
func (s *Store) LookupRef(r Ref) (*Record, error) { return nil, ErrNotFound }

// List returns one record per name, sorted, and those of images without a name.
// A record that cannot be read is in the error; the others are still returned.
func (s *Store) List() ([]Record, error) { return nil, nil }

// Save records an image durably under its Reference and its ID. All its blobs
// must be in the store, protected by an open Ingest. The record under the same
// name is replaced.
func (s *Store) Save(ctx context.Context, r Record) error { return nil }

// Untag removes the name of an image, and its record by ID when that was its
// last name. The bytes stay until a sweep. The errors are ErrNotFound and
// cas.ErrReadOnly.
func (s *Store) Untag(ctx context.Context, reference string) error { return nil }

// Remove removes the image with all its names. The bytes stay until a sweep. A
// nil error means that it is not there now; the error may be cas.ErrReadOnly.
func (s *Store) Remove(ctx context.Context, id ID) error { return nil }

// Load reads and verifies manifest and config of a record: the chain from the
// manifest's digest to the config's to the diff IDs. The errors are
// cas.ErrNotFound and cas.ErrCorrupt.
func (s *Store) Load(r *Record) (*Image, error) { return nil, ErrNotFound }

// Roots returns what the images of the writable store keep from being swept.
func (s *Store) Roots() (cas.Roots, error) { return nil, nil }
