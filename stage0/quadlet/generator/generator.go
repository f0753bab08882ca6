// Package generator is the side of quadlet that touches the host: it finds and
// reads the files, and writes the units into a folder of systemd.
//
// It runs early at boot and whenever systemd reloads, and nothing may make it
// wait: it takes no lock, speaks to nobody, opens nothing that is not a regular
// file, and bounds whatever it reads. A file that others than root could have
// written is refused. What is wrong with one file keeps no other from its unit.
package generator

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rkt/stage0/quadlet"
)

// Bounds on what is looked at.
const (
	maxDepth   = 8
	maxFolders = 1000
	maxFiles   = 10000
)

// Folders are where files are looked for: those of rkt, then those that the
// settings name. A file in an earlier one hides its namesakes in later ones.
func Folders(settings string) ([]string, []*quadlet.Error) {
	dirs := []string{"/etc/rkt/quadlet", "/run/rkt/quadlet", "/usr/lib/rkt/quadlet"}
	text, err := readRegular(settings, os.Geteuid())
	if errors.Is(err, fs.ErrNotExist) {
		return dirs, nil
	}
	if err != nil {
		return dirs, []*quadlet.Error{{Path: settings, Message: err.Error()}}
	}
	more, errs := quadlet.ParseSettings(settings, text)
	return append(dirs, more...), errs
}

// Load reads the files in the folders, which are given in the order of their
// precedence, and in the folders below them. A folder that does not exist is
// empty. What cannot be read is an error each and hides what it would have
// hidden.
func Load(dirs []string) ([]quadlet.Source, []*quadlet.Error) {
	l := &loader{uid: os.Geteuid(), seen: make(map[string]bool), files: make(map[string]string), dropIns: make(map[string][]string)}
	for _, dir := range dirs {
		l.walk(dir, 0)
	}
	var sources []quadlet.Source
	for _, name := range l.names {
		if s, ok := l.source(name, l.files[name]); ok {
			sources = append(sources, s)
		}
	}
	return sources, l.errs
}

// loader is one run of Load.
type loader struct {
	uid     int // whose files are trusted beside root's
	seen    map[string]bool
	files   map[string]string // name -> path
	names   []string
	dropIns map[string][]string // name of a folder -> its places, first wins
	errs    []*quadlet.Error
}

func (l *loader) fail(path string, err error) {
	var e *quadlet.Error
	if errors.As(err, &e) {
		l.errs = append(l.errs, e)
		return
	}
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	l.errs = append(l.errs, &quadlet.Error{Path: path, Message: err.Error()})
}

// walk notes the files in a folder and below it. Links are followed, as Quadlet
// does; a folder is entered once, whatever leads to it.
func (l *loader) walk(dir string, depth int) {
	real, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		err = checkFolder(real, l.uid)
	}
	if err != nil {
		l.fail(dir, err)
		return
	}
	if l.seen[real] || depth > maxDepth {
		return
	}
	if len(l.seen) == maxFolders {
		l.fail(dir, fmt.Errorf("there are more than %d folders", maxFolders))
		return
	}
	l.seen[real] = true
	entries, err := readNames(real)
	if err != nil {
		l.fail(dir, err)
		return
	}
	for _, name := range entries {
		l.note(filepath.Join(dir, name), name, depth)
	}
}

// readNames are the names in a folder, sorted.
func readNames(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxFiles + 1)
	if len(names) > maxFiles {
		return nil, fmt.Errorf("the folder has more than %d files", maxFiles)
	}
	if len(names) == 0 {
		return nil, nil // the error says that this is the end
	}
	slices.Sort(names)
	return names, err
}

// note decides what an entry of a folder is.
func (l *loader) note(path, name string, depth int) {
	if strings.HasPrefix(name, ".") {
		return
	}
	if _, ok := quadlet.KindOf(name); ok {
		if _, hidden := l.files[name]; hidden {
			return
		}
		if len(l.names) == maxFiles {
			l.fail(path, fmt.Errorf("there are more than %d files", maxFiles))
			return
		}
		l.files[name] = path
		l.names = append(l.names, name)
		return
	}
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return
	}
	if strings.HasSuffix(name, ".d") {
		l.dropIns[name] = append(l.dropIns[name], path)
		return
	}
	l.walk(path, depth+1)
}

// source reads a file with its drop-ins. A file that is empty or /dev/null hides
// its namesakes and is none itself.
func (l *loader) source(name, path string) (quadlet.Source, bool) {
	s := quadlet.Source{Name: name, Path: path, Attached: make(map[string]quadlet.Attached)}
	if target, err := os.Readlink(path); err == nil && target == os.DevNull {
		return s, false
	}
	text, err := readRegular(path, l.uid)
	if err != nil {
		l.fail(path, err)
		return s, false
	}
	if len(text) == 0 {
		return s, false
	}
	if s.File, err = quadlet.Parse(path, text); err != nil {
		l.fail(path, err)
		return s, false
	}
	for _, conf := range l.confs(name) {
		text, err := readRegular(conf, l.uid)
		if err == nil {
			var f *quadlet.File
			if f, err = quadlet.Parse(conf, text); err == nil {
				s.File.Merge(f)
			}
		}
		if err != nil {
			l.fail(conf, err)
			return s, false
		}
	}
	for _, path := range quadlet.Attachments(s) {
		text, err := readRegular(path, l.uid)
		s.Attached[path] = quadlet.Attached{Text: text, Err: err}
	}
	return s, true
}

// confs are the drop-ins of a file in the order in which they are merged. One
// hides its namesake in a folder that is about more files, and in a folder of
// the same name that comes later.
func (l *loader) confs(name string) []string {
	byName := make(map[string]string)
	for _, folder := range quadlet.DropInFolders(name) {
		for _, place := range slices.Backward(l.dropIns[folder]) {
			if err := checkFolder(place, l.uid); err != nil {
				l.fail(place, err)
				continue
			}
			names, err := readNames(place)
			if err != nil {
				l.fail(place, err)
			}
			for _, n := range names {
				if strings.HasSuffix(n, ".conf") && !strings.HasPrefix(n, ".") {
					byName[n] = filepath.Join(place, n)
				}
			}
		}
	}
	var names []string
	for n := range byName {
		names = append(names, n)
	}
	slices.Sort(names)
	var paths []string
	for _, n := range names {
		if target, err := os.Readlink(byName[n]); err == nil && target == os.DevNull {
			continue
		}
		paths = append(paths, byName[n])
	}
	return paths
}
