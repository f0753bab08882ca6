package tarball

import (
	"bytes"
	"strings"

	"rkt/image/layer"
)

// Keys of the PAX forms of a sparse file: 0.0 repeats offset and numbytes, 0.1
// has them in one map, 1.0 has the map in front of the data.
const (
	sparseMajor    = paxSparse + "major"
	sparseMinor    = paxSparse + "minor"
	sparseName     = paxSparse + "name"
	sparseSize     = paxSparse + "size"
	sparseRealSize = paxSparse + "realsize"
	sparseCount    = paxSparse + "numblocks"
	sparseOffset   = paxSparse + "offset"
	sparseNumBytes = paxSparse + "numbytes"
	sparseMap      = paxSparse + "map"
)

// maxSparseMap bounds the map in front of the data of one file, in bytes.
const maxSparseMap = 64 << 20

// region is a piece of a sparse file that is stored.
type region struct{ offset, length int64 }

// sparseRecords are the PAX records of a sparse file.
type sparseRecords struct {
	name         string
	major, minor string
	size         int64 // the real one; valid with hasSize
	hasSize      bool
	count        int64 // valid with hasCount
	hasCount     bool
	hasMap       bool
	halfOpen     bool // an offset waits for its length
	regions      []region
}

func (s *sparseRecords) add(key, value string) error {
	switch key {
	case sparseMajor:
		s.major = value
	case sparseMinor:
		s.minor = value
	case sparseName:
		return setName(&s.name, key, value)
	case sparseSize, sparseRealSize:
		if s.hasSize {
			return malformed("sparse file with two sizes")
		}
		s.hasSize = true
		return setNumber(&s.size, key, value)
	case sparseCount:
		s.hasCount = true
		return setNumber(&s.count, key, value)
	case sparseOffset, sparseNumBytes:
		return s.addHalf(key == sparseOffset, value)
	case sparseMap:
		if s.regions != nil {
			return malformed("sparse file with two maps")
		}
		s.hasMap = true
		return s.addMap(value)
	default:
		return malformed("unknown pax record %.80q", key)
	}
	return nil
}

// addHalf takes an offset or the length that follows it.
func (s *sparseRecords) addHalf(offset bool, value string) error {
	n, ok := decimal(value)
	if !ok || offset == s.halfOpen || s.hasMap || len(s.regions) >= layer.MaxExtents {
		return malformed("sparse file with a broken map")
	}
	if offset {
		s.regions = append(s.regions, region{offset: n})
	} else {
		s.regions[len(s.regions)-1].length = n
	}
	s.halfOpen = offset
	return nil
}

func (s *sparseRecords) addMap(value string) error {
	for i := 0; value != ""; i++ {
		var field string
		field, value, _ = strings.Cut(value, ",")
		n, ok := decimal(field)
		if !ok || len(s.regions) >= layer.MaxExtents {
			return malformed("sparse file with a broken map")
		}
		if i%2 == 0 {
			s.regions = append(s.regions, region{offset: n})
		} else {
			s.regions[len(s.regions)-1].length = n
		}
		s.halfOpen = i%2 == 0
	}
	return nil
}

// form tells which of the PAX forms a file has: none, a map in the records (0.0
// and 0.1), or a map in front of the data (1.0).
func (s *sparseRecords) form() (isSparse, mapInData bool, err error) {
	switch version := s.major + "." + s.minor; {
	case version == "1.0":
		if s.regions != nil || !s.hasSize {
			err = malformed("sparse file of form 1.0 with the records of another")
		}
		return true, true, err
	case version != "." && version != "0.0" && version != "0.1":
		return false, false, malformed("sparse file of the unknown form %.20q", version)
	case s.regions == nil && !s.hasMap && !s.hasSize && !s.hasCount:
		if version != "." {
			err = malformed("sparse file without a map")
		}
		return false, false, err
	case !s.hasSize || s.halfOpen || s.hasCount && s.count != int64(len(s.regions)):
		return false, false, malformed("sparse file with a broken map")
	}
	return true, false, nil
}

// oldSparse reads the part of the old GNU form that is in a header or in one
// of the blocks that follow it: entries, then a flag that more follow.
func oldSparse(regions []region, b []byte, entries int) (_ []region, more bool, err error) {
	for i := range entries {
		field := b[i*24 : i*24+24]
		if field[0] == 0 { // no entry any more; an offset of zero has digits
			break
		}
		offset, ok1 := number(field[:12])
		length, ok2 := number(field[12:])
		if !ok1 || !ok2 || len(regions) >= layer.MaxExtents {
			return nil, false, malformed("sparse file with a broken map")
		}
		regions = append(regions, region{offset, length})
	}
	return regions, b[entries*24] != 0, nil
}

// dataMap reads a map of form 1.0: numbers on lines of their own, first how
// many regions, padded to whole blocks.
type dataMap struct {
	count   int64 // -1 = not read yet
	line    []byte
	regions []region
	half    bool
	read    int64
}

// add reads one block and tells whether the map is complete with it.
func (m *dataMap) add(b block) (done bool, err error) {
	m.read += blockSize
	if m.read > maxSparseMap {
		return false, malformed("sparse file with a map of more than %d bytes", maxSparseMap)
	}
	rest := []byte(b)
	for {
		if m.count == int64(len(m.regions)) && !m.half {
			return true, nil
		}
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			m.line = append(m.line, rest...)
			if len(m.line) > 20 {
				return false, malformed("sparse file with a broken map")
			}
			return false, nil
		}
		n, ok := decimal(string(append(m.line, rest[:end]...)))
		if !ok {
			return false, malformed("sparse file with a broken map")
		}
		m.line, rest = m.line[:0], rest[end+1:]
		m.put(n)
		if m.count > layer.MaxExtents {
			return false, malformed("sparse file with %d regions", m.count)
		}
	}
}

func (m *dataMap) put(n int64) {
	switch {
	case m.count < 0:
		m.count = n
	case m.half:
		m.regions[len(m.regions)-1].length = n
		m.half = false
	default:
		m.regions = append(m.regions, region{offset: n})
		m.half = true
	}
}

// extents places the regions of a file of size bytes into the tar, where its
// stored bytes begin at offset. Regions are in order and begin on a block, so
// that every reader finds the same bytes whether or not it pads each region,
// and what is stored is just what they cover.
func extents(to []layer.Extent, regions []region, size, offset, stored int64) ([]layer.Extent, error) {
	var end, used int64
	for _, r := range regions {
		if r.offset < end || r.length < 0 || r.offset > size || r.length > size-r.offset {
			return nil, malformed("sparse file with regions that overlap or are outside of it")
		}
		end = r.offset + r.length
		if r.length == 0 {
			continue // the mark of a hole at the end
		}
		if r.offset%blockSize != 0 || used%blockSize != 0 || r.length > stored-used {
			return nil, malformed("sparse file with a region that is not stored in whole blocks")
		}
		to = append(to, layer.Extent{Logical: uint64(r.offset), Offset: uint64(offset + used), Length: uint64(r.length)})
		used += r.length
	}
	if used != stored {
		return nil, malformed("sparse file with %d bytes stored, %d used", stored, used)
	}
	return to, nil
}
