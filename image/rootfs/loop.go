package rootfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// loopTries bounds how often the next free loop device turns out to be taken by
// somebody else.
const loopTries = 64

// mountLoop mounts through two loop devices, which go with the mount.
func mountLoop(s source, directIO bool) (*os.File, error) {
	index, err := attachLoop(s.index, directIO)
	if err != nil {
		return nil, err
	}
	// The mount holds the devices open from then on: they detach themselves
	// (LO_FLAGS_AUTOCLEAR) when the last one closes.
	defer index.Close()
	tar, err := attachLoop(s.tar, directIO)
	if err != nil {
		return nil, err
	}
	defer tar.Close()
	return mountErofs(fdPath(index), fdPath(tar), false)
}

// attachLoop gives the file a read-only loop device, which is detached when the
// last one closes it.
func attachLoop(f *os.File, directIO bool) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for range loopTries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("get free loop device: %w", err)
		}
		device, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDONLY, 0)
		if err != nil {
			return nil, err
		}
		err = configureLoop(device, f, directIO)
		if err == nil {
			return device, nil
		}
		device.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("attach loop device %d: %w", n, err)
		}
	}
	return nil, fmt.Errorf("attach loop device: taken by others %d times: %w", loopTries, unix.EBUSY)
}

// configureLoop makes the device show the file in one step (Linux 5.8), so that
// no half-made device is left by a kill.
func configureLoop(device, f *os.File, directIO bool) error {
	config := &unix.LoopConfig{Fd: uint32(f.Fd()), Size: 512}
	config.Info.Flags = unix.LO_FLAGS_READ_ONLY | unix.LO_FLAGS_AUTOCLEAR
	copy(config.Info.File_name[:len(config.Info.File_name)-1], f.Name())
	if directIO {
		config.Info.Flags |= unix.LO_FLAGS_DIRECT_IO
	}
	return unix.IoctlLoopConfigure(int(device.Fd()), config)
}
