// Package atomicfile writes files that a reader sees whole or not at all.
package atomicfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rkt/internal/mutant"
)

// tmpSuffix, behind a name that begins with a dot, marks a file that is being
// written, or that a killed process left.
const tmpSuffix = ".tmp"

// Write puts data into the file name of the folder dir by a rename, replacing
// one that is there. The mode is perm whatever the umask. With sync, the data
// and the name survive a power cut once Write has returned nil.
func Write(dir, name string, data []byte, perm fs.FileMode, sync bool) (err error) {
	tmp := filepath.Join(dir, "."+rand.Text()+tmpSuffix)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, perm)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp)
		}
	}()
	if err := fill(f, data, perm, sync); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		return err
	}
	if !sync {
		return nil
	}
	return SyncDir(dir)
}

// fill writes and closes f.
func fill(f *os.File, data []byte, perm fs.FileMode, sync bool) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Chmod(perm)
	}
	if err == nil && sync && !mutant.On("norecordfsync") {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// RemoveTemporary removes what killed writers left in a folder. The caller makes
// sure that nobody is writing there.
func RemoveTemporary(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if n := e.Name(); n[0] == '.' && filepath.Ext(n) == tmpSuffix {
			errs = append(errs, os.Remove(filepath.Join(dir, n)))
		}
	}
	return errors.Join(errs...)
}

// SyncDir makes the names in a folder survive a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if mutant.On("nodirfsync") {
		return nil
	}
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync folder %q: %w", dir, err)
	}
	return nil
}
