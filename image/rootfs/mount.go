package rootfs

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// source is what a layer is mounted from.
type source struct {
	tar           *os.File
	index         *os.File // for the erofs drivers
	derived, root *os.File // for the dir driver: the folder, and the files in it

	print string // the files' fingerprint of before they were verified
}

func (s source) Close() {
	for _, f := range []*os.File{s.tar, s.index, s.derived, s.root} {
		if f != nil {
			f.Close()
		}
	}
}

// attributes of every mount of a layer: it lends files, and nothing else.
const attributes = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV

// mount makes a mount of the layer that is attached nowhere; it goes when the
// file is closed before it is attached.
func mount(driver string, directIO bool, s source) (*os.File, error) {
	switch driver {
	case DriverErofs:
		return mountErofs(fdPath(s.index), fdPath(s.tar), directIO)
	case DriverLoop:
		return mountLoop(s, directIO)
	case DriverDir:
		return mountDir(s.root)
	}
	return nil, fmt.Errorf("internal error: driver %q", driver)
}

// fdPath names the open file itself: nobody can put another one in its place
// between the check and the mount, and the length of its path does not matter
// (the kernel takes 255 bytes).
func fdPath(f *os.File) string { return "/proc/self/fd/" + strconv.Itoa(int(f.Fd())) }

// mountErofs mounts an index with its tar as the second device.
func mountErofs(index, tar string, directIO bool) (*os.File, error) {
	fs, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open filesystem erofs: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetFlag(fs, "ro"); err != nil {
		return nil, configError(fs, "ro", err)
	}
	if err := unix.FsconfigSetString(fs, "source", index); err != nil {
		return nil, configError(fs, "source", err)
	}
	if err := unix.FsconfigSetString(fs, "device", tar); err != nil {
		return nil, configError(fs, "device", err)
	}
	if directIO {
		if err := unix.FsconfigSetFlag(fs, "directio"); err != nil {
			return nil, configError(fs, "directio", err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return nil, configError(fs, "create", err)
	}
	m, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attributes)
	if err != nil {
		return nil, configError(fs, "mount", err)
	}
	return os.NewFile(uintptr(m), "erofs"), nil
}

// configError adds what the kernel says about a filesystem that it refuses.
func configError(fs int, step string, err error) error {
	var said []string
	buf := make([]byte, 1024)
	for len(said) < 8 {
		n, readErr := unix.Read(fs, buf)
		if readErr != nil || n <= 0 {
			break
		}
		said = append(said, strings.TrimSpace(string(buf[:n])))
	}
	if len(said) == 0 {
		return fmt.Errorf("mount erofs: %s: %w", step, err)
	}
	return fmt.Errorf("mount erofs: %s: %w (%s)", step, err, strings.Join(said, "; "))
}

// mountDir clones the folder of an unpacked layer.
func mountDir(root *os.File) (_ *os.File, err error) {
	fd, err := unix.OpenTree(int(root.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, fmt.Errorf("clone folder of the layer: %w", err)
	}
	m := os.NewFile(uintptr(fd), root.Name())
	// The store may be on a shared mount: what happens there must not come here.
	attr := &unix.MountAttr{Attr_set: attributes, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, attr); err != nil {
		return nil, errors.Join(fmt.Errorf("make folder of the layer read-only: %w", err), m.Close())
	}
	return m, nil
}
