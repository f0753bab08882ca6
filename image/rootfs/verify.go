package rootfs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/image/rootfs/erofs"
	"rkt/internal/mutant"
)

// files are the files that decide what a mount of the source shows.
func (s source) files() []*os.File {
	if s.derived != nil {
		return []*os.File{s.derived, s.root}
	}
	return []*os.File{s.tar, s.index}
}

// verify reads everything that a mount of the source would show. The error is
// cas.ErrCorrupt when it is not the layer d.
func (s source) verify(ctx context.Context, d cas.Digest, m *meter) error {
	if s.derived != nil {
		return verifyDir(ctx, s.derived, m)
	}
	if err := verifyTar(ctx, s.tar, d, m); err != nil {
		return err
	}
	return verifyIndex(ctx, s.index, d)
}

func verifyIndex(ctx context.Context, index *os.File, d cas.Digest) error {
	err := erofs.Verify(ctx, index, sumOf(d))
	if errors.Is(err, erofs.ErrDamaged) && mutant.On("noverifyindex") {
		return nil
	}
	if errors.Is(err, erofs.ErrDamaged) {
		return fmt.Errorf("index of layer %s: %w: %w", d, cas.ErrCorrupt, err)
	}
	return readError(index, err)
}

// readSize is how much of a tar is hashed at once, in bytes.
const readSize = 1 << 20

func verifyTar(ctx context.Context, tar *os.File, d cas.Digest, m *meter) error {
	unix.Fadvise(int(tar.Fd()), 0, 0, unix.FADV_SEQUENTIAL) // a hint
	h := sha256.New()
	buf := make([]byte, readSize)
	for offset := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := tar.ReadAt(buf, offset)
		h.Write(buf[:n])
		offset += int64(n)
		m.add(int64(n))
		if err == io.EOF {
			break
		}
		if err != nil {
			return readError(tar, err)
		}
	}
	// The mount has a cache of its own. A hint: who reads the tar elsewhere
	// reads it again.
	unix.Fadvise(int(tar.Fd()), 0, 0, unix.FADV_DONTNEED)
	if [sha256.Size]byte(h.Sum(nil)) != sumOf(d) && !mutant.On("noverifytar") {
		return fmt.Errorf("layer %s has other content: %w", d, cas.ErrCorrupt)
	}
	return nil
}
