package tarball

import (
	"fmt"
	"math"

	"rkt/image/layer"
	"rkt/internal/mutant"
)

// file takes the header of a file: it puts together what this and the headers
// before it say, and refuses where they contradict each other.
func (p *Parser) file(b block, size, next int64) error {
	pax := p.pax
	if pax == nil {
		pax = &records{size: -1, uid: -1, gid: -1}
	}
	flag, err := entryFlag(b.flag())
	if err != nil {
		return fmt.Errorf("entry %.80q: %w", b.name(), err)
	}
	p.entry = Entry{Flag: flag, Xattrs: pax.xattrs, Extents: p.entry.Extents[:0]}
	p.regions = p.regions[:0]
	for _, step := range []func(block, *records) error{p.names, p.owner, p.times} {
		if err := step(b, pax); err != nil {
			return err
		}
	}
	if size, err = p.storedSize(size, pax); err != nil {
		return err
	}
	p.entry.Size, p.entry.Stored = size, size
	p.pax, p.gnuName, p.gnuLink = nil, "", ""
	isSparse, mapInData, err := pax.sparse.form()
	if err != nil {
		return fmt.Errorf("entry %.80q: %w", p.entry.Name, err)
	}
	switch {
	case isSparse && (b.flag() == typeGNUSparse || flag != typeRegular):
		return malformed("entry %.80q is sparse in two ways, or no file", p.entry.Name)
	case isSparse:
		return p.startPAXSparse(&pax.sparse, mapInData, next)
	case b.flag() == typeGNUSparse:
		return p.startOldSparse(b, next)
	}
	return p.deliver(next)
}

// entryFlag makes one of the spellings of a regular file, and refuses types that
// cannot be in a layer.
func entryFlag(flag byte) (byte, error) {
	switch flag {
	case typeRegular, typeRegularV7, typeContiguous, typeGNUSparse:
		return typeRegular, nil
	case typeHardlink, typeSymlink, typeChar, typeBlock, typeDir, typeFifo:
		return flag, nil
	}
	if mutant.On("anyentry") {
		return typeRegular, nil
	}
	return 0, malformed("unknown type %q", flag)
}

func (p *Parser) names(b block, pax *records) error {
	if p.gnuName != "" && pax.name != "" || p.gnuLink != "" && pax.link != "" {
		return malformed("entry %.80q has its name from two headers", b.name())
	}
	e := &p.entry
	switch {
	case pax.sparse.name != "":
		e.Name = pax.sparse.name
	case pax.name != "":
		e.Name = pax.name
	case p.gnuName != "":
		e.Name = p.gnuName
	default:
		if prefix := b.prefix(); len(prefix) > 0 {
			e.Name = string(prefix) + "/"
		}
		e.Name += string(b.name())
	}
	if e.Flag != typeHardlink && e.Flag != typeSymlink {
		return nil
	}
	switch {
	case pax.link != "":
		e.Link = pax.link
	case p.gnuLink != "":
		e.Link = p.gnuLink
	default:
		e.Link = string(b.link())
	}
	return nil
}

func (p *Parser) owner(b block, pax *records) error {
	mode, ok := number(b.mode())
	if !ok || mode < 0 {
		return malformed("entry %.80q has a broken mode", p.entry.Name)
	}
	// Old writers put the bits of the file type there as well.
	p.entry.Mode = uint16(mode & 0o7777)
	if mutant.On("modebits") {
		p.entry.Mode = uint16(mode)
	}
	for _, id := range []struct {
		to    *uint32
		field []byte
		pax   int64
	}{{&p.entry.UID, b.uid(), pax.uid}, {&p.entry.GID, b.gid(), pax.gid}} {
		n := id.pax
		if n < 0 {
			if n, ok = number(id.field); !ok {
				n = -1
			}
		}
		if mutant.On("anyowner") {
			n = max(0, min(n, math.MaxUint32-1))
		}
		if n < 0 || n >= math.MaxUint32 {
			return malformed("entry %.80q has an owner that is no number of 32 bits", p.entry.Name)
		}
		*id.to = uint32(n)
	}
	return nil
}

func (p *Parser) times(b block, pax *records) error {
	if pax.mtime {
		p.entry.Seconds, p.entry.Nanos = pax.seconds, pax.nanos
		return nil
	}
	var ok bool
	if p.entry.Seconds, ok = number(b.mtime()); !ok {
		return malformed("entry %.80q has a broken time", p.entry.Name)
	}
	return nil
}

// maxOctalSize is the largest size that fits a header as digits.
const maxOctalSize = 1<<33 - 1

// storedSize returns how many bytes of the entry follow. A PAX record may give a
// size that does not fit the header; tools that read the one or the other would
// find different files otherwise.
func (p *Parser) storedSize(size int64, pax *records) (int64, error) {
	if pax.size >= 0 && pax.size != size {
		if pax.size <= maxOctalSize || pax.size > layer.MaxSize {
			return 0, malformed("entry %.80q has the sizes %d and %d", p.entry.Name, size, pax.size)
		}
		size = pax.size
	}
	if p.entry.Flag != typeRegular && size != 0 {
		return 0, malformed("entry %.80q is no file and has %d bytes", p.entry.Name, size)
	}
	return size, nil
}

func (p *Parser) startOldSparse(b block, next int64) error {
	if b.format() != formatGNU {
		return malformed("sparse file %.80q in a dialect that has none", p.entry.Name)
	}
	size, ok := number(b[483:495])
	if !ok {
		return malformed("sparse file %.80q has a broken size", p.entry.Name)
	}
	p.entry.Size, p.entry.Sparse = size, true
	var more bool
	var err error
	if p.regions, more, err = oldSparse(p.regions, b[386:483], 4); err != nil {
		return err
	}
	if more {
		p.state = atSparse
		return nil
	}
	return p.deliver(next)
}

func (p *Parser) startPAXSparse(s *sparseRecords, mapInData bool, next int64) error {
	p.entry.Size, p.entry.Sparse = s.size, true
	if mapInData {
		p.dataMap = &dataMap{count: -1}
		p.state = atSparseMap
		return nil
	}
	p.regions = s.regions
	return p.deliver(next)
}

func (p *Parser) sparseBlock(b block, next int64) error {
	if p.entry.Stored < blockSize {
		return malformed("sparse file %.80q without its map", p.entry.Name)
	}
	p.entry.Stored -= blockSize
	done, err := p.dataMap.add(b)
	if err != nil || !done {
		return err
	}
	p.regions, p.dataMap = p.dataMap.regions, nil
	return p.deliver(next)
}

// deliver hands the entry over. Its stored bytes begin at offset.
func (p *Parser) deliver(offset int64) error {
	e := &p.entry
	e.Offset = offset
	p.state = atHeader
	var err error
	switch {
	case e.Sparse:
		if e.Size < 0 || e.Size > layer.MaxSize {
			return malformed("sparse file %.80q has an impossible size", e.Name)
		}
		if e.Extents, err = extents(e.Extents, p.regions, e.Size, offset, e.Stored); err != nil {
			return fmt.Errorf("entry %.80q: %w", e.Name, err)
		}
	case e.Stored > 0:
		e.Extents = append(e.Extents, layer.Extent{Offset: uint64(offset), Length: uint64(e.Stored)})
	}
	if cap(p.regions) > 4096 {
		p.regions = nil
	}
	keep, err := p.h.Entry(e)
	if err != nil {
		return err
	}
	if keep && e.Stored > 0 {
		p.state, p.left, p.pad = atData, e.Stored, padding(e.Stored)
		return nil
	}
	p.skip = e.Stored + padding(e.Stored)
	return nil
}

// IsRegular reports whether the entry is a file with data.
func (e *Entry) IsRegular() bool { return e.Flag == typeRegular }

// IsSymlink reports whether the entry is a symbolic link.
func (e *Entry) IsSymlink() bool { return e.Flag == typeSymlink }

// IsLink reports whether the entry is a hard or symbolic link.
func (e *Entry) IsLink() bool { return e.Flag == typeHardlink || e.Flag == typeSymlink }
