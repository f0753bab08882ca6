// Package sealed executes a program of rkt so that nobody can open it for
// writing by way of the processes that run it, not even root: /proc/PID/exe
// leads to the file through a read-only mount that is in no namespace
// (CVE-2019-5736). Nothing is copied, and the page cache is shared.
package sealed

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Exec replaces this process by the program at path, sealed. What is on a
// read-only mount already, such as /proc/self/exe of a sealed program, is
// executed from there. So is a script, as the program that runs is then its
// interpreter. Exec returns only on an error.
func Exec(path string, argv, env []string) error {
	readonly, err := isReadonly(path)
	if err != nil {
		return err
	}
	script, err := isScript(path)
	if err != nil {
		return err
	}
	if readonly || script {
		return pathError("exec", path, unix.Exec(path, argv, env))
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return pathError("open_tree", path, err)
	}
	defer unix.Close(fd)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return pathError("mount_setattr", path, err)
	}
	return pathError("exec", path, unix.Exec("/proc/self/fd/"+strconv.Itoa(fd), argv, env))
}

// Ensure executes this program again, sealed, unless it is already. It must be
// called before anything of the process is worth keeping. The caller's argv and
// environment stay.
func Ensure() error {
	readonly, err := isReadonly("/proc/self/exe")
	if err != nil || readonly {
		return err
	}
	err = Exec("/proc/self/exe", os.Args, os.Environ())
	return fmt.Errorf("seal the program: %w", err)
}

// isReadonly says whether path is on a read-only mount.
func isReadonly(path string) (bool, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return false, pathError("statfs", path, err)
	}
	return fs.Flags&unix.ST_RDONLY != 0, nil
}

// isScript says whether the program at path begins with #!.
func isScript(path string) (bool, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, pathError("open", path, err)
	}
	defer unix.Close(fd)
	var start [2]byte
	n, err := unix.Pread(fd, start[:], 0)
	if err != nil {
		return false, pathError("read", path, err)
	}
	return n == 2 && string(start[:]) == "#!", nil
}

func pathError(op, path string, err error) error {
	return &os.PathError{Op: op, Path: path, Err: err}
}
