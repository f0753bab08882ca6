package logs

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Bounds of an export.
const (
	// maxValue is how much of a field is kept. rkt itself writes 48 KiB at most.
	maxValue  = 1 << 20
	maxFields = 1024
)

// export reads the journal export format (systemd.io/JOURNAL_EXPORT_FORMATS).
type export struct{ in *bufio.Reader }

func newExport(r io.Reader) *export { return &export{bufio.NewReaderSize(r, 16<<10)} }

// next returns the fields of the next entry, io.EOF behind the last one, and
// io.ErrUnexpectedEOF when the input ends within an entry.
func (x *export) next() (map[string][]byte, error) {
	fields := make(map[string][]byte)
	for n := 0; ; n++ {
		line, err := x.line()
		switch {
		case err == io.EOF && n == 0:
			return nil, io.EOF
		case err == io.EOF:
			return nil, io.ErrUnexpectedEOF
		case err != nil:
			return nil, err
		case len(line) == 0 && len(fields) == 0:
			n = -1 // empty lines between entries
			continue
		case len(line) == 0:
			return fields, nil
		case n > maxFields:
			return nil, errors.New("read journal: an entry has too many fields")
		}
		name, value, ok := bytes.Cut(line, []byte{'='})
		if !ok {
			if value, err = x.binary(); err != nil {
				return nil, err
			}
		}
		fields[string(name)] = value
	}
}

// line reads a line of which it keeps maxValue at most. Without its end it is
// io.EOF: journalctl was ended in the middle.
func (x *export) line() ([]byte, error) {
	var line []byte
	for {
		part, err := x.in.ReadSlice('\n')
		line = append(line, part[:min(len(part), maxValue-len(line))]...)
		switch {
		case err == nil:
			return bytes.TrimSuffix(line, []byte{'\n'}), nil
		case errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF && len(line) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

// binary reads a value with its length before it.
func (x *export) binary() ([]byte, error) {
	var length [8]byte
	if _, err := io.ReadFull(x.in, length[:]); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	n := binary.LittleEndian.Uint64(length[:])
	value := make([]byte, min(n, maxValue))
	if _, err := io.ReadFull(x.in, value); err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	for n -= uint64(len(value)); n > 0; {
		skipped, err := x.in.Discard(int(min(n, maxValue)))
		if err != nil {
			return nil, io.ErrUnexpectedEOF
		}
		n -= uint64(skipped)
	}
	end, err := x.in.ReadByte()
	if err != nil {
		return nil, io.ErrUnexpectedEOF
	}
	if end != '\n' {
		return nil, fmt.Errorf("read journal: byte %#x behind a value", end)
	}
	return value, nil
}
