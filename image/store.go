package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/internal/atomicfile"
	"rkt/internal/filelock"
	"rkt/internal/safepath"
)

// Version is the version of the data folder that this program makes and reads.
const Version = 1

var (
	// ErrNotFound reports a name or ID that no image of the store has.
	ErrNotFound = errors.New("image not found")
	// ErrAmbiguous reports the beginning of an ID that several images have.
	ErrAmbiguous = errors.New("more than one image")
	// ErrNewerVersion reports a store made by a newer rkt.
	ErrNewerVersion = errors.New("store has a newer version")
)

// What is in a data folder.
const (
	versionFile = "version"
	casDir      = "cas"
	podsDir     = "pods" // not ours, but not a stranger's
	imagesDir   = "images"
	refsDir     = "images/refs" // records by name
	idsDir      = "images/ids"  // records by ID
	lockFile    = "images/lock" // held by whoever changes records
)

// Store is the images of a data folder, and of read-only ones behind it.
type Store struct {
	layers []*folder // the writable one first
}

// folder is one data folder.
type folder struct {
	dir   string
	blobs *cas.Store
}

// OpenStore opens the data folder dir, making it (mode 0700) if it is missing,
// and read-only data folders that are looked up after it, in order; of these
// one that does not exist is left out. A folder that has other things in it is
// refused. The error may be ErrNewerVersion. The caller closes the store.
func OpenStore(dir string, readOnlyDirs []string) (*Store, error) {
	f, err := openWritable(dir)
	if err != nil {
		return nil, fmt.Errorf("open store %q: %w", dir, err)
	}
	s := &Store{layers: []*folder{f}}
	for _, dir := range readOnlyDirs {
		f, err := openReadOnly(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("open read-only store %q: %w", dir, err)
		}
		s.layers = append(s.layers, f)
	}
	return s, nil
}

func openWritable(dir string) (*folder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	err = checkVersion(dir)
	if errors.Is(err, os.ErrNotExist) {
		err = create(dir)
	}
	if err != nil {
		return nil, err
	}
	blobs, err := cas.Open(filepath.Join(dir, casDir), cas.Options{})
	return &folder{dir, blobs}, err
}

func openReadOnly(dir string) (*folder, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(dir); err != nil {
		return nil, err
	}
	blobs, err := cas.Open(filepath.Join(dir, casDir), cas.Options{ReadOnly: true})
	return &folder{dir, blobs}, err
}

// CheckVersion refuses the data folder dir with ErrNewerVersion when a newer rkt
// made it. It is for those who look at its pods without opening the store. A
// folder that has no version yet is fine.
func CheckVersion(dir string) error {
	if err := checkVersion(dir); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// checkVersion reads the version of a data folder. Version 1 is the first: what
// is older does not exist, what is newer is not for us to touch.
func checkVersion(dir string) error {
	f, err := os.Open(filepath.Join(dir, versionFile))
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return err
	}
	version, err := strconv.Atoi(strings.TrimSuffix(string(b), "\n"))
	if err != nil || version < 1 {
		return fmt.Errorf("%q says %q, which is no version", f.Name(), b)
	}
	if version > Version {
		return fmt.Errorf("%w: it has version %d, this program knows %d", ErrNewerVersion, version, Version)
	}
	return nil
}

// create makes a data folder. The version is written last, so that a creation
// that was cut off is begun again.
func create(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := refuseForeign(dir); err != nil {
		return err
	}
	for _, sub := range []string{".", imagesDir, refsDir, idsDir} {
		path := filepath.Join(dir, sub)
		if err := safepath.PrivateDir(path); err != nil {
			return err
		}
		if err := atomicfile.SyncDir(filepath.Dir(path)); err != nil {
			return err
		}
	}
	lock, err := filelock.Create(filepath.Join(dir, lockFile))
	if err != nil {
		return err
	}
	lock.Close()
	if err := atomicfile.SyncDir(filepath.Join(dir, imagesDir)); err != nil {
		return err
	}
	return atomicfile.Write(dir, versionFile, []byte(strconv.Itoa(Version)+"\n"), 0o600, true)
}

// refuseForeign refuses a folder that is used for something else: making it
// ours takes its permissions from everybody.
func refuseForeign(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	ours := []string{versionFile, casDir, podsDir, imagesDir, "fetching", "signed", "driver.json", "lost+found"}
	for _, e := range entries {
		if name := e.Name(); !slices.Contains(ours, name) && !strings.HasPrefix(name, ".") {
			return fmt.Errorf("the folder is not empty and no store: it has %q", name)
		}
	}
	return nil
}

// Close releases the store's file descriptors.
func (s *Store) Close() error {
	var errs []error
	for _, f := range s.layers {
		errs = append(errs, f.blobs.Close())
	}
	return errors.Join(errs...)
}

func (s *Store) writable() *folder { return s.layers[0] }

// CAS returns the blobs of the writable store.
func (s *Store) CAS() *cas.Store { return s.writable().blobs }

// Find returns the store that has the blob d.
func (s *Store) Find(d cas.Digest) (*cas.Store, bool) {
	for _, f := range s.layers {
		if f.blobs.Has(d) {
			return f.blobs, true
		}
	}
	return nil, false
}

// lock keeps others from changing records until unlock is called. It is the
// last of all locks: a holder waits for no other.
func (s *Store) lock(ctx context.Context) (unlock func(), err error) {
	dir := s.writable().dir
	l, err := filelock.Open(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("lock records: %w", err)
	}
	if err := l.Exclusive(ctx); err != nil {
		l.Close()
		return nil, fmt.Errorf("lock records: %w", err)
	}
	// Only holders of the lock write: what is half written is garbage.
	err = errors.Join(
		atomicfile.RemoveTemporary(filepath.Join(dir, refsDir)),
		atomicfile.RemoveTemporary(filepath.Join(dir, idsDir)),
	)
	if errors.Is(err, unix.EROFS) {
		err = fmt.Errorf("%w: %w", cas.ErrReadOnly, err)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("tidy records: %w", err)
	}
	return func() { l.Close() }, nil
}
