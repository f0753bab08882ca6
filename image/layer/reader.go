package layer

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// Reader reads a facts file written by a process that is not trusted. Every
// field and the sum of all are bounded before memory is taken for them, and
// what it returns has passed Check. It is not safe for concurrent use.
type Reader struct {
	r        *bufio.Reader
	limit    *io.LimitedReader
	started  bool
	tally    tally
	accounts *Accounts
	summary  Summary
	err      error // sticky; io.EOF once the Summary was read
}

// NewReader reads the facts file r. It reads ahead, and closes nothing.
func NewReader(r io.Reader) *Reader {
	l := &io.LimitedReader{R: r, N: MaxFacts + 1}
	return &Reader{r: bufio.NewReaderSize(l, 64<<10), limit: l}
}

// Next returns the next entry, which the caller owns; io.EOF after the last one
// of a file that is complete. A file that is not well formed is ErrMalformed; an
// error of the underlying reader comes as it is. An error is final.
func (r *Reader) Next() (*Fact, error) {
	if r.err != nil {
		return nil, r.err
	}
	f, err := r.next()
	if err != nil {
		r.err = r.explain(err)
		return nil, r.err
	}
	return f, nil
}

// Accounts returns the accounts of the layer after Next has returned io.EOF;
// empty ones when the file has none.
func (r *Reader) Accounts() *Accounts {
	if r.accounts == nil {
		return &Accounts{}
	}
	return r.accounts
}

// Summary returns the end of the file after Next has returned io.EOF. Its
// Entries is the number of facts that Next has returned.
func (r *Reader) Summary() Summary { return r.summary }

// errEnd is the regular end, to be told apart from a file that stops early.
var errEnd = errors.New("end of facts")

func (r *Reader) explain(err error) error {
	switch {
	case errors.Is(err, errEnd):
		return io.EOF
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if r.limit.N <= 0 {
			return malformed("more than %d bytes", MaxFacts)
		}
		return malformed("cut off")
	case errors.Is(err, ErrMalformed):
		return err
	}
	return fmt.Errorf("read layer facts: %w", err)
}

func (r *Reader) next() (*Fact, error) {
	if err := r.start(); err != nil {
		return nil, err
	}
	for {
		tag, err := r.r.ReadByte()
		if err != nil {
			return nil, err
		}
		switch tag {
		case tagFact:
			return r.fact()
		case tagAccounts:
			if err := r.readAccounts(); err != nil {
				return nil, err
			}
		case tagSummary:
			return nil, r.readSummary()
		default:
			return nil, malformed("unknown record %d", tag)
		}
	}
}

func (r *Reader) start() error {
	if r.started {
		return nil
	}
	r.started = true
	var head [len(magic) + 1]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return err
	}
	if string(head[:len(magic)]) != magic {
		return malformed("not a facts file")
	}
	if v := head[len(magic)]; v != formatVersion {
		return malformed("format version %d, want %d", v, formatVersion)
	}
	return nil
}

func (r *Reader) fact() (*Fact, error) {
	d := decoder{r: r.r}
	f := &Fact{
		Kind:    Kind(d.num(math.MaxUint8)),
		Path:    d.str(MaxPath),
		Mode:    uint16(d.num(0o7777)),
		UID:     uint32(d.num(math.MaxUint32)),
		GID:     uint32(d.num(math.MaxUint32)),
		Seconds: d.signed(),
		Nanos:   uint32(d.num(1e9 - 1)),
		Link:    d.str(MaxPath),
	}
	for n := d.num(MaxXattrs); n > 0 && d.err == nil; n-- {
		f.Xattrs = append(f.Xattrs, Xattr{Name: d.str(MaxXattrName), Value: []byte(d.str(MaxXattr))})
	}
	f.Size = d.num(MaxSize)
	// Appending makes memory follow bytes that are there, not a claimed count.
	for n := d.num(MaxExtents); n > 0 && d.err == nil; n-- {
		f.Extents = append(f.Extents, Extent{
			Logical: d.num(MaxSize), Offset: d.num(math.MaxInt64), Length: d.num(MaxSize),
		})
	}
	if d.err != nil {
		return nil, d.err
	}
	if err := f.Check(); err != nil {
		return nil, err
	}
	return f, r.tally.add(f)
}

func (r *Reader) readAccounts() error {
	if r.accounts != nil {
		return malformed("accounts twice")
	}
	d := decoder{r: r.r}
	a := &Accounts{HasPasswd: d.flag(), HasGroup: d.flag(), Problem: d.str(MaxProblem)}
	for n := d.num(MaxAccounts); n > 0 && d.err == nil; n-- {
		a.Users = append(a.Users, User{
			Name: d.str(MaxAccountName), UID: d.id(), GID: d.id(), Home: d.str(MaxPath),
		})
	}
	members := uint64(MaxMembers)
	for n := d.num(MaxAccounts); n > 0 && d.err == nil; n-- {
		g := Group{Name: d.str(MaxAccountName), GID: d.id()}
		count := d.num(members)
		members -= count
		for ; count > 0 && d.err == nil; count-- {
			g.Members = append(g.Members, d.str(MaxAccountName))
		}
		a.Groups = append(a.Groups, g)
	}
	if d.err != nil {
		return d.err
	}
	r.accounts = a
	return a.Check()
}

func (r *Reader) readSummary() error {
	d := decoder{r: r.r}
	s := Summary{Entries: d.num(MaxEntries), Devices: d.num(MaxEntries), Sockets: d.num(MaxEntries), TarSize: d.num(math.MaxInt64)}
	if d.err != nil {
		return d.err
	}
	if s.Entries != r.tally.entries {
		return malformed("summary of %d entries after %d", s.Entries, r.tally.entries)
	}
	if _, err := r.r.ReadByte(); err != io.EOF {
		if err != nil {
			return err
		}
		return malformed("data after the summary")
	}
	r.summary = s
	return errEnd
}

// decoder reads fields; after the first failure it returns zeros.
type decoder struct {
	r   *bufio.Reader
	err error
}

func (d *decoder) num(limit uint64) uint64 {
	if d.err != nil {
		return 0
	}
	n, err := binary.ReadUvarint(d.r)
	if err == nil && n > limit {
		err = malformed("number %d is over %d", n, limit)
	}
	if d.err = fieldError(err); d.err != nil {
		return 0
	}
	return n
}

func (d *decoder) id() uint32 { return uint32(d.num(math.MaxUint32)) }

func (d *decoder) flag() bool { return d.num(1) == 1 }

func (d *decoder) signed() int64 {
	if d.err != nil {
		return 0
	}
	n, err := binary.ReadVarint(d.r)
	d.err = fieldError(err)
	return n
}

func (d *decoder) str(limit uint64) string {
	n := d.num(limit)
	if n == 0 || d.err != nil {
		return ""
	}
	// Most fit the buffer of the reader, which saves a copy.
	if b, err := d.r.Peek(int(n)); err == nil {
		s := string(b)
		_, d.err = d.r.Discard(len(b))
		return s
	}
	b := make([]byte, n)
	_, d.err = io.ReadFull(d.r, b)
	return string(b)
}

// fieldError makes a number that does not fit 64 bits, which encoding/binary
// reports by a private error, one of ours.
func fieldError(err error) error {
	if err != nil && err.Error() == "binary: varint overflows a 64-bit integer" {
		return malformed("a number of more than 64 bits")
	}
	return err
}
