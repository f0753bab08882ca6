// Package volume keeps volumes that outlive pods: folders below the data folder,
// by name. A pod mounts one as any other folder of the host.
//
// A volume appears whole, by a rename, and goes by a rename. What rkt remembers
// of it lies beside it and matters to nobody but those who look.
package volume

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rkt/internal/atomicfile"
	"rkt/internal/safepath"
	"rkt/internal/strictjson"
)

// Dir is the name of the folder of the volumes in the data folder.
const Dir = "volumes"

const (
	recordsDir = ".records"
	removedDir = ".removed-"
	maxName    = 128
	maxRecord  = 64 << 10
)

// ErrNotFound reports a volume that is not there.
var ErrNotFound = errors.New("there is no such volume")

// Volume is a volume as List shows it.
type Volume struct {
	Name    string            `json:"name"`
	Path    string            `json:"path"`
	Created time.Time         `json:"created,omitzero"`
	Labels  map[string]string `json:"labels,omitempty"`
}

// Options are those of Create.
type Options struct {
	UID, GID uint32
	Mode     uint32 // 0 = 0755
	Labels   map[string]string
}

// Store is the volumes of a data folder, which exists.
type Store struct{ dir string }

// Open returns the volumes of a data folder.
func Open(dataDir string) *Store { return &Store{dir: filepath.Join(dataDir, Dir)} }

// Path is where the volume of that name is, or would be.
func (s *Store) Path(name string) string { return filepath.Join(s.dir, name) }

// ValidName checks the name of a volume: letters, digits, dots, dashes and
// underscores, beginning with a letter or digit, at most 128.
func ValidName(name string) error {
	ok := name != "" && len(name) <= maxName
	for i, c := range []byte(name) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		ok = ok && (letter || i > 0 && strings.IndexByte("._-", c) >= 0)
	}
	if !ok {
		return fmt.Errorf("volume name %.140q: want a letter or digit, then up to %d of these, dots, dashes and underscores", name, maxName-1)
	}
	return nil
}

// Create makes an empty volume, durably. One that is there stays as it is, and
// false is returned: its owner and mode are those of its data.
func (s *Store) Create(name string, o Options) (created bool, err error) {
	if err := ValidName(name); err != nil {
		return false, err
	}
	if _, err := os.Lstat(s.Path(name)); err == nil {
		return false, nil
	}
	records := filepath.Join(s.dir, recordsDir)
	for _, dir := range []string{s.dir, records} {
		if err := safepath.PrivateDir(dir); err != nil {
			return false, fmt.Errorf("make folder of volumes: %w", err)
		}
	}
	record, err := json.Marshal(Volume{Name: name, Created: time.Now().UTC(), Labels: o.Labels})
	if err != nil {
		return false, fmt.Errorf("encode volume: %w", err)
	}
	if err := atomicfile.Write(records, name+".json", record, 0o600, true); err != nil {
		return false, fmt.Errorf("write record of volume: %w", err)
	}
	return s.makeFolder(name, o)
}

// makeFolder makes the folder of a volume under another name, then gives it its
// own.
func (s *Store) makeFolder(name string, o Options) (created bool, err error) {
	tmp := filepath.Join(s.dir, "."+rand.Text()+".tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return false, err
	}
	defer func() {
		if !created {
			os.Remove(tmp)
		}
	}()
	if err := os.Lchown(tmp, int(o.UID), int(o.GID)); err != nil {
		return false, err
	}
	if o.Mode == 0 {
		o.Mode = 0o755
	}
	if err := unix.Chmod(tmp, o.Mode); err != nil {
		return false, &os.PathError{Op: "chmod", Path: tmp, Err: err}
	}
	err = unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, s.Path(name), unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		return false, nil // somebody else has just made it
	}
	if err != nil {
		return false, &os.PathError{Op: "rename", Path: tmp, Err: err}
	}
	return true, atomicfile.SyncDir(s.dir)
}

// List returns the volumes by name. A record that cannot be read hides nothing.
func (s *Store) List() ([]Volume, error) {
	entries, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var volumes []Volume
	for _, e := range entries {
		if ValidName(e.Name()) != nil || !e.IsDir() {
			continue
		}
		v := Volume{Name: e.Name()}
		if b, err := os.ReadFile(filepath.Join(s.dir, recordsDir, v.Name+".json")); err == nil && len(b) <= maxRecord {
			if strictjson.Decode(b, &v, strictjson.Options{}) != nil || v.Name != e.Name() {
				v = Volume{Name: e.Name()}
			}
		}
		v.Path = s.Path(v.Name)
		volumes = append(volumes, v)
	}
	return volumes, nil
}

// Remove removes a volume with what is in it. The caller makes sure that nobody
// has it mounted. The error may be ErrNotFound. What a kill leaves behind is
// taken away by the next Remove.
func (s *Store) Remove(name string) error {
	if err := ValidName(name); err != nil {
		return err
	}
	dir, err := os.Open(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	err = os.Rename(s.Path(name), s.Path(removedDir+rand.Text()))
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	if err != nil {
		return err
	}
	os.Remove(filepath.Join(s.dir, recordsDir, name+".json")) // without its volume it means nothing
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range names {
		if strings.HasPrefix(n, removedDir) {
			errs = append(errs, safepath.RemoveAll(dir, n))
		}
	}
	return errors.Join(errs...)
}
