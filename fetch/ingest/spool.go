package ingest

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"rkt/internal/safepath"
)

// spool is the folder that rkt-fetch writes to, the only one.
type spool struct{ dir *os.File }

// create makes a new file in the spool. What is left of an earlier try goes.
func (s spool) create(name string) (*os.File, error) {
	if err := s.remove(name); err != nil {
		return nil, err
	}
	return safepath.OpenBeneath(s.dir, name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
}

// write makes a new file with the bytes b.
func (s spool) write(name string, b []byte) (err error) {
	f, err := s.create(name)
	if err != nil {
		return err
	}
	defer closeInto(&err, f)
	_, err = f.Write(b)
	return err
}

// remove makes sure that there is no file of that name.
func (s spool) remove(name string) error {
	if err := unix.Unlinkat(int(s.dir.Fd()), name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %q from the spool: %w", name, err)
	}
	return nil
}

// rename gives a file of the spool another name.
func (s spool) rename(from, to string) error {
	fd := int(s.dir.Fd())
	if err := unix.Renameat2(fd, from, fd, to, unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("rename %q in the spool: %w", from, err)
	}
	return nil
}

// closeInto closes c and reports the failure in err unless there is one already.
func closeInto(err *error, c io.Closer) {
	if e := c.Close(); *err == nil {
		*err = e
	}
}

// sparseWriter writes a file from front to back. Blocks of zeros become holes,
// so that a layer which is nothing but a bomb of zeros fills no disk.
type sparseWriter struct {
	f      *os.File
	offset int64
}

// holeSize is the unit of holes in bytes: a multiple of what filesystems use.
const holeSize = 64 << 10

var zeros [holeSize]byte

// Write implements io.Writer. Holes are made of whole units of what one call
// writes, so calls should be large.
func (w *sparseWriter) Write(b []byte) (int, error) {
	start := 0 // of what is not written yet
	for i := 0; i+holeSize <= len(b); i += holeSize {
		if !isZero(b[i : i+holeSize]) {
			continue
		}
		if err := w.put(b[start:i], int64(start)); err != nil {
			return start, err
		}
		start = i + holeSize
	}
	if err := w.put(b[start:], int64(start)); err != nil {
		return start, err
	}
	w.offset += int64(len(b))
	return len(b), nil
}

func (w *sparseWriter) put(b []byte, at int64) error {
	if len(b) == 0 {
		return nil
	}
	_, err := w.f.WriteAt(b, w.offset+at)
	return err
}

// finish gives the file its size, which holes at the end do not.
func (w *sparseWriter) finish() error { return w.f.Truncate(w.offset) }

func isZero(b []byte) bool { return b[0] == 0 && string(b) == string(zeros[:len(b)]) }
