package ingest

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"rkt/fetch/ingest/fault"
	"rkt/fetch/wire"
	"rkt/internal/safepath"
)

// folder is what an image on this machine lies in: a folder, or an archive.
type folder interface {
	// open opens a plain file by its path, which may come from a stranger. The
	// error has wire.CodeNotFound when there is none.
	open(path string) (*content, error)
	close()
}

// content is an open file of a folder.
type content struct {
	io.Reader
	io.Closer
	size int64
}

// all reads the whole content, of at most limit bytes.
func (c *content) all(limit int64) ([]byte, error) {
	if c.size > limit {
		return nil, fault.New(wire.CodeTooLarge, "it has %d bytes, limit is %d", c.size, limit)
	}
	b := make([]byte, c.size)
	if n, err := io.ReadFull(c, b); err != nil {
		return nil, fmt.Errorf("read %d bytes, %d are there: %w", len(b), n, err)
	}
	return b, nil
}

// readAll reads a file of f of at most limit bytes.
func readAll(f folder, path string, limit int64) (b []byte, err error) {
	c, err := f.open(path)
	if err != nil {
		return nil, err
	}
	defer closeInto(&err, c)
	if b, err = c.all(limit); err != nil {
		return nil, fmt.Errorf("read %.200q: %w", path, err)
	}
	return b, nil
}

// layoutFolder is an image layout on disk, whose files the privileged half opens:
// they may be readable by few.
type layoutFolder struct{ files *grants }

func (l layoutFolder) open(path string) (*content, error) {
	f, err := l.files.file(path)
	if err != nil {
		return nil, err
	}
	size, err := plainSizeOf(f, path)
	if err != nil {
		f.Close()
		return nil, err
	}
	return &content{Reader: f, Closer: f, size: size}, nil
}

func (layoutFolder) close() {}

// plainSizeOf returns the size of f, which must be a plain file.
func plainSizeOf(f *os.File, path string) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, fmt.Errorf("stat %.200q: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return 0, fault.New(wire.CodeType, "%.200q is not a plain file", path)
	}
	return info.Size(), nil
}

// openPlain opens a plain file in or below dir for reading. Links, which may
// lead anywhere, and what would make us wait or is a device are refused.
func openPlain(dir *os.File, path string) (*os.File, error) {
	f, err := safepath.OpenBeneath(dir, path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if os.IsNotExist(err) {
		return nil, fault.New(wire.CodeNotFound, "%.200q is not there", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open %.200q: %w", path, err)
	}
	if _, err := plainSizeOf(f, path); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
