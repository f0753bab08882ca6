// Package erofs writes the index of a layer: an EROFS image that holds
// metadata only, and whose regular files lie in the layer's tar, which is given
// to the kernel as a second device. Blocks have 512 bytes, as in a tar, so
// that a file can be used where it lies.
//
// The image is a function of the tree: the same layer gives the same bytes.
// Linux 6.12 and later mount it from plain files, 6.4 and later from block
// devices. Start with Write.
package erofs

import (
	"encoding/binary"
	"hash/crc32"

	"rkt/image/layer"
)

// The format: Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h of
// Linux. All numbers are little-endian.
const (
	blockBits = 9
	blockSize = 1 << blockBits

	superOffset = 1024
	superMagic  = 0xE0F5E1E2
	superSize   = 128
	slotSize    = 128 // of a device; the table of devices follows the super block
	nidSize     = 32  // an inode number counts these in the metadata area
	inodeSize   = 64  // the extended form: 32-bit owners and links, time with nanoseconds
	direntSize  = 12
	chunkSize   = 8

	compatChecksum = 0x1
	compatMtime    = 0x2

	incompatChunked = 0x4
	incompatDevices = 0x8

	// Data layouts of an inode.
	flatPlain  = 0 // one run of blocks
	flatInline = 2 // a run of blocks; the last one, cut short, follows the inode
	chunkBased = 4 // a list of chunks of equal size follows the inode

	formatExtended = 1
	chunkIndexes   = 0x20 // the chunks are listed with 8 bytes each
	maxChunkBits   = 31   // of a chunk's size in blocks
	nullBlock      = 1<<32 - 1
	tarDevice      = 1

	// Block addresses have 32 bits, and the highest one means none.
	maxBlocks = 1<<32 - 2
)

// kinds are file type bits and dirent types by layer.Kind.
var kinds = [...]struct {
	mode   uint16
	dirent uint8
}{
	layer.Dir:      {0o040000, 2},
	layer.Regular:  {0o100000, 1},
	layer.Symlink:  {0o120000, 7},
	layer.Fifo:     {0o010000, 5},
	layer.Whiteout: {0o020000, 3}, // a character device 0:0
}

var le = binary.LittleEndian

func roundUp(n, to uint64) uint64 { return (n + to - 1) / to * to }

// superBlock returns the block with the super block and the table of devices.
func (w *writer) superBlock() []byte {
	b := make([]byte, blockSize)
	le.PutUint32(b[0:], superMagic)
	le.PutUint32(b[8:], compatChecksum|compatMtime)
	b[12] = blockBits
	le.PutUint16(b[14:], 0) // the root is the first inode: this number has 16 bits only
	le.PutUint64(b[16:], uint64(len(w.tree.Inodes)))
	le.PutUint32(b[36:], uint32(w.end/blockSize))
	le.PutUint32(b[40:], uint32(w.metaStart/blockSize))
	le.PutUint32(b[44:], uint32(w.xattrStart/blockSize))
	copy(b[48:64], w.tar.Digest[:]) // UUID
	le.PutUint32(b[80:], incompatChunked|incompatDevices)
	le.PutUint16(b[86:], 1) // devices
	le.PutUint16(b[88:], (superOffset+superSize)/slotSize)

	slot := b[superSize:]
	copy(slot[:64], w.tar.tag())
	le.PutUint32(slot[64:], uint32(w.tar.blocks()))
	le.PutUint32(slot[68:], uint32(w.tarBlock()))

	// The kernel does not invert the CRC32C at its end, Go does.
	le.PutUint32(b[4:], ^crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}
