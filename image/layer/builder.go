package layer

import "rkt/internal/mutant"

// builder grows a tree.
type builder struct {
	root    *Inode
	tarSize uint64
	steps   int // left for following symbolic links
	// lastPath leads to lastDir without symbolic links. The next entry is
	// mostly in the directory of the one before.
	lastPath string
	lastDir  *Inode
}

// name is an Entry while the tree grows.
type name struct {
	inode *Inode // nil when there is only a whiteout
	// hidden: what the layers below have under this name is not visible.
	hidden bool
}

func newBuilder(tarSize uint64) *builder {
	root := &Inode{Fact: Fact{Path: ".", Kind: Dir, Mode: 0o755}, Number: -1, names: map[string]*name{}}
	root.Parent = root
	return &builder{root: root, tarSize: tarSize, steps: maxSteps}
}

// add applies one fact that has passed Check.
func (b *builder) add(f *Fact) error {
	if f.Path == "." {
		if f.Kind == Opaque {
			b.root.Opaque = true
			return nil
		}
		b.root.Fact = *f
		return nil
	}
	if f.Kind == Opaque {
		dir, err := b.directory(f.Path)
		if err != nil {
			return err
		}
		dir.Opaque = true
		return nil
	}
	for _, e := range f.Extents {
		if e.Offset+e.Length > b.tarSize {
			return malformed("%q has data at %d+%d of a tar of %d bytes", f.Path, e.Offset, e.Length, b.tarSize)
		}
	}
	parent, base := split(f.Path)
	dir, err := b.directory(parent)
	if err != nil {
		return err
	}
	switch f.Kind {
	case Whiteout:
		b.slot(dir, base).hidden = true
		return nil
	case Hardlink:
		return b.link(f, dir, base)
	}
	return b.put(f, dir, base)
}

// put gives the name base of dir to a new inode.
func (b *builder) put(f *Fact, dir *Inode, base string) error {
	n := b.slot(dir, base)
	if f.Kind == Dir && n.inode != nil && n.inode.Kind == Dir {
		n.inode.Fact = *f
		return nil
	}
	inode := &Inode{Fact: *f, Number: -1}
	if f.Kind == Dir {
		if err := inode.settle(dir, base); err != nil {
			return err
		}
	}
	b.replace(n, inode)
	return nil
}

// link gives the name base of dir to the inode that has the name f.Link.
func (b *builder) link(f *Fact, dir *Inode, base string) error {
	parent, target := split(f.Link)
	var n *name
	if from, err := b.lookup(parent); err == nil {
		n = from.names[target]
	}
	if n == nil || n.inode == nil {
		return malformed("hard link %q to %q, which is not in this layer", f.Path, f.Link)
	}
	if n.inode.Kind == Dir {
		return malformed("hard link %q to the directory %q", f.Path, f.Link)
	}
	// A link to itself changes nothing, and must not remove its own target.
	if to := b.slot(dir, base); to.inode != n.inode {
		b.replace(to, n.inode)
	}
	return nil
}

// slot returns the name base of dir, made if needed.
func (b *builder) slot(dir *Inode, base string) *name {
	n := dir.names[base]
	if n == nil {
		n = &name{}
		dir.names[base] = n
	}
	return n
}

// replace gives n to inode, and takes it from what had it, as unlink and rm -r
// would. What comes instead of something else is new to the layers below, too:
// a directory must not merge with theirs.
func (b *builder) replace(n *name, inode *Inode) {
	if n.inode != nil {
		n.hidden = !mutant.On("keephidden")
		drop(n.inode)
		if !mutant.On("staledir") {
			b.lastPath, b.lastDir = "", nil
		}
	}
	n.inode = inode
	inode.Nlink++
}

// drop takes a name from the inode, and from all that is below it.
func drop(inode *Inode) {
	queue := []*Inode{inode}
	for len(queue) > 0 {
		last := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		last.Nlink--
		for _, n := range last.names {
			if n.inode != nil {
				queue = append(queue, n.inode)
			}
		}
	}
}

// settle makes the inode a directory inside parent.
func (n *Inode) settle(parent *Inode, base string) error {
	n.Parent = parent
	n.names = map[string]*name{}
	n.depth = parent.depth + 1
	n.bytes = parent.bytes + len(base) + 1
	// Symbolic links can make a short path lead to a deep place.
	if n.depth > MaxDepth || n.bytes > MaxPath {
		return malformed("%.80q is more than %d directories or %d bytes deep", n.Path, MaxDepth, MaxPath)
	}
	return nil
}
