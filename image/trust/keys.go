package trust

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/internal/escape"
	"rkt/internal/mutant"
	"rkt/internal/safepath"
)

const (
	// RootFile is the name of trusted roots: beside the keys of a prefix for that
	// prefix, in the folder trustedkeys for all others.
	RootFile = "trusted_root.json"

	keysDir  = "trustedkeys" // beside trust.d
	maxKey   = 16 << 10      // bytes of a file with a key
	maxRoot  = 1 << 20       // bytes of a trusted root
	maxKeys  = 64            // of a prefix
	maxFiles = 1000          // of a folder of keys
)

// Key is a public key that is trusted for a prefix. Whether it is a good one is
// told by rkt-fetch: nothing here looks behind its PEM form.
type Key struct {
	Fingerprint string // SHA-256 of its DER form, in hex
	PEM         []byte
	Path        string // the file that it comes from
}

// ParseKey reads a file with one public key in PEM form.
func ParseKey(b []byte) (Key, error) {
	if len(b) > maxKey {
		return Key{}, fmt.Errorf("a key of more than %d bytes", maxKey)
	}
	block, rest := pem.Decode(b)
	switch {
	case block == nil:
		return Key{}, errors.New("it is not a public key in PEM form")
	case block.Type != "PUBLIC KEY":
		return Key{}, fmt.Errorf("it is of the PEM type %.40q, want \"PUBLIC KEY\"", block.Type)
	case len(bytes.TrimSpace(rest)) != 0:
		return Key{}, errors.New("something follows the key: a file has one key")
	}
	sum := sha256.Sum256(block.Bytes)
	return Key{Fingerprint: hex.EncodeToString(sum[:]), PEM: b}, nil
}

// Anchors are what signatures are held against.
type Anchors struct {
	Keys       []Key // by fingerprint, sorted
	Identities []Identity
	Proof      string
	Root       []byte // a trusted root; nil = none
	RootPath   string
}

// Hash identifies the keys, identities and the proof.
func (a *Anchors) Hash() string {
	h := sha256.New()
	for _, k := range a.Keys {
		fmt.Fprintf(h, "key %s\n", k.Fingerprint)
	}
	fmt.Fprintf(h, "%q %s\n", a.Identities, a.Proof)
	return hex.EncodeToString(h.Sum(nil))
}

// RootHash identifies the trusted root; "" when there is none.
func (a *Anchors) RootHash() string {
	if a.Root == nil {
		return ""
	}
	sum := sha256.Sum256(a.Root)
	return hex.EncodeToString(sum[:])
}

// Anchors returns what signatures below the rule r are held against: the keys in
// the folder of its prefix and its identities. As with rules, a file in a later
// folder takes the place of that of the same name in an earlier one, and an empty
// one removes it. Anything that is not understood, or that others than root could
// write, is an error.
func (p *Policy) Anchors(r Rule) (*Anchors, error) {
	a := &Anchors{Identities: r.Identities, Proof: r.Proof}
	files, err := p.keyFiles(r.Prefix)
	if err != nil {
		return nil, fmt.Errorf("read the keys for %q: %w", r.Prefix, err)
	}
	for name, f := range files {
		if name == RootFile {
			continue
		}
		k, err := ParseKey(f.data)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", f.path, err)
		}
		k.Path = f.path
		if !slices.ContainsFunc(a.Keys, func(o Key) bool { return o.Fingerprint == k.Fingerprint }) {
			a.Keys = append(a.Keys, k)
		}
	}
	slices.SortFunc(a.Keys, func(x, y Key) int { return strings.Compare(x.Fingerprint, y.Fingerprint) })
	if len(a.Keys) > maxKeys {
		return nil, fmt.Errorf("%d keys for %q, limit is %d", len(a.Keys), r.Prefix, maxKeys)
	}
	if len(a.Identities) == 0 && a.Proof == "" {
		return a, nil
	}
	root, ok := files[RootFile]
	if !ok {
		if root, err = p.commonRoot(); err != nil {
			return nil, err
		}
	}
	a.Root, a.RootPath = root.data, root.path
	return a, nil
}

// RootAnchors are those for images that no rule is about: the trusted root tells
// who has signed them, and nobody is accepted.
func (p *Policy) RootAnchors() (*Anchors, error) {
	root, err := p.commonRoot()
	if err != nil {
		return nil, err
	}
	return &Anchors{Root: root.data, RootPath: root.path}, nil
}

// KeyDir is the folder of the keys for a prefix that belongs to a trust.d folder.
func KeyDir(trustDir, prefix string) string {
	return filepath.Join(filepath.Dir(trustDir), keysDir, "prefix.d", escape.FileName(prefix))
}

// file is one that only root can write.
type file struct {
	path string
	data []byte
}

// keyFiles reads the files of a prefix; those that are masked are not there.
func (p *Policy) keyFiles(prefix string) (map[string]file, error) {
	all := map[string]file{}
	for _, dir := range p.dirs {
		files, err := keyFilesOf(KeyDir(dir, prefix))
		if err != nil {
			return nil, err
		}
		for name, f := range files {
			all[name] = f
		}
	}
	for name, f := range all {
		if len(f.data) == 0 {
			delete(all, name)
		}
	}
	return all, nil
}

// keyFilesOf reads the files of one folder, which need not exist.
func keyFilesOf(dir string) (map[string]file, error) {
	d, err := openKeyDir(dir)
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
	if len(names) > maxFiles {
		return nil, fmt.Errorf("folder %q has %d files, limit is %d", dir, len(names), maxFiles)
	}
	files := map[string]file{}
	for _, name := range names {
		if name[0] == '.' {
			continue
		}
		limit := maxKey
		if name == RootFile {
			limit = maxRoot
		}
		b, err := readGuarded(d, name, limit)
		if err != nil {
			return nil, fmt.Errorf("file %q: %w", filepath.Join(dir, name), err)
		}
		files[name] = file{filepath.Join(dir, name), b}
	}
	return files, nil
}

// openKeyDir opens the folder of a prefix, and looks at all folders up to the
// configuration's own: who can write to one of them chooses the keys.
func openKeyDir(dir string) (*os.File, error) {
	if mutant.On("anybodyskeys") {
		return os.Open(dir)
	}
	for _, above := range []string{filepath.Dir(filepath.Dir(dir)), filepath.Dir(dir)} {
		d, err := openGuarded(above)
		if err != nil {
			return nil, err
		}
		d.Close()
	}
	return openGuarded(dir)
}

// commonRoot reads the trusted root for prefixes that have none of their own; its
// data is nil when there is none.
func (p *Policy) commonRoot() (file, error) {
	for _, dir := range slices.Backward(p.dirs) {
		folder := filepath.Join(filepath.Dir(dir), keysDir)
		d, err := openGuarded(folder)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return file{}, err
		}
		b, err := readGuarded(d, RootFile, maxRoot)
		d.Close()
		switch path := filepath.Join(folder, RootFile); {
		case errors.Is(err, os.ErrNotExist):
			continue
		case err != nil:
			return file{}, fmt.Errorf("file %q: %w", path, err)
		case len(b) == 0: // it masks those of earlier folders
			return file{}, nil
		default:
			return file{path, b}, nil
		}
	}
	return file{}, nil
}

// readGuarded reads a plain file in d that only root can write.
func readGuarded(d *os.File, name string, limit int) ([]byte, error) {
	f, err := safepath.OpenBeneath(d, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(err, errors.New("it is not a plain file"))
	}
	if err := guarded(f); err != nil && !mutant.On("anybodyskeys") {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(b) > limit {
		return nil, fmt.Errorf("it has more than %d bytes", limit)
	}
	return b, nil
}
