package erofs

import (
	"iter"

	"rkt/image/layer"
)

// names yields what a directory lists: its entries, "." and "..", all sorted by
// their bytes, which is how the kernel searches.
func names(d *layer.Inode) iter.Seq2[string, *layer.Inode] {
	dots := []layer.Entry{{Name: ".", Inode: d}, {Name: "..", Inode: d.Parent}}
	return func(yield func(string, *layer.Inode) bool) {
		rest := dots
		for _, e := range d.Entries {
			for len(rest) > 0 && rest[0].Name < e.Name {
				if !yield(rest[0].Name, rest[0].Inode) {
					return
				}
				rest = rest[1:]
			}
			if !yield(e.Name, e.Inode) {
				return
			}
		}
		for _, e := range rest {
			if !yield(e.Name, e.Inode) {
				return
			}
		}
	}
}

// directorySize is the size of a directory: whole blocks but for the last.
func directorySize(d *layer.Inode) uint64 {
	var full, used uint64
	for name := range names(d) {
		need := uint64(direntSize + len(name))
		if used+need > blockSize {
			full++
			used = 0
		}
		used += need
	}
	return full*blockSize + used
}

// eachBlock calls emit with each block of a directory, without its padding. The
// slice is reused.
func (w *writer) eachBlock(d *layer.Inode, emit func(b []byte, index uint64)) {
	var batch []layer.Entry
	var used int
	var index uint64
	buf := make([]byte, 0, blockSize)
	for name, inode := range names(d) {
		need := direntSize + len(name)
		if used+need > blockSize {
			emit(w.encodeBlock(buf, batch), index)
			index++
			batch, used = batch[:0], 0
		}
		batch = append(batch, layer.Entry{Name: name, Inode: inode})
		used += need
	}
	emit(w.encodeBlock(buf, batch), index)
}

// encodeBlock encodes one block: all entries, then all names. A name ends where
// the next begins; the last one at the end of the block or at a zero.
func (w *writer) encodeBlock(b []byte, batch []layer.Entry) []byte {
	b = b[:0]
	offset := direntSize * len(batch)
	for _, e := range batch {
		b = le.AppendUint64(b, w.nodes[e.Inode.Number].nid)
		b = le.AppendUint16(b, uint16(offset))
		b = append(b, kinds[e.Inode.Kind].dirent, 0)
		offset += len(e.Name)
	}
	for _, e := range batch {
		b = append(b, e.Name...)
	}
	return b
}
