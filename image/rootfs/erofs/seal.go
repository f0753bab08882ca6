package erofs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrDamaged reports an index that is not what Write wrote for that layer.
var ErrDamaged = errors.New("damaged index")

// sealMark begins an image, in the part that the format leaves to others; the
// SHA-256 of everything from the super block on follows.
const sealMark = "rkt layer index 1\n"

// chunkRead is how much of an image is hashed at once, in bytes.
const chunkRead = 256 << 10

func sealOf(ctx context.Context, f io.ReaderAt, end int64) ([]byte, error) {
	h := sha256.New()
	buf := make([]byte, chunkRead)
	for offset := int64(superOffset); offset < end; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n, err := f.ReadAt(buf[:min(end-offset, chunkRead)], offset)
		h.Write(buf[:n])
		offset += int64(n)
		if err != nil && (err != io.EOF || offset < end) {
			return nil, err
		}
	}
	return append([]byte(sealMark), h.Sum(nil)...), nil
}

// seal writes the mark of the finished image.
func (w *writer) seal(ctx context.Context, f *os.File) error {
	mark, err := sealOf(ctx, f, int64(w.end))
	if err == nil {
		_, err = f.WriteAt(mark, 0)
	}
	if err != nil {
		return fmt.Errorf("seal index: %w", err)
	}
	return nil
}

// Verify reads an index and fails with ErrDamaged unless it is one that Write
// finished for the tar of that digest, and nothing has changed it.
func Verify(ctx context.Context, f *os.File, digest [32]byte) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	head := make([]byte, superOffset+blockSize)
	if _, err := f.ReadAt(head, 0); errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: %d bytes", ErrDamaged, st.Size())
	} else if err != nil {
		return err
	}
	mark, err := sealOf(ctx, f, st.Size())
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(head, mark) || len(bytes.Trim(head[len(mark):superOffset], "\x00")) > 0 {
		return fmt.Errorf("%w: it does not have the content it was written with", ErrDamaged)
	}
	tag := head[superOffset+superSize:][:64]
	if !bytes.Equal(tag, []byte(Tar{Digest: digest}.tag())) {
		return fmt.Errorf("%w: it belongs to the layer %.64q", ErrDamaged, tag)
	}
	return nil
}
