// Package confdir reads files of configuration that lie in folders of several
// precedences: the vendor's, the machine's, one named by the user. It decides
// which files count and whether they may be trusted; it does not know what is
// in them. Begin with Folders.Each.
package confdir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"rkt/internal/mutant"
)

// MaxFile bounds a configuration file in bytes; real ones have a few hundred.
const MaxFile = 1 << 20

// Folders are folders of configuration, each with the same sub-folders, in the
// order in which a later one takes precedence. "" is none.
type Folders []string

// Refused is a configuration file that may not be used as it is.
type Refused struct {
	Path    string
	Problem string
	Fix     string // the command that makes it usable; "" = none
}

func (e *Refused) Error() string { return fmt.Sprintf("refuse %q: %s", e.Path, e.Problem) }

// Hint tells the command that makes the file usable.
func (e *Refused) Hint() string { return e.Fix }

// Bits of a mode that a file must not have.
const (
	Secret fs.FileMode = 0o077 // nobody but the owner may read it
	Public fs.FileMode = 0o022 // everybody may read it, only the owner may write it
)

// Each calls load with the *.json files of the sub-folder, those of the folder
// with the highest precedence first; level tells the folders apart, the higher
// number winning. A file that a folder of higher precedence has under the same
// name is left out, so that an empty one masks it. Other names and folders are
// ignored; a folder that others than root can write is refused.
func (f Folders) Each(sub string, load func(path string, level int) error) error {
	var over []string
	for level, folder := range slices.Backward(f) {
		if folder == "" || slices.Contains(over, filepath.Join(folder, sub)) {
			continue
		}
		dir := filepath.Join(folder, sub)
		paths, err := list(dir, over)
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := load(path, level); err != nil {
				return err
			}
		}
		over = append(over, dir)
	}
	return nil
}

// list returns the paths of the files in dir that count, sorted, but for those
// that one of the folders over has.
func list(dir string, over []string) ([]string, error) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !Ours(info) {
		return nil, &Refused{dir, "it does not belong to root", "chown root:root " + dir}
	}
	if info.Mode().Perm()&Public != 0 {
		return nil, &Refused{dir, fmt.Sprintf("others can write it (mode %#o)", info.Mode().Perm()), "chmod go-w " + dir}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".json") || strings.HasPrefix(e.Name(), ".") || isIn(over, e.Name()) {
			continue
		}
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	return paths, nil
}

func isIn(dirs []string, name string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		_, err := os.Lstat(filepath.Join(dir, name))
		return err == nil
	})
}

// Read returns the bytes of the regular file at path that belongs to root, or
// to the user that rkt runs as, and has none of the forbidden mode bits. The
// file and not the name is judged: what is checked is what is read. The error
// of a file that may not be used is a *Refused.
func Read(path string, forbidden fs.FileMode) ([]byte, error) {
	f, info, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !Ours(info) {
		return nil, &Refused{path, "it does not belong to root", "chown root:root " + path}
	}
	if info.Mode().Perm()&forbidden != 0 && !mutant.On("readablesecret") {
		return nil, ModeRefused(path, info, forbidden)
	}
	return ReadBounded(f, path)
}

// ModeRefused names the chmod that takes the forbidden bits away.
func ModeRefused(path string, info fs.FileInfo, forbidden fs.FileMode) error {
	problem, fix := "others can write it", "chmod go-w "
	if forbidden == Secret {
		problem, fix = "others can read it and it holds a credential", "chmod 0600 "
	}
	return &Refused{path, fmt.Sprintf("%s (mode %#o)", problem, info.Mode().Perm()), fix + path}
}

// Open opens a regular file that is no symbolic link. It does not wait for the
// other end of a FIFO. The caller closes the file.
func Open(path string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, nil, &Refused{path, "it is a symbolic link", ""}
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &Refused{path, "it is not a regular file", ""}
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// ReadBounded reads a file of at most MaxFile bytes.
func ReadBounded(f *os.File, path string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, MaxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	if len(data) > MaxFile {
		return nil, &Refused{path, "it has more than 1 MiB", ""}
	}
	return data, nil
}

// Ours tells whether info is of a file that belongs to root or to the user
// that rkt runs as.
func Ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (st.Uid == 0 || int(st.Uid) == os.Geteuid())
}
