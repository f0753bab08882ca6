package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxPart is the longest part of a line that the cri format writes as one
// record, in bytes. Longer lines become several records tagged P, so that the
// memory of the supervisor does not depend on what an app prints.
const maxPart = 16 << 10

// The formats of a log file.
const (
	formatRaw = "raw" // the bytes as they are
	formatCRI = "cri" // TIME STREAM F|P TEXT, as kubelet reads it
)

// logFile is a file on the host that takes the output of an app. Before a write
// that would make it larger than max it is renamed to path.1; the older path.1
// is lost. A write is never split, and so a file is larger by at most one.
type logFile struct {
	path string
	max  int64
	size int64
	f    *os.File
	fd   int // of f
}

// openLog opens or makes the log file at path. It refuses what is not a regular
// file: a fifo or a device would block or steer the supervisor.
func openLog(path string, max int64) (*logFile, error) {
	l := &logFile{path: path, max: max}
	return l, l.open()
}

// adoptLog goes on with a log file that is open as fd.
func adoptLog(fd int, path string, max int64) (*logFile, error) {
	l := &logFile{path: path, max: max}
	return l, l.adopt(fd)
}

func (l *logFile) open() error {
	flags := unix.O_WRONLY | unix.O_CREAT | unix.O_APPEND | unix.O_CLOEXEC | unix.O_NOCTTY | unix.O_NONBLOCK
	fd, err := unix.Open(l.path, flags, 0o640)
	if err != nil {
		return fmt.Errorf("open log %s: %w", l.path, err)
	}
	return l.adopt(fd)
}

// adopt takes over the open file fd.
func (l *logFile) adopt(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return fmt.Errorf("open log %s: %w", l.path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return fmt.Errorf("open log %s: not a regular file", l.path)
	}
	l.f, l.fd, l.size = os.NewFile(uintptr(fd), l.path), fd, st.Size
	return nil
}

// Write appends b as one write, after a rotation where it would not fit.
func (l *logFile) Write(b []byte) (int, error) {
	if l.max > 0 && l.size > 0 && l.size+int64(len(b)) > l.max {
		if err := l.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(b)
	l.size += int64(n)
	return n, err
}

func (l *logFile) rotate() error {
	if err := os.Rename(l.path, l.path+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rotate log: %w", err)
	}
	old := l.f
	if err := l.open(); err != nil {
		return err
	}
	return old.Close()
}

func (l *logFile) Close() error { return l.f.Close() }

// logWriter is where the bytes of one stream go in the format asked for.
func logWriter(l io.Writer, stream, format string) (io.Writer, error) {
	switch format {
	case formatRaw, "":
		return l, nil
	case formatCRI:
		return &criWriter{out: l, stream: stream, now: time.Now}, nil
	}
	return nil, fmt.Errorf("unknown log format %q", format)
}

// criWriter cuts a stream into records. It keeps an unfinished line only as the
// fact that the last record was partial, so nothing is held back or lost.
type criWriter struct {
	out    io.Writer
	stream string
	now    func() time.Time
	record []byte
}

// Write writes a record for each line of b and a partial one for the rest.
func (w *criWriter) Write(b []byte) (int, error) {
	done := 0
	for len(b) > 0 {
		part, tag := b, "P"
		if i := bytes.IndexByte(b, '\n'); i >= 0 {
			part, tag = b[:i], "F"
		}
		if len(part) > maxPart {
			part, tag = part[:maxPart], "P"
		}
		w.record = w.now().UTC().AppendFormat(w.record[:0], time.RFC3339Nano)
		w.record = append(append(append(w.record, ' '), w.stream...), ' ')
		w.record = append(append(append(w.record, tag...), ' '), part...)
		w.record = append(w.record, '\n')
		if _, err := w.out.Write(w.record); err != nil {
			return done, err
		}
		n := len(part)
		if tag == "F" {
			n++
		}
		b, done = b[n:], done+n
	}
	return done, nil
}
