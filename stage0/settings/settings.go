// Package settings is what the administrator says about rkt itself: where things
// are (paths.d), what runs pods (stage1.d), and what holds where a command does
// not say (defaults.d). Each value knows the file that it comes from. It decides
// nothing about registries, credentials and trust. Begin with Load.
package settings

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"rkt/image/rootfs"
	"rkt/internal/confdir"
	"rkt/internal/strictjson"
)

// Value is a setting. The zero value is one that no file sets.
type Value struct {
	Text string `json:"value"`
	From string `json:"from"` // the file
}

// Or returns the setting, or that text when no file sets it.
func (v Value) Or(text string) string {
	if v.From == "" {
		return text
	}
	return v.Text
}

// Store is a further data folder, read only.
type Store struct {
	Path   string
	Verify rootfs.Tier // "" = as the others
	From   string
}

// Settings are those of all files.
type Settings struct {
	Data, Run  Value   // folders
	Stores     []Store // in the order of precedence of their files
	Stage1     Value   // the flavour of pods that ask for none
	Stage1Dirs []Value // folders with stage1s, before those that rkt comes with
	Net        Value   // the networks of pods that ask for none, as of --net
	PullPolicy Value   // when the registry is asked
	Verify     Value   // a rootfs.Tier
	Driver     Value   // of layers
}

// head is the head of every file: what it is, and of which version.
type head struct {
	Kind    string `json:"rktKind"`
	Version string `json:"rktVersion"`
}

func (h head) check(kind string) error {
	if h.Kind != kind || h.Version != "v1" {
		return fmt.Errorf("rktKind is %q and rktVersion %q, want %q and \"v1\"", h.Kind, h.Version, kind)
	}
	return nil
}

// pathsFile is the format of paths.d/*.json.
type pathsFile struct {
	head
	Data   string      `json:"data"`
	Run    string      `json:"run"`
	Stores []storeFile `json:"stores"`
}

type storeFile struct {
	Path   string `json:"path"`
	Verify string `json:"verify"`
}

// stage1File is the format of stage1.d/*.json.
type stage1File struct {
	head
	Name string   `json:"name"`
	Dirs []string `json:"dirs"`
}

// defaultsFile is the format of defaults.d/*.json.
type defaultsFile struct {
	head
	PullPolicy string `json:"pullPolicy"`
	Verify     string `json:"verify"`
	Net        string `json:"net"`
	Driver     string `json:"driver"`
}

// Load reads the files of the folders; the setting of a later folder wins over
// that of an earlier one. One that two files of a folder set, an unknown key, and
// a file or folder that others than root can write are errors, which name the
// file; the latter are *confdir.Refused.
func Load(folders confdir.Folders) (*Settings, error) {
	l := &loader{levels: map[string]int{}}
	for _, kind := range []struct {
		sub  string
		read func(path string, level int, b []byte) error
	}{{"paths.d", l.paths}, {"stage1.d", l.stage1}, {"defaults.d", l.defaults}} {
		err := folders.Each(kind.sub, func(path string, level int) error {
			b, err := confdir.Read(path, confdir.Public)
			if err != nil || len(b) == 0 {
				return err
			}
			if err := kind.read(path, level, b); err != nil {
				return fmt.Errorf("read %q: %w", path, err)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return &l.Settings, nil
}

// loader collects settings, files of the highest precedence first.
type loader struct {
	Settings
	levels map[string]int // of what is set, by key
}

// set gives a setting its text, unless a folder of higher precedence has done so.
func (l *loader) set(v *Value, key, text, path string, level int) error {
	if text == "" {
		return nil
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("%s has a control character in %.100q", key, text)
	}
	before, taken := l.levels[key]
	if taken && before == level {
		return fmt.Errorf("%q sets %s too", v.From, key)
	}
	if !taken {
		l.levels[key] = level
		*v = Value{Text: text, From: path}
	}
	return nil
}

func (l *loader) paths(path string, level int, b []byte) error {
	f, err := parsePaths(b)
	if err != nil {
		return err
	}
	for _, s := range f.Stores {
		l.Stores = append(l.Stores, Store{Path: s.Path, Verify: rootfs.Tier(s.Verify), From: path})
	}
	return errors.Join(l.set(&l.Data, "data", f.Data, path, level), l.set(&l.Run, "run", f.Run, path, level))
}

func (l *loader) stage1(path string, level int, b []byte) error {
	f, err := parseStage1(b)
	if err != nil {
		return err
	}
	for _, dir := range f.Dirs {
		l.Stage1Dirs = append(l.Stage1Dirs, Value{Text: dir, From: path})
	}
	return l.set(&l.Stage1, "name", f.Name, path, level)
}

func (l *loader) defaults(path string, level int, b []byte) error {
	f, err := parseDefaults(b)
	if err != nil {
		return err
	}
	return errors.Join(
		l.set(&l.PullPolicy, "pullPolicy", f.PullPolicy, path, level),
		l.set(&l.Verify, "verify", f.Verify, path, level),
		l.set(&l.Net, "net", f.Net, path, level),
		l.set(&l.Driver, "driver", f.Driver, path, level),
	)
}

func decode(b []byte, into any) error {
	return strictjson.Decode(b, into, strictjson.Options{MaxBytes: confdir.MaxFile})
}

func parsePaths(b []byte) (*pathsFile, error) {
	f := &pathsFile{}
	if err := decode(b, f); err != nil {
		return nil, err
	}
	if err := f.check("paths"); err != nil {
		return nil, err
	}
	errs := []error{checkPath("data", f.Data), checkPath("run", f.Run)}
	for _, s := range f.Stores {
		if s.Path == "" {
			errs = append(errs, errors.New("a store has no path"))
		}
		errs = append(errs, checkPath("path", s.Path), checkTier(s.Verify))
	}
	return f, errors.Join(errs...)
}

func parseStage1(b []byte) (*stage1File, error) {
	f := &stage1File{}
	if err := decode(b, f); err != nil {
		return nil, err
	}
	errs := []error{f.check("stage1")}
	if f.Name != "" && strings.Trim(f.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		errs = append(errs, fmt.Errorf("name %.100q is not that of a stage1", f.Name))
	}
	for _, dir := range f.Dirs {
		errs = append(errs, checkPath("dirs", dir))
	}
	return f, errors.Join(errs...)
}

func parseDefaults(b []byte) (*defaultsFile, error) {
	f := &defaultsFile{}
	if err := decode(b, f); err != nil {
		return nil, err
	}
	errs := []error{f.check("defaults"), checkTier(f.Verify)}
	for _, c := range []struct {
		key, text string
		known     []string
	}{
		{"pullPolicy", f.PullPolicy, []string{"new", "update", "never"}},
		{"driver", f.Driver, []string{rootfs.DriverErofs, rootfs.DriverLoop, rootfs.DriverDir}},
	} {
		if c.text != "" && !slices.Contains(c.known, c.text) {
			errs = append(errs, fmt.Errorf("%s is %.100q, known are %s", c.key, c.text, strings.Join(c.known, ", ")))
		}
	}
	return f, errors.Join(errs...)
}

func checkTier(text string) error {
	if text == "" {
		return nil
	}
	_, err := rootfs.ParseTier(text)
	return err
}

// checkPath refuses what is no clean absolute path; "" is none.
func checkPath(key, path string) error {
	if path != "" && (!filepath.IsAbs(path) || filepath.Clean(path) != path || strings.ContainsRune(path, 0)) {
		return fmt.Errorf("%s is %.100q, want a clean absolute path", key, path)
	}
	return nil
}
