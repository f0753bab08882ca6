package tarball

import (
	"errors"
	"fmt"
	"io"
	"os"

	"rkt/image/layer"
)

// readSize is how much of a file is read at once, in bytes. What lies between
// headers is jumped over where that saves a read.
const readSize = 128 << 10

// ScanFile writes the facts of the layer tar f. It reads by offset and leaves
// the position of f alone. The errors are those of a Scanner.
func ScanFile(f *os.File, to Facts) error {
	s := NewScanner(to)
	if err := feed(f, s.parser); err != nil {
		return err
	}
	_, err := s.Close()
	return err
}

// ReadFile gives h what is in the tar f.
func ReadFile(f *os.File, h Handler) error {
	p := NewParser(h)
	if err := feed(f, p); err != nil {
		return err
	}
	return p.Close()
}

// feed gives p the file f without reading most of its data.
func feed(f *os.File, p *Parser) error {
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("stat tar: %w", err)
	}
	buf := make([]byte, readSize)
	for {
		// Skip to where the next read begins, but not past the end: that data is
		// missing there is for Close to see.
		p.Skip(max(0, min(p.Ahead(), info.Size()-p.Offset())))
		n, err := f.ReadAt(buf, p.Offset())
		if n > 0 {
			if _, err := p.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
	}
}

var _ Facts = (*layer.Writer)(nil)
