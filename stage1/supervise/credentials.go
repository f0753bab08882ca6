package supervise

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/compile"
	"rkt/stage1/contract"
)

// What systemd allows a service is one MiB of credentials.
const (
	maxCredentials     = 2 << 20
	maxCredentialFiles = 1024
)

// isCredentials says whether the mount is the one that takeUnit has added.
func (t *Task) isCredentials(m specs.Mount) bool {
	return t.Host.Unit != nil && m.Destination == contract.CredentialsPath
}

// openCredentials copies the credentials that the app gets into a ramfs of its
// own, as files of its user that nobody else can read, and returns that as a
// detached read-only mount. A ramfs is never swapped out, and it is gone with
// the last process of the app. The folder of the service manager itself could
// not be mounted: it is root's, and its kind knows no id maps.
func (t *Task) openCredentials() (b compile.Bind, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("copy credentials from %q: %w", t.Host.Unit.Credentials, err)
		}
	}()
	user := t.Spec.Process.User
	uid, ok := outside(t.Host.IDs, user.UID)
	gid, ok2 := outside(t.Host.IDs, user.GID)
	if !ok || !ok2 {
		return b, fmt.Errorf("user %d or group %d is not in the id range of the pod", user.UID, user.GID)
	}
	dir, err := os.OpenFile(t.Host.Unit.Credentials, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return b, err
	}
	defer dir.Close()
	names, err := chooseCredentials(dir, t.App.Credentials)
	if err != nil {
		return b, err
	}
	b = compile.Bind{Dir: true}
	if b.FD, err = newRAMFS(); err != nil {
		return b, err
	}
	if err = fillCredentials(b.FD, int(dir.Fd()), names, int(uid), int(gid)); err != nil {
		unix.Close(b.FD)
	}
	return b, err
}

// chooseCredentials are the names of the files that the list takes. One that is
// named and not there is an error.
func chooseCredentials(dir *os.File, list []string) ([]string, error) {
	there, err := dir.Readdirnames(maxCredentialFiles + 1)
	if err != nil && len(there) > 0 {
		return nil, err
	}
	if len(there) > maxCredentialFiles {
		return nil, fmt.Errorf("there are more than %d", maxCredentialFiles)
	}
	for _, name := range list {
		if name != contract.Every && !slices.Contains(there, name) {
			return nil, fmt.Errorf("there is no credential %q", name)
		}
	}
	return slices.DeleteFunc(there, func(name string) bool { return !takes(list, name) }), nil
}

// newRAMFS is a detached mount of an empty ramfs.
func newRAMFS() (int, error) {
	fs, err := unix.Fsopen("ramfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return none, fmt.Errorf("make ramfs: %w", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigSetString(fs, "source", "credentials"); err != nil {
		return none, fmt.Errorf("make ramfs: %w", err)
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return none, fmt.Errorf("make ramfs: %w", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return none, fmt.Errorf("make ramfs: %w", err)
	}
	return fd, nil
}

// fillCredentials copies the files names of the folder from into the folder to,
// and makes all of it the user's and the mount read-only.
func fillCredentials(to, from int, names []string, uid, gid int) error {
	left := maxCredentials
	for _, name := range names {
		b, err := readCredential(from, name, left)
		if err != nil {
			return fmt.Errorf("read %q: %w", name, err)
		}
		left -= len(b)
		if err := writeCredential(to, name, b, uid, gid); err != nil {
			return fmt.Errorf("write %q: %w", name, err)
		}
		for i := range b {
			b[i] = 0 // this process lives as long as the pod
		}
	}
	if err := unix.Fchownat(to, "", uid, gid, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if err := unix.Fchmodat(to, ".", 0o500, 0); err != nil {
		return err
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	return setAttributes(to, attr, none, 0)
}

func readCredential(dir int, name string, limit int) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.New("it is not a regular file")
	}
	if st.Size > int64(limit) {
		return nil, fmt.Errorf("with it the credentials are larger than %d bytes", maxCredentials)
	}
	b := make([]byte, st.Size)
	n := 0
	for n < len(b) {
		more, err := unix.Read(fd, b[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if more == 0 {
			break
		}
		n += more
	}
	return b[:n], nil
}

func writeCredential(dir int, name string, b []byte, uid, gid int) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o400)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	if err := unix.Fchown(fd, uid, gid); err != nil {
		return err
	}
	return unix.Fchmod(fd, 0o400)
}
