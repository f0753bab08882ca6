package generator

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"rkt/stage0/quadlet"
)

// readRegular reads a small regular file that root or uid owns and nobody else
// can write. It never waits: not for the other end of a fifo, not for a device.
func readRegular(path string, uid int) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	if err := checkOwner(info, uid); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, quadlet.MaxFile+1))
	if err == nil && len(b) > quadlet.MaxFile {
		err = fmt.Errorf("it is larger than %d bytes", quadlet.MaxFile)
	}
	return b, err
}

// checkFolder refuses a folder in which others than root and uid could put files.
func checkFolder(path string, uid int) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return errors.New("it is not a folder")
	}
	return checkOwner(info, uid)
}

// checkOwner refuses what others than root and uid could have written.
func checkOwner(info os.FileInfo, uid int) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return errors.New("its owner is unknown")
	case st.Uid != 0 && int(st.Uid) != uid:
		return fmt.Errorf("it belongs to user %d, not to root", st.Uid)
	case info.Mode()&0o002 != 0:
		return errors.New("everybody can write it; chmod o-w")
	case info.Mode()&0o020 != 0 && st.Gid != 0:
		return fmt.Errorf("group %d can write it; chmod g-w", st.Gid)
	}
	return nil
}
