package registries

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxFile bounds a configuration file in bytes; real ones have a few hundred.
const maxFile = 1 << 20

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
	secret = 0o077 // nobody but the owner may read it
	public = 0o022 // everybody may read it, only the owner may write it
)

// readTrusted returns the bytes of the regular file at path that belongs to
// root, or to the user that rkt runs as, and has none of the forbidden mode
// bits. The file and not the name is judged: what is checked is what is read.
func readTrusted(path string, forbidden fs.FileMode) ([]byte, error) {
	f, info, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()

	if !ours(info) {
		return nil, &Refused{path, "it does not belong to root", "chown root:root " + path}
	}
	if info.Mode().Perm()&forbidden != 0 {
		return nil, modeRefused(path, info, forbidden)
	}
	return readBounded(f, path)
}

// modeRefused names the chmod that takes the forbidden bits away.
func modeRefused(path string, info fs.FileInfo, forbidden fs.FileMode) error {
	problem, fix := "others can write it", "chmod go-w "
	if forbidden == secret {
		problem, fix = "others can read it and it holds a credential", "chmod 0600 "
	}
	return &Refused{path, fmt.Sprintf("%s (mode %#o)", problem, info.Mode().Perm()), fix + path}
}

// open opens a regular file that is no symbolic link. It does not wait for the
// other end of a FIFO.
func open(path string) (*os.File, fs.FileInfo, error) {
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

func readBounded(f *os.File, path string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	if len(data) > maxFile {
		return nil, &Refused{path, "it has more than 1 MiB", ""}
	}
	return data, nil
}

// ours tells whether info is of a file that belongs to root or to the user
// that rkt runs as.
func ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && (st.Uid == 0 || int(st.Uid) == os.Geteuid())
}

// listJSON returns the paths of the *.json files in dir, sorted, that are not
// hidden by one of the same name in over. Other names and folders are ignored.
// A folder that is not there has none; one that others can write is refused.
func listJSON(dir, over string) ([]string, error) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !ours(info) {
		return nil, &Refused{dir, "it does not belong to root", "chown root:root " + dir}
	}
	if info.Mode().Perm()&public != 0 {
		return nil, &Refused{dir, fmt.Sprintf("others can write it (mode %#o)", info.Mode().Perm()), "chmod go-w " + dir}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".json") || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		if over != "" {
			if _, err := os.Lstat(filepath.Join(over, e.Name())); err == nil {
				continue
			}
		}
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	return paths, nil
}

// layered calls load with each file of sub in local and then in vendor. Files
// of vendor that local has under the same name are left out, so that an empty
// file there masks one of the vendor.
func (c Config) layered(sub string, load func(path string, local bool) error) error {
	local := ""
	if c.Local != "" {
		local = filepath.Join(c.Local, sub)
		if err := each(local, "", func(path string) error { return load(path, true) }); err != nil {
			return err
		}
	}
	if c.Vendor == "" || c.Vendor == c.Local {
		return nil
	}
	return each(filepath.Join(c.Vendor, sub), local, func(path string) error { return load(path, false) })
}

func each(dir, over string, load func(path string) error) error {
	paths, err := listJSON(dir, over)
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := load(path); err != nil {
			return err
		}
	}
	return nil
}
