// Package safepath opens and removes files below a folder that somebody else
// may have filled: no symbolic link, "..", mount point or magic link in it
// leads the caller anywhere else. It needs openat2(2), Linux 5.6.
package safepath

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// ErrMount reports a mount point where none should be.
var ErrMount = errors.New("is a mount point")

// maxTries bounds how often a walk is begun again because a rename elsewhere
// made it uncertain (EAGAIN, see openat2(2)): somebody may rename for ever.
const maxTries = 1000

// OpenInRoot opens path as a process would whose root folder is root: absolute
// links start there and ".." does not leave it. Magic links are refused.
func OpenInRoot(root *os.File, path string, flags int, mode os.FileMode) (*os.File, error) {
	return open(root, path, flags, mode, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
}

// OpenBeneath opens path below dir. Any symbolic link, and a ".." that leaves
// dir, is an error.
func OpenBeneath(dir *os.File, path string, flags int, mode os.FileMode) (*os.File, error) {
	return open(dir, path, flags, mode, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS)
}

func open(dir *os.File, path string, flags int, mode os.FileMode, resolve uint64) (*os.File, error) {
	how := &unix.OpenHow{Flags: uint64(flags) | unix.O_CLOEXEC, Resolve: resolve}
	if flags&unix.O_CREAT != 0 || flags&unix.O_TMPFILE == unix.O_TMPFILE {
		how.Mode = uint64(mode.Perm())
	}
	full := filepath.Join(dir.Name(), path)
	defer runtime.KeepAlive(dir)
	for try := 0; ; try++ {
		fd, err := unix.Openat2(int(dir.Fd()), path, how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), full), nil
		case err == unix.EINTR, err == unix.EAGAIN && try < maxTries:
			continue
		}
		return nil, &os.PathError{Op: "open", Path: full, Err: err}
	}
}

// PrivateDir makes sure that path is a folder of the caller's that nobody else
// may enter, making it (mode 0700 whatever the umask) if it is missing. Its
// parent must exist. One that is there is tightened if it is the caller's and
// refused else.
func PrivateDir(path string) error {
	err := os.Mkdir(path, 0o700)
	if err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	f, err := os.OpenFile(path, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat %q: %w", path, err)
	}
	if int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("folder %q belongs to the user %d", path, st.Uid)
	}
	if st.Mode&0o7777 != 0o700 {
		return f.Chmod(0o700)
	}
	return nil
}
