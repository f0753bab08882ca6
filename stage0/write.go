package stage0

import (
	"fmt"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// podWriter writes into a directory that nobody else looks into yet: there is
// nothing to replace, so there is nothing to rename. After the first error it
// does nothing. What it makes has the given modes whatever the umask is.
type podWriter struct {
	dir string
	err error
}

// folder makes a folder.
func (w *podWriter) folder(name string, mode uint32, uid, gid int) {
	if w.err != nil {
		return
	}
	path := filepath.Join(w.dir, name)
	if err := unix.Mkdir(path, mode&0o777); err != nil {
		w.fail("make folder", path, err)
		return
	}
	if uid != 0 || gid != 0 {
		if err := unix.Lchown(path, uid, gid); err != nil {
			w.fail("change owner of", path, err)
			return
		}
	}
	if err := unix.Fchmodat(unix.AT_FDCWD, path, mode, 0); err != nil {
		w.fail("change mode of", path, err)
	}
}

// json writes a value.
func (w *podWriter) json(name string, v any) {
	if w.err != nil {
		return
	}
	b, err := contract.Encode(v)
	if err != nil {
		w.err = fmt.Errorf("encode %s: %w", name, err)
		return
	}
	w.file(name, b)
}

// spec writes the config.json of an app.
func (w *podWriter) spec(name string, s *specs.Spec) {
	if w.err != nil {
		return
	}
	b, err := contract.EncodeSpec(s)
	if err != nil {
		w.err = fmt.Errorf("encode %s: %w", name, err)
		return
	}
	w.file(name, b)
}

// file writes bytes that only root reads.
func (w *podWriter) file(name string, b []byte) { w.public(name, b, 0o600) }

// public is file with another mode.
func (w *podWriter) public(name string, b []byte, mode uint32) {
	if w.err != nil {
		return
	}
	path := filepath.Join(w.dir, name)
	if err := writeNew(path, b, mode); err != nil {
		w.fail("write", path, err)
	}
}

func (w *podWriter) fail(op, path string, err error) {
	w.err = &os.PathError{Op: op, Path: path, Err: err}
}

// writeNew creates a file or replaces the bytes of one that an earlier attempt
// left. It goes around os.WriteFile, which would register the file with the
// runtime's poller.
func writeNew(path string, b []byte, mode uint32) (err error) {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_CLOEXEC, mode)
	if err != nil {
		return err
	}
	defer func() {
		if e := unix.Close(fd); err == nil {
			err = e
		}
	}()
	if err := unix.Fchmod(fd, mode); err != nil { // whatever the umask
		return err
	}
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
	return nil
}
