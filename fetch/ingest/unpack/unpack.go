// Package unpack lays the files of a layer out in a folder, in the form that
// overlayfs takes as a lower layer: for stores whose filesystem or kernel cannot
// mount the tar. What the layer is, package layer says, as for every other
// driver; this one only makes it, relative to file descriptors and in a folder
// that nobody else has, so that no name in the tar can lead elsewhere. Start
// with Tar.
package unpack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/fetch/ingest/tarball"
	"rkt/image/layer"
	"rkt/internal/safepath"
)

// factsFile is in dir for as long as Tar runs.
const factsFile = "facts"

// Tar makes the folder name in dir, which must not exist, and unpacks the layer
// tar into it. It needs the rights to make files of any owner and with any
// attribute. After an error the folder is incomplete.
func Tar(tar *os.File, dir *os.File, name string) (err error) {
	tree, err := read(tar, dir)
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(int(dir.Fd()), name, 0o700); err != nil {
		return fmt.Errorf("make folder %q: %w", name, err)
	}
	root, err := safepath.OpenBeneath(dir, name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	m := &maker{tar: tar, root: root, made: make([]string, len(tree.Inodes))}
	return m.folder(root, "", tree.Root)
}

// read finds out what the layer is.
func read(tar, dir *os.File) (_ *layer.Tree, err error) {
	info, err := tar.Stat()
	if err != nil {
		return nil, fmt.Errorf("stat tar: %w", err)
	}
	facts, err := safepath.OpenBeneath(dir, factsFile, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer facts.Close()
	if err := unix.Unlinkat(int(dir.Fd()), factsFile, 0); err != nil {
		return nil, fmt.Errorf("remove %q: %w", factsFile, err)
	}
	if err := tarball.ScanFile(tar, layer.NewWriter(facts)); err != nil {
		return nil, err
	}
	if _, err := facts.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return layer.Build(layer.NewReader(facts), uint64(info.Size()))
}

// maker makes the files of a tree.
type maker struct {
	tar  *os.File
	root *os.File
	made []string // where each inode that has more names was made, by number
}

// folder makes what is in the folder d, which is open as f, was made with a mode
// that lets us in, and has the path prefix. Then d gets its attributes.
func (m *maker) folder(f *os.File, prefix string, d *layer.Inode) error {
	for _, e := range d.Entries {
		if err := m.entry(f, prefix+e.Name, e); err != nil {
			return fmt.Errorf("unpack %.200q: %w", prefix+e.Name, err)
		}
	}
	if d.Opaque {
		// The mark of an overlay that is mounted with userxattr, as all of ours are;
		// the other one takes the rights of an administrator.
		if err := unix.Fsetxattr(int(f.Fd()), "user.overlay.opaque", []byte("y"), 0); err != nil {
			return fmt.Errorf("mark folder as opaque: %w", err)
		}
	}
	return attributes(f, d)
}

// entry makes one name in the folder dir. Its path is that of the name.
func (m *maker) entry(dir *os.File, path string, e layer.Entry) error {
	n, fd := e.Inode, int(dir.Fd())
	if first := m.made[n.Number]; first != "" {
		return m.link(first, dir, e.Name)
	}
	if n.Nlink > 1 && n.Kind != layer.Dir && n.Kind != layer.Whiteout {
		m.made[n.Number] = path
	}
	switch n.Kind {
	case layer.Dir:
		if err := unix.Mkdirat(fd, e.Name, 0o700); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
		f, err := safepath.OpenBeneath(dir, e.Name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return m.folder(f, path+"/", n)
	case layer.Regular:
		return m.file(dir, e.Name, n)
	case layer.Symlink:
		if err := unix.Symlinkat(n.Link, fd, e.Name); err != nil {
			return fmt.Errorf("make symlink: %w", err)
		}
		return attributesAt(dir, e.Name, n)
	case layer.Fifo:
		if err := unix.Mknodat(fd, e.Name, unix.S_IFIFO|0o600, 0); err != nil {
			return fmt.Errorf("make fifo: %w", err)
		}
		return attributesAt(dir, e.Name, n)
	case layer.Whiteout:
		if err := unix.Mknodat(fd, e.Name, unix.S_IFCHR, 0); err != nil {
			return fmt.Errorf("make whiteout: %w", err)
		}
		return nil
	}
	return fmt.Errorf("internal error: kind %d in a tree", n.Kind)
}

// link gives an inode that was made as path another name in dir.
func (m *maker) link(path string, dir *os.File, name string) error {
	parent, base := m.root, path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		f, err := safepath.OpenBeneath(m.root, path[:i], unix.O_DIRECTORY|unix.O_PATH, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		parent, base = f, path[i+1:]
	}
	if err := unix.Linkat(int(parent.Fd()), base, int(dir.Fd()), name, 0); err != nil {
		return fmt.Errorf("link to %.200q: %w", path, err)
	}
	return nil
}

func (m *maker) file(dir *os.File, name string, n *layer.Inode) (err error) {
	f, err := safepath.OpenBeneath(dir, name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, e := range n.Extents {
		if err := copyRange(f, m.tar, e); err != nil {
			return fmt.Errorf("copy data: %w", err)
		}
	}
	if err := f.Truncate(int64(n.Size)); err != nil {
		return err
	}
	return attributes(f, n)
}

// copyRange copies an extent of the tar into the file f, inside the kernel where
// it can.
func copyRange(f, tar *os.File, e layer.Extent) error {
	from, to := int64(e.Offset), int64(e.Logical)
	for left := int64(e.Length); left > 0; {
		n, err := unix.CopyFileRange(int(tar.Fd()), &from, int(f.Fd()), &to, int(min(left, 1<<30)), 0)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EXDEV || err == unix.EINVAL || err == unix.ENOSYS || err == unix.EOPNOTSUPP:
			_, err := io.Copy(io.NewOffsetWriter(f, to), io.NewSectionReader(tar, from, left))
			return err
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		left -= int64(n)
	}
	return nil
}

// attributes sets owner, extended attributes, mode and time of an open file, in
// this order: a new owner takes setuid bits and capabilities away.
func attributes(f *os.File, n *layer.Inode) error {
	fd := int(f.Fd())
	if err := unix.Fchown(fd, int(n.UID), int(n.GID)); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	for _, x := range n.Xattrs {
		if err := unix.Fsetxattr(fd, x.Name, x.Value, 0); err != nil {
			return fmt.Errorf("set attribute %.100q: %w", x.Name, err)
		}
	}
	if err := unix.Fchmod(fd, uint32(n.Mode)); err != nil {
		return fmt.Errorf("set mode: %w", err)
	}
	return setTime(fd, "", n, unix.AT_EMPTY_PATH)
}

// attributesAt sets owner, mode and time of what cannot be opened without effect.
// The kernel has no attributes of users there, and no mode of a symlink.
func attributesAt(dir *os.File, name string, n *layer.Inode) error {
	fd := int(dir.Fd())
	if err := unix.Fchownat(fd, name, int(n.UID), int(n.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set owner: %w", err)
	}
	if n.Kind != layer.Symlink {
		if err := unix.Fchmodat(fd, name, uint32(n.Mode), 0); err != nil {
			return fmt.Errorf("set mode: %w", err)
		}
	}
	return setTime(fd, name, n, unix.AT_SYMLINK_NOFOLLOW)
}

// setTime sets the time of the last change. A filesystem keeps what it can of it.
func setTime(fd int, name string, n *layer.Inode, flags int) error {
	at := unix.Timespec{Sec: n.Seconds, Nsec: int64(n.Nanos)}
	if err := unix.UtimesNanoAt(fd, name, []unix.Timespec{at, at}, flags); err != nil {
		return fmt.Errorf("set time: %w", err)
	}
	return nil
}
