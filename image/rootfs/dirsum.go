package rootfs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/internal/mutant"
	"rkt/internal/safepath"
)

// A folder of the driver "dir" has the unpacked files and their sum.
const (
	treeDir = "root"
	sumFile = "sum"
)

// verifyDir sums an unpacked layer again. The error is cas.ErrCorrupt when the
// sum is another than it was.
func verifyDir(ctx context.Context, folder *os.File, m *meter) error {
	f, err := safepath.OpenBeneath(folder, sumFile, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("%w: %w", cas.ErrCorrupt, err)
	}
	defer f.Close()
	want, err := io.ReadAll(io.LimitReader(f, 2*sha256.Size+1))
	if err != nil {
		return err
	}
	got, err := sumTree(ctx, folder, m)
	if err != nil {
		return err
	}
	if got != string(want) && !mutant.On("noverifydir") {
		return fmt.Errorf("unpacked layer %q has other content: %w", folder.Name(), cas.ErrCorrupt)
	}
	return nil
}

// sumTree returns a digest of everything that the files in treeDir show, but
// for their times: a filesystem may keep those less precisely, and reading
// changes some.
func sumTree(ctx context.Context, folder *os.File, m *meter) (string, error) {
	root, err := safepath.OpenBeneath(folder, treeDir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return "", err
	}
	defer root.Close()
	w := &treeSum{ctx: ctx, meter: m, sum: sha256.New(), buf: make([]byte, readSize), links: map[uint64]string{}}
	if err := w.add(root, "."); err != nil {
		return "", fmt.Errorf("sum unpacked layer: %w", err)
	}
	return hex.EncodeToString(w.sum.Sum(nil)), nil
}

type treeSum struct {
	ctx   context.Context
	meter *meter
	sum   hash.Hash
	buf   []byte
	links map[uint64]string // first name of what has several, by inode
}

// line adds fields that cannot be mistaken for others.
func (w *treeSum) line(fields ...any) {
	for _, f := range fields {
		fmt.Fprintf(w.sum, "%q ", fmt.Sprint(f))
	}
	w.sum.Write([]byte{'\n'})
}

// add adds an open file of any kind, and what is below it.
func (w *treeSum) add(f *os.File, path string) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if first, ok := w.links[st.Ino]; ok {
		w.line(path, "link", first)
		return nil
	}
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		w.links[st.Ino] = path
	}
	w.line(path, st.Mode, st.Uid, st.Gid, st.Rdev)
	if err := w.xattrs(f); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return w.children(f, path)
	case unix.S_IFREG:
		return w.content(f, st.Size)
	case unix.S_IFLNK:
		n, err := unix.Readlinkat(int(f.Fd()), "", w.buf)
		if err != nil {
			return fmt.Errorf("read link %q: %w", path, err)
		}
		w.line(string(w.buf[:n]))
	}
	return nil
}

func (w *treeSum) xattrs(f *os.File) error {
	path := fdPath(f)
	n, err := unix.Listxattr(path, w.buf)
	if err != nil {
		return fmt.Errorf("list extended attributes: %w", err)
	}
	names := strings.Split(string(w.buf[:n]), "\x00")
	slices.Sort(names)
	for _, name := range names {
		if name == "" || name == "security.selinux" {
			continue // the host's policy labels files as it likes
		}
		n, err := unix.Getxattr(path, name, w.buf)
		if err != nil {
			return fmt.Errorf("get extended attribute %q: %w", name, err)
		}
		w.line(name, string(w.buf[:n]))
	}
	return nil
}

func (w *treeSum) content(f *os.File, size int64) error {
	// f was opened by O_PATH.
	r, err := os.Open(fdPath(f))
	if err != nil {
		return err
	}
	defer r.Close()
	w.line(size)
	w.meter.add(size)
	n, err := io.CopyBuffer(struct{ io.Writer }{w.sum}, struct{ io.Reader }{r}, w.buf)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (w *treeSum) children(dir *os.File, path string) error {
	list, err := os.Open(fdPath(dir))
	if err != nil {
		return err
	}
	names, err := list.Readdirnames(-1)
	list.Close()
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		child, err := safepath.OpenBeneath(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		err = w.add(child, path+"/"+name)
		child.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
