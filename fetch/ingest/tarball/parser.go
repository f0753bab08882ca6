// Package tarball reads tar files: those that are layers, whose facts Scanner
// writes, and those that carry images, which Index lists. There is one parser
// for all, Parser. It is fed with the bytes of the tar as they come, looks at
// headers in place and passes over data without touching it, and it is strict:
// where tools that read tars are known to disagree, it refuses. Start with
// Scanner.
package tarball

import (
	"bytes"
	"fmt"

	"rkt/image/layer"
)

// Limits of what is kept in memory for one entry, in bytes.
const (
	maxPAX  = 4 << 20
	maxName = layer.MaxPath + 1 // with a NUL
)

// Entry is one file of a tar, with what all its headers say. It and its slices
// belong to the parser and are good until the Handler returns.
type Entry struct {
	Name, Link string // as they are in the tar; cleaning is up to the Handler
	Flag       byte   // '0' for every kind of regular file
	Mode       uint16 // permission bits with setuid, setgid and sticky
	UID, GID   uint32
	Seconds    int64
	Nanos      uint32
	Xattrs     []layer.Xattr
	Size       int64 // of a regular file, with its holes
	Stored     int64 // bytes in the tar
	Offset     int64 // of those bytes in the tar
	Sparse     bool
	Extents    []layer.Extent // of a regular file
}

// Handler is told what is in a tar. An error ends the reading.
type Handler interface {
	// Entry is called for each file; Data gets its stored bytes if keep is true.
	Entry(e *Entry) (keep bool, err error)
	Data(p []byte) error
}

// state is what the parser expects next.
type state int

const (
	atHeader    state = iota
	atSparse          // a further block of an old GNU sparse map
	atSparseMap       // a block of a sparse map in front of the data
	atMeta            // the body of a header of headers
	atData            // stored bytes that the handler wants
	atEnd             // zeros, up to the end
)

// Parser reads one tar, which is given to Write and Skip piece by piece.
type Parser struct {
	h      Handler
	state  state
	offset int64 // of the next byte in the tar
	skip   int64 // bytes to pass over before state counts
	left   int64 // bytes to come of what state is about
	pad    int64 // bytes between them and the next block
	part   []byte

	// What headers before the entry's own have said.
	metaFlag byte
	meta     []byte
	pax      *records
	gnuName  string
	gnuLink  string

	entry   Entry
	regions []region
	dataMap *dataMap
	err     error
}

// NewParser returns a parser that tells h what it reads.
func NewParser(h Handler) *Parser {
	return &Parser{h: h, part: make([]byte, 0, blockSize)}
}

// Offset returns how many bytes of the tar have been passed.
func (p *Parser) Offset() int64 { return p.offset }

// Ahead returns how many of the bytes to come are of no interest. Up to so many
// may be given to Skip instead of Write.
func (p *Parser) Ahead() int64 {
	if p.err != nil {
		return 0
	}
	return p.skip
}

// Skip passes over n bytes that are in the tar, n at most Ahead.
func (p *Parser) Skip(n int64) {
	n = min(n, p.skip)
	p.skip -= n
	p.offset += n
}

// Write takes the next bytes of the tar. The error is layer.ErrMalformed, or
// what the Handler returned; it is final.
func (p *Parser) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 && p.err == nil {
		if p.skip > 0 {
			passed := int(min(p.skip, int64(len(b))))
			p.Skip(int64(passed))
			b = b[passed:]
			continue
		}
		var used int
		used, p.err = p.step(b)
		p.offset += int64(used)
		b = b[used:]
	}
	if p.err != nil {
		return n - len(b), p.err
	}
	return n, nil
}

// Close tells the parser that the tar is at its end. The error is
// layer.ErrMalformed when it is cut off. Tars without the two blocks of zeros
// that should end them exist and are accepted.
func (p *Parser) Close() error {
	if p.err != nil {
		return p.err
	}
	between := p.state == atHeader && p.pax == nil && p.gnuName == "" && p.gnuLink == ""
	if p.skip > 0 || len(p.part) > 0 || p.state != atEnd && !between {
		p.err = malformed("tar is cut off after %d bytes", p.offset)
	}
	return p.err
}

// step takes some of b, which is not empty, as state says.
func (p *Parser) step(b []byte) (used int, err error) {
	switch p.state {
	case atMeta:
		used = int(min(p.left, int64(len(b))))
		p.meta = append(p.meta, b[:used]...)
		if p.left -= int64(used); p.left == 0 {
			p.skip, p.state = p.pad, atHeader
			err = p.endMeta()
		}
		return used, err
	case atData:
		used = int(min(p.left, int64(len(b))))
		if p.left -= int64(used); p.left == 0 {
			p.skip, p.state = p.pad, atHeader
		}
		return used, p.h.Data(b[:used])
	case atEnd:
		return len(b), p.trailer(b)
	}
	if len(p.part) == 0 && len(b) >= blockSize {
		return blockSize, p.block(block(b[:blockSize]), p.offset+blockSize)
	}
	used = min(blockSize-len(p.part), len(b))
	p.part = append(p.part, b[:used]...)
	if len(p.part) < blockSize {
		return used, nil
	}
	full := p.part
	p.part = p.part[:0]
	return used, p.block(block(full), p.offset+int64(used))
}

// trailer takes what is behind the first block of zeros. A second archive there
// would be read by some tools and not by others.
func (p *Parser) trailer(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), blockSize)
		if !bytes.Equal(b[:n], zeroBlock[:n]) {
			return malformed("data behind the end of the tar")
		}
		b = b[n:]
	}
	return nil
}

// block takes a whole block; next is the offset of what follows it.
func (p *Parser) block(b block, next int64) error {
	switch p.state {
	case atSparse:
		var more bool
		var err error
		if p.regions, more, err = oldSparse(p.regions, b, 21); err != nil || more {
			return err
		}
		return p.deliver(next)
	case atSparseMap:
		return p.sparseBlock(b, next)
	}
	if b.isZero() {
		if p.pax != nil || p.gnuName != "" || p.gnuLink != "" {
			return malformed("header of headers without a file")
		}
		p.state = atEnd
		return nil
	}
	if !b.sumIsRight() {
		return malformed("header at %d of the tar is damaged", p.offset)
	}
	return p.header(b, next)
}

// header takes the header of a file, or of headers of the next file.
func (p *Parser) header(b block, next int64) error {
	size, ok := number(b.size())
	if !ok || size < 0 || size > layer.MaxSize {
		return malformed("entry %.80q has an impossible size", b.name())
	}
	switch b.flag() {
	case typePAX, typePAXGlobal, typeGNUName, typeGNULink:
		return p.startMeta(b.flag(), size)
	}
	return p.file(b, size, next)
}

func (p *Parser) startMeta(flag byte, size int64) error {
	limit, again := int64(maxPAX), p.pax != nil
	switch flag {
	case typeGNUName:
		limit, again = maxName, p.gnuName != ""
	case typeGNULink:
		limit, again = maxName, p.gnuLink != ""
	}
	switch {
	case size > limit:
		return malformed("header of type %q has %d bytes, limit is %d", flag, size, limit)
	case again:
		return malformed("header of type %q twice for one file", flag)
	}
	p.metaFlag, p.meta = flag, p.meta[:0]
	p.left, p.pad = size, padding(size)
	if size == 0 {
		return p.endMeta()
	}
	p.state = atMeta
	return nil
}

// endMeta understands the body of a header of headers.
func (p *Parser) endMeta() (err error) {
	switch p.metaFlag {
	case typePAX:
		p.pax, err = newRecords(p.meta)
	case typePAXGlobal:
		err = checkGlobal(p.meta)
	case typeGNUName:
		p.gnuName, err = longName(p.meta)
	case typeGNULink:
		p.gnuLink, err = longName(p.meta)
	}
	if cap(p.meta) > 64<<10 {
		p.meta = nil // one huge header need not stay in memory
	}
	return err
}

func longName(b []byte) (string, error) {
	name := untilNUL(b)
	if len(name) == 0 || len(bytes.Trim(b[len(name):], "\x00")) > 0 {
		return "", malformed("broken GNU long name")
	}
	return string(name), nil
}

func padding(size int64) int64 { return -size & (blockSize - 1) }

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errTar}, args...)...)
}

// errTar says what is malformed: the tar, not the facts about it.
var errTar = tarError{}

type tarError struct{}

func (tarError) Error() string        { return "malformed tar" }
func (tarError) Is(target error) bool { return target == layer.ErrMalformed }
