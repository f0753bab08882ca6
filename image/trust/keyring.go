package trust

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"rkt/internal/atomicfile"
)

const keySuffix = ".pem"

// ErrNoKey reports a fingerprint that no key of a prefix has.
var ErrNoKey = errors.New("no such key")

// AddKey writes a key for a prefix, durably, into the folder that belongs to the
// trust.d folder dir. A key that is there stays.
func AddKey(dir, prefix string, k Key) error {
	return addKeyFile(dir, prefix, k.Fingerprint+keySuffix, k.PEM)
}

// AddRoot writes the trusted root of a prefix likewise, in place of another one.
func AddRoot(dir, prefix string, root []byte) error {
	if len(root) > maxRoot {
		return fmt.Errorf("trusted root has %d bytes, limit is %d", len(root), maxRoot)
	}
	return addKeyFile(dir, prefix, RootFile, root)
}

func addKeyFile(dir, prefix, name string, data []byte) error {
	folder := KeyDir(dir, prefix)
	unlock, err := lockDir(folder)
	if err != nil {
		return err
	}
	defer unlock()
	if d, err := openKeyDir(folder); err != nil {
		return err // what others can write to is not used
	} else {
		d.Close()
	}
	return atomicfile.Write(folder, name, data, 0o644, true)
}

// RemoveKey takes the key with a fingerprint, or one that begins so, out of force
// for a prefix, durably: it removes its files from the local folder, and masks
// those of the vendor there. The errors are ErrNoKey, also for a beginning that
// several keys have, and those of the file system.
func RemoveKey(local string, vendor []string, prefix, fingerprint string) error {
	p := &Policy{dirs: append(slices.Clone(vendor), local)}
	a, err := p.Anchors(Rule{Prefix: prefix})
	if err != nil {
		return err
	}
	var found []Key
	for _, k := range a.Keys {
		if len(fingerprint) >= minFingerprint && len(fingerprint) <= len(k.Fingerprint) && k.Fingerprint[:len(fingerprint)] == fingerprint {
			found = append(found, k)
		}
	}
	if len(found) != 1 {
		return fmt.Errorf("%w: %d keys for %q begin with %q", ErrNoKey, len(found), prefix, fingerprint)
	}
	return removeKeyFiles(local, vendor, prefix, func(b []byte) bool {
		k, err := ParseKey(b)
		return err == nil && k.Fingerprint == found[0].Fingerprint
	})
}

// minFingerprint is how many digits name a key.
const minFingerprint = 8

// RemoveKeys takes all keys of a prefix and its trusted root out of force, as
// RemoveKey does it.
func RemoveKeys(local string, vendor []string, prefix string) error {
	return removeKeyFiles(local, vendor, prefix, func([]byte) bool { return true })
}

// removeKeyFiles removes the local files that are chosen, and masks the vendor's.
func removeKeyFiles(local string, vendor []string, prefix string, chosen func([]byte) bool) error {
	masks := map[string]bool{}
	for _, dir := range vendor {
		files, err := keyFilesOf(KeyDir(dir, prefix))
		if err != nil {
			return err
		}
		for name, f := range files {
			if len(f.data) > 0 && chosen(f.data) {
				masks[name] = true
			}
		}
	}
	folder := KeyDir(local, prefix)
	if _, err := os.Lstat(folder); errors.Is(err, os.ErrNotExist) && len(masks) == 0 {
		return nil
	}
	unlock, err := lockDir(folder)
	if err != nil {
		return err
	}
	defer unlock()
	files, err := keyFilesOf(folder)
	if err != nil {
		return err
	}
	for name := range masks {
		if f, ok := files[name]; !ok || chosen(f.data) {
			if err := atomicfile.Write(folder, name, nil, 0o644, true); err != nil {
				return err
			}
		}
	}
	for name, f := range files {
		if masks[name] || len(f.data) == 0 || !chosen(f.data) {
			continue
		}
		if err := os.Remove(filepath.Join(folder, name)); err != nil {
			return err
		}
	}
	return atomicfile.SyncDir(folder)
}

// Rule returns the rule in force for exactly that prefix.
func (p *Policy) Rule(prefix string) (Rule, bool) {
	i := slices.IndexFunc(p.rules, func(r Rule) bool { return r.Prefix == prefix })
	if i < 0 {
		return Rule{}, false
	}
	return p.rules[i], true
}
