package erofs

import (
	"strings"

	"rkt/image/layer"
)

const (
	xattrHeader = 12 // of the attributes behind an inode
	xattrEntry  = 4  // head of one attribute: length of name, prefix, size of value

	// maxInline is the size from which an attribute is kept apart even when one
	// inode has it: the place behind an inode is counted with 16 bits.
	maxInline = 256
)

// prefixes are the beginnings of names that the format has numbers for.
var prefixes = []struct {
	text  string
	index uint8
}{{"user.", 1}, {"trusted.", 4}, {"security.", 6}}

// An overlay reads one of the two marks, by its option userxattr.
var opaqueMarks = []layer.Xattr{
	{Name: "trusted.overlay.opaque", Value: []byte("y")},
	{Name: "user.overlay.opaque", Value: []byte("y")},
}

// xattrsOf returns what an inode has on the disk. Only files and directories
// can have user attributes: no driver could give them to anything else.
func xattrsOf(inode *layer.Inode) []layer.Xattr {
	xattrs := inode.Xattrs
	if inode.Kind != layer.Regular && inode.Kind != layer.Dir {
		xattrs = nil
		for _, x := range inode.Xattrs {
			if !strings.HasPrefix(x.Name, "user.") {
				xattrs = append(xattrs, x)
			}
		}
	}
	if inode.Opaque {
		xattrs = append(xattrs[:len(xattrs):len(xattrs)], opaqueMarks...)
	}
	return xattrs
}

// sharedXattrs are the attributes that lie in an area of their own and are
// referred to by their place in it.
type sharedXattrs struct {
	area  []byte
	place map[string]uint32 // by encoded attribute, in units of 4 bytes
}

// shareXattrs shares what two inodes have, and what is large.
func shareXattrs(inodes []*layer.Inode) *sharedXattrs {
	uses := map[string]int{}
	for _, inode := range inodes {
		for _, x := range xattrsOf(inode) {
			uses[string(encodeXattr(nil, x))]++
		}
	}
	s := &sharedXattrs{place: map[string]uint32{}}
	if len(uses) == 0 {
		return s
	}
	for _, inode := range inodes {
		for _, x := range xattrsOf(inode) {
			b := encodeXattr(nil, x)
			if _, known := s.place[string(b)]; known || len(b) < maxInline && uses[string(b)] < 2 {
				continue
			}
			s.place[string(b)] = uint32(len(s.area) / 4)
			s.area = append(s.area, b...)
		}
	}
	return s
}

// body returns the attributes that follow an inode: a header, references to
// shared ones, and the others; nothing when there are none.
func (s *sharedXattrs) body(inode *layer.Inode) []byte {
	if len(inode.Xattrs) == 0 && !inode.Opaque {
		return nil
	}
	b := make([]byte, xattrHeader)
	var inline []byte
	for _, x := range xattrsOf(inode) {
		encoded := encodeXattr(nil, x)
		if id, ok := s.place[string(encoded)]; ok {
			b = le.AppendUint32(b, id)
			b[4]++
			continue
		}
		inline = append(inline, encoded...)
	}
	if b = append(b, inline...); len(b) == xattrHeader {
		return nil
	}
	return b
}

// encodeXattr appends an attribute, padded to 4 bytes.
func encodeXattr(b []byte, x layer.Xattr) []byte {
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(x.Name, p.text); ok {
			b = append(b, uint8(len(rest)), p.index)
			b = le.AppendUint16(b, uint16(len(x.Value)))
			b = append(append(b, rest...), x.Value...)
			break
		}
	}
	return append(b, zeros[:-len(b)&3]...)
}
