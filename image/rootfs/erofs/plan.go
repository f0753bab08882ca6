package erofs

import (
	"fmt"

	"rkt/image/layer"
)

// writer lays an image out, then writes it from its start to its end: super
// block, shared attributes, blocks of directories and long symbolic links,
// inodes, copied data. Behind them, from tarBlock on, the addresses belong to
// the tar. Offsets are in bytes of the image.
type writer struct {
	tree   *layer.Tree
	tar    Tar
	nodes  []node // by Inode.Number
	shared *sharedXattrs

	xattrStart, blockStart, metaStart, dataStart, end uint64

	chunks  int     // of all files, beyond one for each
	spare   []chunk // see newPieces
	copies  []piece // of the tar to the data area
	copied  uint64  // bytes of them
	dataLen uint64  // bytes of the data area
}

// node is the place of one inode.
type node struct {
	nid    uint64 // its offset in the metadata area, in nidSize
	size   uint64
	layout uint8
	inline int // bytes of data behind the inode and its attributes

	// Blocks in the area of blocks, of what is no regular file.
	first, count uint64

	// Of a regular file.
	chunkBits uint8
	pieces    []chunk
}

// tarBlock is the address of the first block of the tar.
func (w *writer) tarBlock() uint64 { return w.end / blockSize }

func (w *writer) plan() error {
	w.shared = shareXattrs(w.tree.Inodes)
	w.nodes = make([]node, len(w.tree.Inodes))
	var blocks, meta uint64
	for i, inode := range w.tree.Inodes {
		n := &w.nodes[i]
		head := inodeSize + uint64(len(w.shared.body(inode)))
		if err := w.planData(inode, n, head); err != nil {
			return err
		}
		n.first = blocks
		blocks += n.count
		meta = n.place(meta, head)
	}
	w.xattrStart = superOffset + blockSize
	w.blockStart = w.xattrStart + roundUp(uint64(len(w.shared.area)), blockSize)
	w.metaStart = w.blockStart + blocks*blockSize
	w.dataStart = w.metaStart + roundUp(meta, blockSize)
	w.end = w.dataStart + w.dataLen
	if w.tarBlock()+w.tar.blocks() > maxBlocks {
		return fmt.Errorf("%w: %d bytes of tar and %d of index, limit is 2 TiB", ErrTooLarge, w.tar.Size, w.end)
	}
	return nil
}

// planData decides where the data of an inode goes.
func (w *writer) planData(inode *layer.Inode, n *node, head uint64) error {
	switch inode.Kind {
	case layer.Regular:
		n.size = inode.Size
		return w.planFile(inode, n)
	case layer.Dir:
		n.planDirectory(directorySize(inode), head)
	case layer.Symlink:
		n.size = uint64(len(inode.Link))
		n.count = roundUp(n.size, blockSize) / blockSize
		if head+n.size <= blockSize {
			n.layout, n.inline, n.count = flatInline, int(n.size), 0
		}
	}
	return nil
}

// planDirectory puts the end of a directory behind its inode when it fits there:
// one read of one block then gives both.
func (n *node) planDirectory(size, head uint64) {
	n.size = size
	n.count = size / blockSize
	tail := size % blockSize
	switch {
	case tail == 0:
	case head+tail <= blockSize:
		n.layout, n.inline = flatInline, int(tail)
	default:
		n.count++
	}
}

// place puts the inode at or behind the offset meta of the metadata area and
// returns where the next one may begin. Inline data must not cross the end of a
// block, and inodes that do not either are read faster.
func (n *node) place(meta, head uint64) uint64 {
	meta = roundUp(meta, nidSize)
	whole := uint64(inodeSize)
	switch {
	case n.inline > 0:
		whole = head + uint64(n.inline)
	case len(n.pieces) == 1 && head+chunkSize <= blockSize:
		whole = roundUp(head, chunkSize) + chunkSize
	}
	if meta%blockSize+whole > blockSize {
		meta = roundUp(meta, blockSize)
	}
	n.nid = meta / nidSize
	end := meta + head + uint64(n.inline)
	if n.layout == chunkBased {
		end = roundUp(end, chunkSize) + uint64(len(n.pieces))*chunkSize
	}
	return end
}
