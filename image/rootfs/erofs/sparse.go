package erofs

import (
	"context"
	"fmt"
	"io"
	"os"

	"rkt/image/layer"
)

// maxChunks bounds the chunks of all files of a layer, beyond one for each: 32
// MiB of index.
const maxChunks = 4 << 20

// How many chunks a sparse file is cut into: fewChunks, or some for each of its
// pieces, or as many as it takes to have none larger than maxChunkSize. Smaller
// chunks make a longer list, larger ones make more that is copied and padded.
const (
	fewChunks      = 1024
	chunksPerPiece = 64
	maxChunkSize   = 1 << 20 // bytes
)

// maxPadding is what the data area may have beyond four times the size of the tar.
const maxPadding = 64 << 20

// chunk is the place of one chunk of a file.
type chunk struct {
	block uint64
	place uint8
}

// Where the block of a chunk is counted from.
const (
	hole uint8 = iota
	inTar
	inData
)

// piece is a part of the tar that is copied.
type piece struct {
	from, to, length uint64 // to is an offset of the data area
}

// planFile uses the bytes of a regular file where they lie in the tar. A file is
// a list of chunks: each is in the tar, is a hole, or is put together from
// copies. A file that is one run of blocks in the tar is one chunk. (It could be
// flat as well, by the address that the device table gives to the tar. But the
// kernel then compares addresses of two kinds and reads each folio alone.)
func (w *writer) planFile(inode *layer.Inode, n *node) error {
	extents := merge(inode.Extents)
	if inode.Size == 0 {
		return nil
	}
	n.layout = chunkBased
	whole := len(extents) == 1 && extents[0].Length == inode.Size && w.tar.holds(extents[0].Offset, inode.Size)
	n.chunkBits = chunkBits(inode.Size, len(extents), whole)
	size := uint64(blockSize) << n.chunkBits
	count := roundUp(inode.Size, size) / size
	if count-1 > uint64(maxChunks-w.chunks) {
		return fmt.Errorf("%w: its sparse files have more than %d pieces", ErrTooLarge, maxChunks)
	}
	w.chunks += int(count - 1)
	n.pieces = w.newPieces(int(count))
	for i := range n.pieces {
		start := uint64(i) * size
		for len(extents) > 0 && extents[0].Logical+extents[0].Length <= start {
			extents = extents[1:]
		}
		n.pieces[i] = w.planChunk(start, min(start+size, inode.Size), extents)
	}
	if w.copied > w.tar.Size {
		return fmt.Errorf("%w: %q refers to the same data again and again", layer.ErrMalformed, inode.Path)
	}
	if w.dataLen > 4*w.tar.Size+maxPadding {
		return fmt.Errorf("%w: %q has its data in too many small pieces", ErrTooLarge, inode.Path)
	}
	return nil
}

// newPieces takes from a supply: most files need one, and there are many.
func (w *writer) newPieces(n int) []chunk {
	if n > len(w.spare) {
		w.spare = make([]chunk, max(n, 4096))
	}
	pieces := w.spare[:n:n]
	w.spare = w.spare[n:]
	return pieces
}

// chunkBits returns the size of chunks, as a shift of the block size: one chunk
// for a file that is whole or a hole, else the smallest size that does not give
// more chunks than the pieces are worth.
func chunkBits(size uint64, pieces int, whole bool) uint8 {
	limit, largest := uint64(1), uint64(blockSize<<maxChunkBits)
	if pieces > 0 && !whole {
		limit, largest = uint64(max(fewChunks, chunksPerPiece*pieces)), maxChunkSize
	}
	bits := uint8(0)
	for chunk := uint64(blockSize); chunk < largest && size > limit*chunk; chunk *= 2 {
		bits++
	}
	return bits
}

// planChunk finds a place for the bytes from start to end of a file; extents
// begin with the first one that ends behind start.
func (w *writer) planChunk(start, end uint64, extents []layer.Extent) chunk {
	if len(extents) == 0 || extents[0].Logical >= end {
		return chunk{place: hole}
	}
	if e := extents[0]; e.Logical <= start && e.Logical+e.Length >= end {
		if offset := e.Offset + start - e.Logical; w.tar.holds(offset, end-start) {
			return chunk{place: inTar, block: offset / blockSize}
		}
	}
	c := chunk{place: inData, block: w.dataLen / blockSize}
	for _, e := range extents {
		if e.Logical >= end {
			break
		}
		from, to := max(e.Logical, start), min(e.Logical+e.Length, end)
		w.copies = append(w.copies, piece{from: e.Offset + from - e.Logical, to: w.dataLen + from - start, length: to - from})
		w.copied += to - from
	}
	w.dataLen += roundUp(end-start, blockSize)
	return c
}

// merge joins extents that continue each other in the file and in the tar.
func merge(extents []layer.Extent) []layer.Extent {
	if len(extents) < 2 {
		return extents
	}
	merged := []layer.Extent{extents[0]}
	for _, e := range extents[1:] {
		last := &merged[len(merged)-1]
		if last.Logical+last.Length == e.Logical && last.Offset+last.Length == e.Offset {
			last.Length += e.Length
			continue
		}
		merged = append(merged, e)
	}
	return merged
}

func (w *writer) writeChunks(out *counter, chunks []chunk) {
	var b [chunkSize]byte
	for _, c := range chunks {
		clear(b[:])
		switch c.place {
		case hole:
			le.PutUint32(b[4:], nullBlock)
		case inTar:
			le.PutUint16(b[2:], tarDevice)
			le.PutUint32(b[4:], uint32(c.block))
		case inData:
			le.PutUint32(b[4:], uint32(w.dataStart/blockSize+c.block))
		}
		out.write(b[:])
	}
}

// copyData fills the data area; what is not copied stays a hole of f.
func (w *writer) copyData(ctx context.Context, f *os.File) error {
	for _, c := range w.copies {
		if err := ctx.Err(); err != nil {
			return err
		}
		to := io.NewOffsetWriter(f, int64(w.dataStart+c.to))
		n, err := io.Copy(to, io.NewSectionReader(w.tar, int64(c.from), int64(c.length)))
		if err == nil && uint64(n) != c.length {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("copy data into the index: %w", err)
		}
	}
	return nil
}
