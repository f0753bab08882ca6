package cas

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rkt/internal/safepath"
)

// chunk is how many bytes are read at once. It is large for the sake of reading
// ahead, and small enough for the processor's cache.
const chunk = 512 << 10

// names is how many names of a folder are read at once.
const names = 1024

func blobPath(d Digest) string { return blobsDir + "/" + d.Hex() }

// Has reports whether the store has a blob of that digest. It does not verify.
func (s *Store) Has(d Digest) bool {
	var st unix.Stat_t
	err := unix.Fstatat(int(s.root.Fd()), blobPath(d), &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG
}

// Stat tells the file of a blob without opening it. The error is ErrNotFound when
// there is none.
func (s *Store) Stat(d Digest) (unix.Stat_t, error) { return s.stat(blobPath(d)) }

func (s *Store) stat(path string) (st unix.Stat_t, err error) {
	err = unix.Fstatat(int(s.root.Fd()), path, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		err = ErrNotFound
	}
	return st, err
}

// Open returns the blob opened read-only, and its size. The bytes are not
// verified; Check does that. The errors are ErrNotFound and ErrCorrupt (not a
// plain file of ours).
func (s *Store) Open(d Digest) (*os.File, int64, error) {
	f, err := s.open(blobPath(d))
	if err != nil {
		return nil, 0, fmt.Errorf("open blob %s: %w", d, err)
	}
	size, err := checkBlob(f)
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("open blob %s: %w", d, err)
	}
	return f, size, nil
}

// open opens a file of the store. O_NONBLOCK is for what should be no FIFO and is one.
func (s *Store) open(path string) (*os.File, error) {
	f, err := safepath.OpenBeneath(s.root, path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, ErrNotFound
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO):
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return f, err
}

// checkBlob makes sure that f is a plain file that nobody but its owner could
// have written, and returns its size. The error may be ErrCorrupt.
func checkBlob(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !st.Mode().IsRegular() {
		return 0, fmt.Errorf("%w: %q is not a plain file", ErrCorrupt, f.Name())
	}
	if err := checkOwner(f); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return st.Size(), nil
}

// Read returns the verified bytes of a blob of at most max bytes.
// The errors are ErrNotFound and ErrCorrupt.
func (s *Store) Read(d Digest, max int64) ([]byte, error) {
	f, size, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > max {
		return nil, fmt.Errorf("blob %s is %d bytes, limit is %d", d, size, max)
	}
	b := make([]byte, size)
	n, err := io.ReadFull(f, b)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("read blob %s: %w", d, err)
	}
	if got := Of(b[:n]); got != d {
		return nil, fmt.Errorf("blob %s has content %s: %w", d, got, ErrCorrupt)
	}
	return b, nil
}

// Check hashes a blob again. The errors are ErrNotFound and ErrCorrupt.
func (s *Store) Check(ctx context.Context, d Digest) error {
	f, _, err := s.Open(d)
	if err != nil {
		return err
	}
	defer f.Close()
	got, _, err := hash(ctx, f)
	if err != nil {
		return fmt.Errorf("check blob %s: %w", d, err)
	}
	if got != d {
		return fmt.Errorf("blob %s has content %s: %w", d, got, ErrCorrupt)
	}
	return nil
}

// hash reads f from its beginning, whatever its offset, to its end.
func hash(ctx context.Context, f *os.File) (Digest, int64, error) {
	unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_SEQUENTIAL) // a hint; some filesystems have no use for it
	h := sha256.New()
	buf := make([]byte, chunk)
	for size := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return Digest{}, 0, err
		}
		n, err := f.ReadAt(buf, size)
		h.Write(buf[:n])
		size += int64(n)
		if err == io.EOF {
			return Digest{[sha256.Size]byte(h.Sum(nil))}, size, nil
		}
		if err != nil {
			return Digest{}, 0, err
		}
	}
}

// WalkBlobs calls fn for each blob, in no order, until it returns an error. What
// has the name of a blob and is no plain file comes with the size 0.
func (s *Store) WalkBlobs(fn func(d Digest, size int64) error) error {
	dir := filepath.Join(s.dir, blobsDir)
	return walk(dir, func(name string) error {
		d, err := FromHex(name)
		if err != nil {
			return nil // Strays tells
		}
		st, err := os.Lstat(filepath.Join(dir, name))
		switch {
		case errors.Is(err, os.ErrNotExist):
			return nil // swept meanwhile
		case err != nil:
			return err
		case !st.Mode().IsRegular():
			return fn(d, 0)
		}
		return fn(d, st.Size())
	})
}

// Strays returns the paths in the folders of blobs and derived data that have
// no business there. The store does not touch them.
func (s *Store) Strays() ([]string, error) {
	var strays []string
	collect := func(dir string) error {
		return walk(dir, func(name string) error {
			if _, err := FromHex(name); err != nil {
				strays = append(strays, filepath.Join(dir, name))
			}
			return nil
		})
	}
	err := collect(filepath.Join(s.dir, blobsDir))
	derived := filepath.Join(s.dir, derivedDir)
	return strays, errors.Join(err, walk(derived, func(kind string) error {
		path := filepath.Join(derived, kind)
		if st, err := os.Lstat(path); err != nil || !st.IsDir() || !validKind(kind) {
			strays = append(strays, path)
			return err
		}
		return collect(path)
	}))
}

// walk calls fn for the names in a folder; none when it does not exist.
func walk(dir string, fn func(name string) error) error {
	f, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		list, err := f.Readdirnames(names)
		for _, name := range list {
			if err := fn(name); err != nil {
				return err
			}
		}
		if err == io.EOF || errors.Is(err, os.ErrNotExist) {
			return nil // the end, or the folder was removed meanwhile
		}
		if err != nil {
			return err
		}
	}
}
