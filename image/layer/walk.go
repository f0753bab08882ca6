package layer

import (
	"strings"

	"rkt/internal/mutant"
)

// maxSteps bounds the names that are looked up on behalf of symbolic links in
// one layer. Real layers need some thousands.
const maxSteps = 16 << 20

// maxHops is the kernel's limit of symbolic links in one path.
const maxHops = 40

// split cuts a clean path into the path of its directory and its last name.
func split(path string) (dir, base string) {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return ".", path
}

// directory returns the directory at a clean path, and makes what is missing.
func (b *builder) directory(path string) (*Inode, error) {
	return b.walk(path, true)
}

// lookup returns the directory at a clean path that must be there.
func (b *builder) lookup(path string) (*Inode, error) {
	return b.walk(path, false)
}

func (b *builder) walk(path string, create bool) (*Inode, error) {
	if path == "." {
		return b.root, nil
	}
	if path == b.lastPath {
		return b.lastDir, nil
	}
	w := walker{b: b, at: b.root, rest: path, create: create}
	for w.rest != "" {
		if err := w.step(path); err != nil {
			return nil, err
		}
	}
	// Only a path without symbolic links stays right when a link is replaced.
	if w.hops == 0 {
		b.lastPath, b.lastDir = path, w.at
	}
	return w.at, nil
}

// walker goes down a path as the kernel would if the layer's root were "/".
type walker struct {
	b      *builder
	at     *Inode
	rest   string
	hops   int
	create bool
}

// step takes one name off the rest of the path.
func (w *walker) step(path string) error {
	base, rest, _ := strings.Cut(w.rest, "/")
	w.rest = rest
	switch base {
	case "", ".":
		return nil
	case "..":
		if w.at == w.b.root && mutant.On("rootescape") {
			return w.make(path, base)
		}
		w.at = w.at.Parent
		return nil
	}
	if w.hops > 0 {
		if w.b.steps--; w.b.steps < 0 {
			return malformed("symbolic links lead to more than %d names", maxSteps)
		}
		if len(base) > MaxComponent {
			return malformed("%q leads through the name %.80q of %d bytes", path, base, len(base))
		}
	}
	n := w.at.names[base]
	if n == nil || n.inode == nil {
		return w.make(path, base)
	}
	switch n.inode.Kind {
	case Dir:
		w.at = n.inode
		return nil
	case Symlink:
		return w.follow(path, n.inode.Link)
	}
	return malformed("%q is below %q, which is not a directory", path, base)
}

// make adds a directory that the tar does not name.
func (w *walker) make(path, base string) error {
	if !w.create {
		return malformed("%q is not in this layer", path)
	}
	d := &Inode{Fact: Fact{Path: path, Kind: Dir, Mode: 0o755}, Number: -1}
	if err := d.settle(w.at, base); err != nil {
		return err
	}
	w.b.replace(w.b.slot(w.at, base), d)
	w.at = d
	return nil
}

// follow continues at the target of a symbolic link.
func (w *walker) follow(path, target string) error {
	if w.hops++; w.hops > maxHops {
		return malformed("%q leads through more than %d symbolic links", path, maxHops)
	}
	if strings.HasPrefix(target, "/") {
		w.at = w.b.root
	}
	// Targets are up to 4 KiB and may be followed by every entry.
	if w.b.steps -= strings.Count(target, "/"); w.b.steps < 0 {
		return malformed("symbolic links lead to more than %d names", maxSteps)
	}
	w.rest = target + "/" + w.rest
	return nil
}
