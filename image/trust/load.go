package trust

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"rkt/internal/atomicfile"
	"rkt/internal/escape"
	"rkt/internal/filelock"
	"rkt/internal/strictjson"
)

const (
	ruleSuffix = ".json"
	maxFile    = 64 << 10 // bytes of a file with a rule
	maxRules   = 10000    // of a folder
)

// Load reads the rules of the trust.d folders, vendor's first, the local one
// last: files *.json with one rule each, {"prefix": "quay.io", "action":
// "accept"}. In a later folder a file takes the place of that of the same name
// in the earlier ones, an empty one removing it, and a rule that of an earlier
// folder for the same prefix. A folder that does not exist has no rules.
// Anything that is not understood, or that others than root could write or
// replace, is an error: a policy is read whole or not at all.
func Load(dirs ...string) (*Policy, error) {
	rules := map[string]Rule{}
	for i, dir := range dirs {
		files, err := loadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("load trust policy: %w", err)
		}
		for prefix, r := range rules {
			if _, ok := files[filepath.Base(r.Path)]; ok && i > 0 {
				delete(rules, prefix)
			}
		}
		for _, r := range files {
			if r != nil {
				rules[r.Prefix] = *r
			}
		}
	}
	p := &Policy{rules: slices.Collect(maps.Values(rules)), dirs: slices.Clone(dirs)}
	sortRules(p.rules)
	return p, nil
}

// loadDir reads the files of a folder; an empty one is nil.
func loadDir(dir string) (map[string]*Rule, error) {
	d, err := openGuarded(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	if len(names) > maxRules {
		return nil, fmt.Errorf("folder %q has %d files, limit is %d", dir, len(names), maxRules)
	}
	slices.Sort(names)
	files := map[string]*Rule{}
	prefixes := map[string]string{}
	for _, name := range names {
		if filepath.Ext(name) != ruleSuffix || name[0] == '.' {
			continue
		}
		r, err := loadRule(d, name)
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", filepath.Join(dir, name), err)
		}
		files[name] = r
		if r == nil {
			continue
		}
		if other, ok := prefixes[r.Prefix]; ok {
			return nil, fmt.Errorf("folder %q has two rules for %q: %q and %q", dir, r.Prefix, other, name)
		}
		prefixes[r.Prefix] = name
	}
	return files, nil
}

// openGuarded opens a folder of rules that only root can change. So it must be
// with the folder above: whoever can write there replaces this one.
func openGuarded(dir string) (*os.File, error) {
	d, err := os.OpenFile(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	above, err := os.Open(filepath.Dir(filepath.Clean(dir)))
	if err == nil {
		err = errors.Join(guarded(d), guarded(above))
		above.Close()
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// guarded refuses a file or folder that others than root can change.
func guarded(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat %q: %w", f.Name(), err)
	}
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%q belongs to the user %d, want root", f.Name(), st.Uid)
	}
	if st.Mode&0o022 != 0 {
		return fmt.Errorf("%q can be written by others: mode %#o", f.Name(), st.Mode&0o7777)
	}
	return nil
}

func loadRule(d *os.File, name string) (*Rule, error) {
	b, err := readGuarded(d, name, maxFile)
	if err != nil || len(b) == 0 {
		return nil, err
	}
	r, err := parseRule(b)
	if err != nil {
		return nil, err
	}
	r.Path = filepath.Join(d.Name(), name)
	return r, nil
}

// parseRule parses the content of a file.
func parseRule(b []byte) (*Rule, error) {
	r := &Rule{}
	if err := strictjson.Decode(b, r, strictjson.Options{MaxBytes: maxFile}); err != nil {
		return nil, err
	}
	return r, r.check()
}

// Add writes a rule into the trust.d folder dir, durably, in place of one for
// the same prefix there. It makes the folder if it is missing.
func Add(dir string, r Rule) error {
	if err := r.check(); err != nil {
		return err
	}
	unlock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer unlock()
	files, err := loadDir(dir)
	if err != nil {
		return err
	}
	name := fileFor(files, r.Prefix)
	if old := files[name]; old != nil && old.Prefix != r.Prefix {
		return fmt.Errorf("file %q has the rule for %q", filepath.Join(dir, name), old.Prefix)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("internal error: encode rule: %w", err)
	}
	return atomicfile.Write(dir, name, append(b, '\n'), 0o644, true)
}

// fileFor returns the name of the file that has the rule for a prefix, or that
// a new one gets.
func fileFor(files map[string]*Rule, prefix string) string {
	for name, r := range files {
		if r != nil && r.Prefix == prefix {
			return name
		}
	}
	return escape.FileName(prefix) + ruleSuffix
}

// Remove takes the rule for prefix out of force, durably: it removes it from the
// folder local, and masks there the files of vendor folders that have one. The
// error is ErrNoRule when none is in force.
func Remove(local string, vendor []string, prefix string) error {
	policy, err := Load(append(slices.Clone(vendor), local)...)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(policy.rules, func(r Rule) bool { return r.Prefix == prefix }) {
		return fmt.Errorf("%w: %q", ErrNoRule, prefix)
	}
	unlock, err := lockDir(local)
	if err != nil {
		return err
	}
	defer unlock()
	masks, err := masksFor(vendor, prefix)
	if err != nil {
		return err
	}
	files, err := loadDir(local)
	if err != nil {
		return err
	}
	// Masks first: what is between is the local rule, not the vendor's.
	name := fileFor(files, prefix)
	for _, mask := range masks {
		if r := files[mask]; r == nil || mask == name {
			if err := atomicfile.Write(local, mask, nil, 0o644, true); err != nil {
				return err
			}
		}
	}
	if files[name] == nil || slices.Contains(masks, name) {
		return nil
	}
	if err := os.Remove(filepath.Join(local, name)); err != nil {
		return err
	}
	return atomicfile.SyncDir(local)
}

// masksFor returns the names of the vendor's files that have a rule for prefix.
func masksFor(vendor []string, prefix string) ([]string, error) {
	var masks []string
	for _, dir := range vendor {
		files, err := loadDir(dir)
		if err != nil {
			return nil, err
		}
		if name := fileFor(files, prefix); files[name] != nil {
			masks = append(masks, name)
		}
	}
	return masks, nil
}

// lockDir keeps others from changing the rules of a folder, which it makes if
// it is missing, and removes what killed writers left.
func lockDir(dir string) (unlock func(), err error) {
	if err := mkdir(dir); err != nil {
		return nil, err
	}
	l, err := filelock.Open(dir)
	if err != nil {
		return nil, err
	}
	err = l.Exclusive(context.Background()) // held for moments only
	if err == nil {
		err = atomicfile.RemoveTemporary(dir)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return func() { l.Close() }, nil
}

// mkdir makes a folder that everybody can read, whatever the umask.
func mkdir(dir string) error {
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if above := filepath.Dir(dir); above != dir {
		if err := mkdir(above); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(dir))
}
