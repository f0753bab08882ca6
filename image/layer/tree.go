package layer

import (
	"errors"
	"io"
	"slices"
	"strings"
)

// Tree is what a layer makes of an empty root: the outcome of applying its
// facts in order. Whoever lays a layer out on a disk, as an index or as files,
// does it from here, so that all ways of having a layer are the same layer.
type Tree struct {
	Root *Inode
	// Inodes are all inodes, each once; Inodes[i].Number is i. The root is the
	// first; the entries of a directory lie side by side.
	Inodes []*Inode
	// OpaqueRoot: nothing of the layers below is visible. An overlay does not
	// look for that mark on a root, so those layers have to be left out.
	OpaqueRoot bool
	Accounts   *Accounts
	Summary    Summary
}

// Inode is a file of any kind, with one or more names.
type Inode struct {
	// Fact has the attributes; its Path is the first name the inode had. Its
	// Kind is Dir, Regular, Symlink, Fifo, or Whiteout. All whiteouts are one
	// inode, without attributes.
	Fact
	// Nlink is the number of names; of a directory, what stat shows.
	Nlink  uint32
	Number int
	// Entries of a directory, sorted by the bytes of their names.
	Entries []Entry
	// Opaque: the layers below have nothing to add to this directory.
	Opaque bool
	// Parent of a directory; the root is its own.
	Parent *Inode

	names map[string]*name // of a directory, while the tree grows
	depth int              // of a directory: components of its path
	bytes int              // of a directory: length of its path
}

// Entry is a name in a directory.
type Entry struct {
	Name  string
	Inode *Inode
}

// Build reads facts to their end and applies them to an empty root. Whatever
// does not fit together (an entry below something that is no directory, a hard
// link to what is not there, data outside a tar of tarSize bytes) is
// ErrMalformed; errors of reading come as they are.
//
// A path leads through the symbolic links that this layer made, inside its
// root. Directories that are on the way and were not named are made, with mode
// 0755 and owned by root.
//
// A whiteout speaks of the layers below only, whatever its place in the tar: of
// a name that this layer has too it makes the layer's own directory opaque, and
// is nothing else.
func Build(r *Reader, tarSize uint64) (*Tree, error) {
	b := newBuilder(tarSize)
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := b.add(f); err != nil {
			return nil, err
		}
	}
	if s := r.Summary(); s.TarSize != tarSize {
		return nil, malformed("facts of a tar of %d bytes, the tar has %d", s.TarSize, tarSize)
	}
	t := b.finish()
	t.Accounts, t.Summary = r.Accounts(), r.Summary()
	return t, nil
}

// finish turns the maps into sorted lists, hidden names into whiteouts and
// opaque directories, and numbers the inodes.
func (b *builder) finish() *Tree {
	t := &Tree{Root: b.root, OpaqueRoot: b.root.Opaque}
	whiteout := &Inode{Fact: Fact{Kind: Whiteout}, Number: -1}
	t.number(b.root)
	// The list is the queue: directories append what is in them.
	for i := 0; i < len(t.Inodes); i++ {
		if t.Inodes[i].Kind == Dir {
			t.list(t.Inodes[i], whiteout)
		}
	}
	return t
}

func (t *Tree) number(n *Inode) {
	n.Number = len(t.Inodes)
	t.Inodes = append(t.Inodes, n)
}

// list makes the entries of the directory d from its map, and numbers those
// that have no number yet.
func (t *Tree) list(d, whiteout *Inode) {
	d.Entries = make([]Entry, 0, len(d.names))
	d.Nlink = 2
	for key, n := range d.names {
		switch {
		case n.inode == nil:
			n.inode = whiteout
			whiteout.Nlink++
		case n.inode.Kind == Dir:
			n.inode.Opaque = n.inode.Opaque || n.hidden
			d.Nlink++
		}
		d.Entries = append(d.Entries, Entry{Name: key, Inode: n.inode})
	}
	d.names = nil
	slices.SortFunc(d.Entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	for _, e := range d.Entries {
		if e.Inode.Number < 0 {
			t.number(e.Inode)
		}
	}
}
