package erofs

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"rkt/image/layer"
)

// ErrTooLarge reports a layer that the format cannot hold: more than 2 TiB, or
// sparse files in too many pieces.
var ErrTooLarge = errors.New("layer is too large for an index")

// Tar is the layer's uncompressed tar.
type Tar struct {
	io.ReaderAt
	Size   uint64   // bytes
	Digest [32]byte // SHA-256; names the image and its device
}

// blocks is the number of whole blocks: a loop device shows no more.
func (t Tar) blocks() uint64 { return t.Size / blockSize }

func (t Tar) tag() string { return hex.EncodeToString(t.Digest[:]) }

// holds tells whether length bytes at offset can be used where they are.
func (t Tar) holds(offset, length uint64) bool {
	return offset%blockSize == 0 && roundUp(offset+length, blockSize) <= t.blocks()*blockSize
}

// Write writes the index of the tree, whose files lie in the tar, to f, which
// is empty and open for reading, too. It reads the tar only for data that is not
// at the start of a block. The tree must have been checked against the size of
// the tar (layer.Build). f is neither synced nor closed. The error is
// ErrTooLarge when the format is the obstacle.
func Write(ctx context.Context, f *os.File, tree *layer.Tree, tar Tar) error {
	w := &writer{tree: tree, tar: tar}
	if err := w.plan(); err != nil {
		return err
	}
	out := &counter{w: bufio.NewWriterSize(io.NewOffsetWriter(f, 0), 256<<10)}
	for _, step := range []func(*counter){w.writeHead, w.writeBlocks, w.writeInodes} {
		step(out)
	}
	if err := out.flush(); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	if out.n != w.dataStart {
		return fmt.Errorf("internal error: index has %d bytes of metadata, planned %d", out.n, w.dataStart)
	}
	if err := w.copyData(ctx, f); err != nil {
		return err
	}
	if err := f.Truncate(int64(w.end)); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	return w.seal(ctx, f)
}

func (w *writer) writeHead(out *counter) {
	out.pad(superOffset)
	out.write(w.superBlock())
	out.pad(w.xattrStart)
	out.write(w.shared.area)
	out.pad(w.blockStart)
}

// writeBlocks writes the directories and the long targets of symbolic links.
func (w *writer) writeBlocks(out *counter) {
	for i, inode := range w.tree.Inodes {
		n := &w.nodes[i]
		switch inode.Kind {
		case layer.Dir:
			w.eachBlock(inode, func(b []byte, index uint64) {
				if index < n.count {
					out.write(b)
					out.align(blockSize)
				}
			})
		case layer.Symlink:
			if n.layout == flatPlain {
				out.write([]byte(inode.Link))
				out.align(blockSize)
			}
		}
	}
}

func (w *writer) writeInodes(out *counter) {
	out.pad(w.metaStart)
	var b [inodeSize]byte
	for i, inode := range w.tree.Inodes {
		n := &w.nodes[i]
		xattrs := w.shared.body(inode)
		out.pad(w.metaStart + n.nid*nidSize)
		w.encodeInode(&b, inode, n, len(xattrs))
		out.write(b[:])
		out.write(xattrs)
		switch {
		case n.layout == chunkBased:
			out.align(chunkSize)
			w.writeChunks(out, n.pieces)
		case n.layout != flatInline:
		case inode.Kind == layer.Symlink:
			out.write([]byte(inode.Link))
		case inode.Kind == layer.Dir:
			w.eachBlock(inode, func(b []byte, index uint64) {
				if index == n.count {
					out.write(b)
				}
			})
		}
	}
	out.pad(w.dataStart)
}

func (w *writer) encodeInode(b *[inodeSize]byte, inode *layer.Inode, n *node, xattrs int) {
	clear(b[:])
	le.PutUint16(b[0:], formatExtended|uint16(n.layout)<<1)
	if xattrs > 0 {
		le.PutUint16(b[2:], uint16((xattrs-xattrHeader)/4+1))
	}
	le.PutUint16(b[4:], kinds[inode.Kind].mode|inode.Mode)
	le.PutUint64(b[8:], n.size)
	le.PutUint32(b[16:], w.address(n))
	le.PutUint32(b[20:], uint32(inode.Number)+1)
	le.PutUint32(b[24:], inode.UID)
	le.PutUint32(b[28:], inode.GID)
	le.PutUint64(b[32:], uint64(inode.Seconds))
	le.PutUint32(b[40:], inode.Nanos)
	le.PutUint32(b[44:], inode.Nlink)
}

// address is what the inode says of the place of its data.
func (w *writer) address(n *node) uint32 {
	switch {
	case n.layout == chunkBased:
		return chunkIndexes | uint32(n.chunkBits)
	case n.count == 0:
		return 0
	}
	return uint32(w.blockStart/blockSize + n.first)
}

// counter writes and knows where it is; the first error stays.
type counter struct {
	w   *bufio.Writer
	n   uint64
	err error
}

func (c *counter) write(b []byte) {
	if c.err == nil {
		_, c.err = c.w.Write(b)
	}
	c.n += uint64(len(b))
}

var zeros [blockSize]byte

// pad writes zeros up to the offset.
func (c *counter) pad(offset uint64) {
	for c.n < offset {
		c.write(zeros[:min(offset-c.n, blockSize)])
	}
}

func (c *counter) align(to uint64) { c.pad(roundUp(c.n, to)) }

func (c *counter) flush() error {
	if c.err != nil {
		return c.err
	}
	return c.w.Flush()
}
