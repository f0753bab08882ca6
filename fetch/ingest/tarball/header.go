package tarball

import (
	"bytes"
	"strconv"
)

// blockSize is the unit of a tar in bytes.
const blockSize = 512

// Type flags of an entry (POSIX pax, and GNU's).
const (
	typeRegular    = '0'
	typeRegularV7  = 0
	typeHardlink   = '1'
	typeSymlink    = '2'
	typeChar       = '3'
	typeBlock      = '4'
	typeDir        = '5'
	typeFifo       = '6'
	typeContiguous = '7' // stored like a regular file everywhere
	typePAX        = 'x'
	typePAXGlobal  = 'g'
	typeGNUName    = 'L'
	typeGNULink    = 'K'
	typeGNUSparse  = 'S'
)

// block is one block of 512 bytes that is read as a header.
type block []byte

func (b block) name() []byte     { return untilNUL(b[0:100]) }
func (b block) mode() []byte     { return b[100:108] }
func (b block) uid() []byte      { return b[108:116] }
func (b block) gid() []byte      { return b[116:124] }
func (b block) size() []byte     { return b[124:136] }
func (b block) mtime() []byte    { return b[136:148] }
func (b block) checksum() []byte { return b[148:156] }
func (b block) flag() byte       { return b[156] }
func (b block) link() []byte     { return untilNUL(b[157:257]) }

// zeroBlock is what the end of a tar consists of.
var zeroBlock [blockSize]byte

func (b block) isZero() bool { return bytes.Equal(b, zeroBlock[:]) }

// format is a dialect of the header.
type format int

const (
	formatV7 format = iota
	formatUSTAR
	formatStar
	formatGNU
)

func (b block) format() format {
	switch magic := string(b[257:265]); {
	case magic[:6] == "ustar\x00" && string(b[508:512]) == "tar\x00":
		return formatStar
	case magic[:6] == "ustar\x00":
		return formatUSTAR
	case magic == "ustar  \x00":
		return formatGNU
	}
	return formatV7
}

// prefix is the front part of the name where the dialect has one.
func (b block) prefix() []byte {
	switch b.format() {
	case formatUSTAR:
		return untilNUL(b[345:500])
	case formatStar:
		return untilNUL(b[345:476])
	case formatGNU:
		// GNU has access and change times there. Go before 1.8, and so every
		// docker of its time, wrote a prefix under GNU's magic: it shows where
		// the times are no numbers. Go reads them in the same way.
		_, aok := number(b[345:357])
		_, cok := number(b[357:369])
		if prefix := untilNUL(b[345:500]); !(aok && cok) && isASCII(prefix) {
			return prefix
		}
	}
	return nil
}

// sumIsRight compares the checksum: the sum of all bytes with the checksum
// itself as spaces. Some old writers summed signed characters.
func (b block) sumIsRight() bool {
	want, ok := number(b.checksum())
	if !ok {
		return false
	}
	var unsigned, signed int64
	for _, c := range b {
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	for _, c := range b.checksum() {
		unsigned += ' ' - int64(c)
		signed += ' ' - int64(int8(c))
	}
	return want == unsigned || want == signed
}

// number reads a numeric field: octal digits in ASCII between spaces and NULs,
// or two's complement of base 256 when the first bit is set. It fails when the
// field is neither or does not fit 64 bits; an empty field is zero.
func number(field []byte) (int64, bool) {
	if len(field) > 0 && field[0]&0x80 != 0 {
		return base256(field)
	}
	digits := untilNUL(bytes.TrimLeft(field, " \x00"))
	digits = bytes.TrimRight(digits, " ")
	if len(digits) == 0 {
		return 0, true
	}
	var n int64
	for _, c := range digits {
		if c < '0' || c > '7' {
			return 0, false
		}
		n = n<<3 | int64(c-'0') // a field has at most 12 digits, 36 bits
	}
	return n, true
}

func base256(field []byte) (int64, bool) {
	var invert byte // of a negative number
	if field[0]&0x40 != 0 {
		invert = 0xff
	}
	var n uint64
	for i, c := range field {
		c ^= invert
		if i == 0 {
			c &= 0x7f // the mark
		}
		if n>>56 != 0 {
			return 0, false
		}
		n = n<<8 | uint64(c)
	}
	if n>>63 != 0 {
		return 0, false
	}
	if invert != 0 {
		return ^int64(n), true
	}
	return int64(n), true
}

// decimal reads a number of a PAX record or sparse map: digits and nothing else.
func decimal(s string) (int64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' { // no sign
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

func untilNUL(b []byte) []byte {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		return b[:i]
	}
	return b
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c >= 0x80 {
			return false
		}
	}
	return true
}
