package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
)

// hostFile is a file of the host that the part with the network needs.
type hostFile struct {
	name string   // in the new root
	from []string // on the host; the first that is there
}

// maxHostFile bounds a copied file in bytes.
const maxHostFile = 4 << 20

var nameFiles = []hostFile{
	{"etc/resolv.conf", []string{"/etc/resolv.conf"}},
	{"etc/hosts", []string{"/etc/hosts"}},
	{"etc/nsswitch.conf", []string{"/etc/nsswitch.conf"}},
	{"etc/ssl/certs/ca-certificates.crt", []string{
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem",
	}},
}

// certificateFolders are read where there is no file with all of them.
var certificateFolders = []string{"/etc/ssl/certs", "/etc/pki/tls/certs"}

// enterRoot makes a small filesystem the root and leaves the host's behind. It
// holds copies, so that no inode of the host can be reached from it.
func enterRoot(o Options) error {
	if o.How == wire.HowPlain {
		return errNotStarted
	}
	files := map[string][]byte{}
	if o.Role == wire.AskRegistries {
		files = copies()
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	root, err := newRoot(files)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	// On a folder that nothing of this process is needed of any more.
	if err := unix.MoveMount(root, "", unix.AT_FDCWD, "/proc", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach new root: %w", err)
	}
	if err := unix.Fchdir(root); err != nil {
		return fmt.Errorf("enter new root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	// The old root lies on top of the new one now.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the old root: %w", err)
	}
	return unix.Chdir("/")
}

// newRoot makes a read-only filesystem with the files, attached nowhere yet.
func newRoot(files map[string][]byte) (fd int, err error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	for key, value := range map[string]string{"size": "16m", "nr_inodes": "64", "mode": "0755"} {
		if err := unix.FsconfigSetString(fs, key, value); err != nil {
			return -1, fmt.Errorf("fsconfig %s: %w", key, err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("fsconfig: %w", err)
	}
	root, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("fsmount: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(root)
		}
	}()
	for name, data := range files {
		if err := writeFile(root, name, data); err != nil {
			return -1, fmt.Errorf("write %s: %w", name, err)
		}
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	if err := unix.MountSetattr(root, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		return -1, fmt.Errorf("mount_setattr: %w", err)
	}
	return root, nil
}

// writeFile makes a file with its folders below root.
func writeFile(root int, name string, data []byte) error {
	for i, c := range name {
		if c != '/' {
			continue
		}
		if err := unix.Mkdirat(root, name[:i], 0o755); err != nil && err != unix.EEXIST {
			return err
		}
	}
	fd, err := unix.Openat(root, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o444)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// copies reads the files that the new root gets. One that cannot be read is not
// there; what needs it will say so.
func copies() map[string][]byte {
	files := map[string][]byte{}
	for _, h := range nameFiles {
		for _, from := range h.from {
			if b, err := read(from); err == nil {
				files[h.name] = b
				break
			}
		}
	}
	const bundle = "etc/ssl/certs/ca-certificates.crt"
	if files[bundle] == nil {
		files[bundle] = certificates()
	}
	return files
}

// certificates joins the files of the folders of certificates.
func certificates() []byte {
	var all []byte
	for _, dir := range certificateFolders {
		names, _ := filepath.Glob(dir + "/*")
		slices.Sort(names)
		for _, name := range names {
			b, err := read(name)
			if err == nil && strings.Contains(string(b), "-----BEGIN CERTIFICATE-----") && len(all)+len(b) < maxHostFile {
				all = append(append(all, b...), '\n')
			}
		}
	}
	return all
}

func read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxHostFile))
}
