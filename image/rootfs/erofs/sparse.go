package erofs

import (
	"context"
	"fmt"
	"io"
	"os"

	"rkt/image/layer"
)

// maxChunks bounds the chunks of all sparse files of a layer: 32 MiB of index.
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

// planFile uses the bytes of a regular file where they lie in the tar. A file
// that is not one run of blocks there becomes chunks: each is in the tar, is a
// hole, or is put together from copies.
func (w *writer) planFile(inode *layer.Inode, n *node) error {
	extents := merge(inode.Extents)
	if inode.Size == 0 {
		return nil
	}
	if len(extents) == 1 && extents[0].Length == inode.Size && w.tar.holds(extents[0].Offset, inode.Size) {
		n.first = extents[0].Offset / blockSize
		n.count = roundUp(inode.Size, blockSize) / blockSize
		return nil
	}
	n.layout = chunkBased
	n.chunkBits = chunkBits(inode.Size, len(extents))
	size := uint64(blockSize) << n.chunkBits
	count := roundUp(inode.Size, size) / size
	if count > uint64(maxChunks-w.chunks) {
		return fmt.Errorf("%w: its sparse files have more than %d pieces", ErrTooLarge, maxChunks)
	}
	w.chunks += int(count)
	n.pieces = make([]chunk, count)
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

// chunkBits returns the size of chunks, as a shift of the block size: the
// smallest one that does not give more chunks than the pieces are worth.
func chunkBits(size uint64, pieces int) uint8 {
	limit := uint64(1)
	if pieces > 0 {
		limit = uint64(max(fewChunks, chunksPerPiece*pieces))
	}
	bits := uint8(0)
	for bits < maxChunkBits && size > limit*(blockSize<<bits) && (pieces == 0 || blockSize<<bits < maxChunkSize) {
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
