package layer

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// A facts file is magic, formatVersion, then records: a tag and its fields one
// after another, with integers as varints and strings behind their length. The
// record of the Summary is the last; a file without it is cut off.
const (
	magic         = "rktfacts"
	formatVersion = 1

	tagFact     = 1
	tagAccounts = 2
	tagSummary  = 3
)

// Writer writes a facts file. Its methods refuse what a Reader would refuse
// (ErrMalformed). It is not safe for concurrent use.
type Writer struct {
	w        *bufio.Writer
	buf      []byte
	tally    tally
	accounts bool
	closed   bool
	err      error // sticky: what failed first
}

// NewWriter starts a facts file on w. The caller keeps w and closes it after Close.
func NewWriter(w io.Writer) *Writer {
	e := &Writer{w: bufio.NewWriterSize(w, 64<<10)}
	e.buf = append(append(e.buf, magic...), formatVersion)
	e.flush()
	return e
}

// Fact appends one entry.
func (w *Writer) Fact(f *Fact) error {
	if err := w.ready(); err != nil {
		return err
	}
	if err := f.Check(); err != nil {
		return err
	}
	if err := w.tally.add(f); err != nil {
		return err
	}
	w.buf = append(w.buf, tagFact, byte(f.Kind))
	w.str(f.Path)
	w.num(uint64(f.Mode))
	w.num(uint64(f.UID))
	w.num(uint64(f.GID))
	w.buf = binary.AppendVarint(w.buf, f.Seconds)
	w.num(uint64(f.Nanos))
	w.str(f.Link)
	w.num(uint64(len(f.Xattrs)))
	for _, x := range f.Xattrs {
		w.str(x.Name)
		w.str(string(x.Value))
	}
	w.num(f.Size)
	w.num(uint64(len(f.Extents)))
	for _, e := range f.Extents {
		w.num(e.Logical)
		w.num(e.Offset)
		w.num(e.Length)
	}
	return w.flush()
}

// Accounts appends the accounts; at most once, anywhere before Close.
func (w *Writer) Accounts(a *Accounts) error {
	if err := w.ready(); err != nil {
		return err
	}
	if w.accounts {
		return malformed("accounts twice")
	}
	if err := a.Check(); err != nil {
		return err
	}
	w.accounts = true
	w.buf = append(w.buf, tagAccounts, flag(a.HasPasswd), flag(a.HasGroup))
	w.str(a.Problem)
	w.num(uint64(len(a.Users)))
	for _, u := range a.Users {
		w.str(u.Name)
		w.num(uint64(u.UID))
		w.num(uint64(u.GID))
		w.str(u.Home)
	}
	w.num(uint64(len(a.Groups)))
	for _, g := range a.Groups {
		w.str(g.Name)
		w.num(uint64(g.GID))
		w.num(uint64(len(g.Members)))
		for _, m := range g.Members {
			w.str(m)
		}
	}
	return w.flush()
}

// Close writes the Summary and whatever is buffered. Its Entries is set to the
// number of facts written. It does not close the underlying writer.
func (w *Writer) Close(s Summary) error {
	if err := w.ready(); err != nil {
		return err
	}
	w.closed = true
	w.buf = append(w.buf, tagSummary)
	for _, n := range []uint64{w.tally.entries, s.Devices, s.Sockets, s.TarSize} {
		w.num(n)
	}
	if err := w.flush(); err != nil {
		return err
	}
	w.err = w.w.Flush()
	return w.err
}

func (w *Writer) ready() error {
	if w.closed {
		return fmt.Errorf("internal error: write facts after their end")
	}
	return w.err
}

func (w *Writer) num(n uint64) { w.buf = binary.AppendUvarint(w.buf, n) }

func (w *Writer) str(s string) {
	w.num(uint64(len(s)))
	w.buf = append(w.buf, s...)
}

func (w *Writer) flush() error {
	_, w.err = w.w.Write(w.buf)
	w.buf = w.buf[:0]
	return w.err
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// tally bounds what all facts of a layer make a reader keep.
type tally struct {
	entries, bytes uint64
}

func (t *tally) add(f *Fact) error {
	t.entries++
	if t.entries > MaxEntries {
		return malformed("more than %d entries", MaxEntries)
	}
	t.bytes += uint64(len(f.Path) + len(f.Link) + 24*len(f.Extents))
	for _, x := range f.Xattrs {
		t.bytes += uint64(len(x.Name) + len(x.Value))
	}
	if t.bytes > MaxMetadata {
		return malformed("more than %d bytes of names, attributes and extents", MaxMetadata)
	}
	return nil
}
