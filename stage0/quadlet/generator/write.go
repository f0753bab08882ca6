package generator

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rkt/stage0/quadlet"
)

// Write puts the units and the links into a folder of systemd. Each appears
// whole. One that is there already, by another generator, stays and is an error.
func Write(dir string, r quadlet.Result) []*quadlet.Error {
	var errs []*quadlet.Error
	fail := func(source string, err error) {
		if err != nil {
			errs = append(errs, &quadlet.Error{Path: source, Message: err.Error()})
		}
	}
	for _, u := range r.Units {
		fail(u.Source, writeNew(dir, u.Name, []byte(u.Text)))
	}
	for _, l := range r.Links {
		fail(l.Source, linkNew(dir, l))
	}
	return errs
}

// writeNew makes a file by a rename that replaces nothing.
func writeNew(dir, name string, data []byte) error {
	tmp := filepath.Join(dir, "."+rand.Text()+".tmp")
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return fmt.Errorf("write unit: %w", err)
	}
	err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, filepath.Join(dir, name), unix.RENAME_NOREPLACE)
	if err == nil {
		return nil
	}
	os.Remove(tmp)
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("another generator has made the unit %s; is podman's at work on the same file?", name)
	}
	return fmt.Errorf("write unit %s: %w", name, err)
}

// linkNew makes a link, and the folder that it is in.
func linkNew(dir string, l quadlet.Link) error {
	path := filepath.Join(dir, l.Name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make folder for a link: %w", err)
	}
	err := os.Symlink(l.Target, path)
	if errors.Is(err, os.ErrExist) {
		if there, _ := os.Readlink(path); there == l.Target {
			return nil
		}
		return fmt.Errorf("another generator has made %s", l.Name)
	}
	return err
}
