package safepath

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	// maxOpen is how deep RemoveAll descends with a descriptor per level. What
	// is deeper is moved up first: a pod can nest folders without limit.
	maxOpen = 64
	// batch is how many names of a folder are in memory at once.
	batch = 1024
)

// RemoveAll removes name in dir and everything below it. It follows no link and
// never enters a mount: a mount point is an ErrMount that names it. A nil error
// means that name is not there now. After an error, or a kill, calling it again
// goes on.
func RemoveAll(dir *os.File, name string) error {
	if name == "" || name == "." || name == ".." || filepath.Base(name) != name {
		return fmt.Errorf("remove %q: not the name of a file", name)
	}
	r := remover{}
	return r.remove(dir, name, 0)
}

// remover is one RemoveAll.
type remover struct {
	top   *os.File // the opened name, when it is a folder
	moved int      // how many folders were moved up to top
}

func (r *remover) remove(dir *os.File, name string, depth int) error {
	err := unlink(dir, name, 0)
	if !errors.Is(err, unix.EISDIR) {
		return err
	}
	if depth > maxOpen {
		return r.moveUp(dir, name)
	}
	sub, err := open(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0,
		unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_XDEV)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case errors.Is(err, unix.EXDEV):
		return mountError(dir, name)
	case err != nil:
		return err
	}
	defer sub.Close()
	if depth == 0 {
		r.top = sub
	}
	for {
		if err := r.empty(sub, depth); err != nil {
			return err
		}
		// A folder whose names moved while it was read, or into which others
		// were moved up, is not empty yet.
		if err := unlink(dir, name, unix.AT_REMOVEDIR); !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
	}
}

// empty removes what is in the folder d, as far as one reading of it shows.
func (r *remover) empty(d *os.File, depth int) error {
	if _, err := d.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for {
		names, err := d.Readdirnames(batch)
		if err != nil && err != io.EOF {
			return err
		}
		if len(names) == 0 {
			return nil
		}
		for _, name := range names {
			if err := r.remove(d, name, depth+1); err != nil {
				return err
			}
		}
	}
}

// moveUp moves the folder name of dir into the top one, to be removed there.
func (r *remover) moveUp(dir *os.File, name string) error {
	defer runtime.KeepAlive(dir)
	for {
		r.moved++
		to := ".deep." + strconv.Itoa(r.moved)
		err := unix.Renameat2(int(dir.Fd()), name, int(r.top.Fd()), to, unix.RENAME_NOREPLACE)
		switch err {
		case nil, unix.ENOENT:
			return nil
		case unix.EEXIST, unix.EINTR:
			continue
		case unix.EBUSY, unix.EXDEV:
			return mountError(dir, name)
		}
		return &os.PathError{Op: "move up", Path: filepath.Join(dir.Name(), name), Err: err}
	}
}

// unlink is unlinkat(2) of a name that may be gone already, be a mount point,
// or be marked immutable.
func unlink(dir *os.File, name string, flags int) error {
	defer runtime.KeepAlive(dir)
	fd := int(dir.Fd())
	err := retry(func() error { return unix.Unlinkat(fd, name, flags) })
	if err == unix.EPERM && makeMutable(dir, name) {
		err = retry(func() error { return unix.Unlinkat(fd, name, flags) })
	}
	switch err {
	case nil, unix.ENOENT:
		return nil
	case unix.EBUSY:
		return mountError(dir, name)
	}
	return &os.PathError{Op: "remove", Path: filepath.Join(dir.Name(), name), Err: err}
}

func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// makeMutable takes the immutable and append-only marks from the file name and
// from its folder dir, and reports whether there were any.
func makeMutable(dir *os.File, name string) bool {
	changed := clearMarks(dir)
	// Only files and folders have marks, and opening a device can do something.
	probe, err := open(dir, name, unix.O_PATH|unix.O_NOFOLLOW, 0, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_XDEV)
	if err != nil {
		return changed
	}
	defer probe.Close()
	var st unix.Stat_t
	if unix.Fstat(int(probe.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return changed
	}
	f, err := os.Open("/proc/self/fd/" + strconv.Itoa(int(probe.Fd())))
	if err != nil {
		return changed
	}
	defer f.Close()
	return clearMarks(f) || changed
}

func clearMarks(f *os.File) bool {
	const marks = unix.STATX_ATTR_IMMUTABLE | unix.STATX_ATTR_APPEND // the FS_*_FL bits have the same values
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil || flags&marks == 0 {
		return false
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags&^marks) == nil
}

func mountError(dir *os.File, name string) error {
	return fmt.Errorf("remove %q: %w", filepath.Join(dir.Name(), name), ErrMount)
}
