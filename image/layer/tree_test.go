package layer

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

const testTarSize = 1 << 20

// build applies facts to an empty root.
func build(t *testing.T, facts ...*Fact) (*Tree, error) {
	t.Helper()
	b := encode(t, facts, nil, Summary{TarSize: testTarSize})
	return Build(NewReader(bytes.NewReader(b)), testTarSize)
}

// show lists a tree: one line for each name, links and marks included.
func show(tree *Tree) string {
	var lines []string
	if tree.OpaqueRoot {
		lines = append(lines, ". opaque")
	}
	first := map[*Inode]string{}
	var walk func(path string, d *Inode)
	walk = func(path string, d *Inode) {
		for _, e := range d.Entries {
			p := path + e.Name
			line := p
			switch e.Inode.Kind {
			case Dir:
				line += fmt.Sprintf("/ %o", e.Inode.Mode)
				if e.Inode.Opaque {
					line += " opaque"
				}
			case Symlink:
				line += " -> " + e.Inode.Link
			case Whiteout:
				line += " whiteout"
			case Fifo:
				line += " fifo"
			case Regular:
				line += fmt.Sprintf(" %d", e.Inode.Size)
			}
			if other, ok := first[e.Inode]; ok && e.Inode.Kind != Whiteout {
				line += " = " + other
			}
			if e.Inode.Kind != Dir && e.Inode.Kind != Whiteout && e.Inode.Nlink != 1 {
				line += fmt.Sprintf(" nlink %d", e.Inode.Nlink)
			}
			first[e.Inode] = p
			lines = append(lines, line)
			if e.Inode.Kind == Dir {
				walk(p+"/", e.Inode)
			}
		}
	}
	walk("", tree.Root)
	return strings.Join(lines, "\n")
}

func file(path string, size uint64) *Fact {
	f := &Fact{Path: path, Kind: Regular, Mode: 0o644, Size: size}
	if size > 0 {
		f.Extents = []Extent{{Offset: 512, Length: size}}
	}
	return f
}

func dir(path string, mode uint16) *Fact { return &Fact{Path: path, Kind: Dir, Mode: mode} }
func symlink(path, to string) *Fact      { return &Fact{Path: path, Kind: Symlink, Link: to, Mode: 0o777} }
func hardlink(path, to string) *Fact     { return &Fact{Path: path, Kind: Hardlink, Link: to} }
func mark(path string, kind Kind) *Fact  { return &Fact{Path: path, Kind: kind} }
func list(lines ...string) string        { return strings.Join(lines, "\n") }
func repeat(n int, f func(i int) *Fact) (all []*Fact) {
	for i := range n {
		all = append(all, f(i))
	}
	return all
}

func TestBuild(t *testing.T) {
	tests := []struct {
		name  string
		facts []*Fact
		want  string
	}{
		{"nothing", nil, ""},
		{"sorted by bytes", []*Fact{file("b", 1), file("B", 1), file("-", 1), file("\xff", 1)}, list("- 1", "B 1", "b 1", "\xff 1")},
		{"implied parents", []*Fact{file("a/b/c", 1)}, list("a/ 755", "a/b/ 755", "a/b/c 1")},
		{"parent after its child", []*Fact{file("a/b", 1), dir("a", 0o700)}, list("a/ 700", "a/b 1")},
		{"last of many wins", []*Fact{file("a", 1), dir("a", 0o700), symlink("a", "x"), mark("a", Fifo), file("a", 5)}, list("a 5")},
		{"a file takes a folder's place with all in it", []*Fact{file("a/b/c", 1), file("a", 2)}, list("a 2")},
		{"a folder over a folder changes attributes", []*Fact{file("a/b", 1), dir("a", 0o711)}, list("a/ 711", "a/b 1")},
		{"a folder replaces a symlink", []*Fact{dir("t", 0o755), symlink("d", "/t"), dir("d", 0o700)}, list("d/ 700 opaque", "t/ 755")},

		{"hard links", []*Fact{file("a", 3), hardlink("b", "a"), hardlink("c/d", "b")}, list("a 3 nlink 3", "b 3 = a nlink 3", "c/ 755", "c/d 3 = b nlink 3")},
		{"hard link to a symlink is not followed", []*Fact{symlink("a", "/etc/shadow"), hardlink("b", "a")}, list("a -> /etc/shadow nlink 2", "b -> /etc/shadow = a nlink 2")},
		{"hard link to itself", []*Fact{file("a", 3), hardlink("a", "a")}, list("a 3")},
		{"a new file takes the name, not the inode", []*Fact{file("a", 3), hardlink("b", "a"), file("b", 9)}, list("a 3", "b 9")},
		{"link in place of its folder", []*Fact{file("d/f", 3), hardlink("d", "d/f")}, list("d 3")},
		{"links die with their folder", []*Fact{file("d/f", 3), hardlink("g", "d/f"), file("d", 1)}, list("d 1", "g 3")},
		{"hard link through a symlink", []*Fact{file("t/f", 3), symlink("d", "t"), hardlink("g", "d/f")}, list("d -> t", "g 3 nlink 2", "t/ 755", "t/f 3 = g nlink 2")},

		{"whiteout", []*Fact{mark("a/b", Whiteout), mark("c", Whiteout)}, list("a/ 755", "a/b whiteout", "c whiteout")},
		{"whiteout of a file before it", []*Fact{mark("a", Whiteout), file("a", 1)}, "a 1"},
		{"whiteout of a file after it", []*Fact{file("a", 1), mark("a", Whiteout)}, "a 1"},
		{"whiteout of a folder before it", []*Fact{mark("a", Whiteout), file("a/b", 1)}, list("a/ 755 opaque", "a/b 1")},
		{"whiteout of a folder after it", []*Fact{file("a/b", 1), mark("a", Whiteout)}, list("a/ 755 opaque", "a/b 1")},
		{"opaque", []*Fact{file("a/b", 1), mark("a", Opaque), file("a/c", 1)}, list("a/ 755 opaque", "a/b 1", "a/c 1")},
		{"opaque of what is not named", []*Fact{mark("a/b", Opaque)}, list("a/ 755", "a/b/ 755 opaque")},
		{"opaque stays when attributes come", []*Fact{mark("a", Opaque), dir("a", 0o700)}, "a/ 700 opaque"},
		{"opaque root", []*Fact{mark(".", Opaque), file("a", 1)}, list(". opaque", "a 1")},
		{"a folder in the place of a file hides the lower one", []*Fact{file("a", 1), file("a", 2), dir("a", 0o755)}, "a/ 755 opaque"},
		{"whiteout through a symlink stays inside", []*Fact{symlink("d", "/canary"), mark("d/f", Whiteout)}, list("canary/ 755", "canary/f whiteout", "d -> /canary")},

		{"path through an absolute symlink", []*Fact{symlink("d", "/canary"), file("d/f", 1)}, list("canary/ 755", "canary/f 1", "d -> /canary")},
		{"path through a symlink out of the root", []*Fact{symlink("d", "../../../canary"), file("d/f", 1)}, list("canary/ 755", "canary/f 1", "d -> ../../../canary")},
		{"path through a chain", []*Fact{symlink("a", "b"), symlink("b", "c/d"), file("a/f", 1)}, list("a -> b", "b -> c/d", "c/ 755", "c/d/ 755", "c/d/f 1")},
		{"relative symlink below", []*Fact{dir("x", 0o755), symlink("x/l", "../y"), file("x/l/f", 1)}, list("x/ 755", "x/l -> ../y", "y/ 755", "y/f 1")},
		{"symlink to the root", []*Fact{symlink("a", "."), file("a/a/a/f", 1)}, list("a -> .", "f 1")},
		{"a replaced symlink leads no more", []*Fact{symlink("d", "t"), file("d/a", 1), dir("d", 0o755), file("d/b", 1)}, list("d/ 755 opaque", "d/b 1", "t/ 755", "t/a 1")},
		{"a replaced folder is not filled", []*Fact{file("d/e/a", 1), file("d", 1), dir("d", 0o755), file("d/e/b", 1)}, list("d/ 755 opaque", "d/e/ 755", "d/e/b 1")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tree, err := build(t, test.facts...)
			if err != nil {
				t.Fatal(err)
			}
			if got := show(tree); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			for i, inode := range tree.Inodes {
				if inode.Number != i {
					t.Errorf("Inodes[%d].Number = %d", i, inode.Number)
				}
			}
		})
	}
}

func TestBuildRefuses(t *testing.T) {
	deep := func(prefix string) string { return prefix + strings.Repeat("/d", 200) }
	tests := map[string][]*Fact{
		"child of a file":                {file("a", 1), file("a/b", 1)},
		"child of a hard link":           {file("f", 1), hardlink("a", "f"), file("a/b", 1)},
		"child of a FIFO":                {mark("a", Fifo), mark("a/b", Whiteout)},
		"opaque file":                    {file("a", 1), mark("a", Opaque)},
		"link to nothing":                {hardlink("a", "b")},
		"link to itself, not there":      {hardlink("a", "a")},
		"link to a folder":               {dir("d", 0o755), hardlink("a", "d")},
		"link to an entry still to come": {hardlink("a", "b"), file("b", 1)},
		"link to a whiteout":             {mark("b", Whiteout), hardlink("a", "b")},
		"link below a missing folder":    {hardlink("a", "x/y/z")},
		"link to what was replaced":      {file("d/f", 1), file("d", 1), hardlink("a", "d/f")},
		"symlink to itself":              {symlink("a", "a"), file("a/b", 1)},
		"symlinks in a circle":           {symlink("a", "b"), symlink("b", "a"), file("a/x", 1)},
		"41 symlinks":                    append(repeat(41, func(i int) *Fact { return symlink(fmt.Sprint("l", i), fmt.Sprint("l", i+1)) }), file("l0/f", 1)),
		"symlink through a file":         {file("f", 1), symlink("a", "f/.."), file("a/b", 1)},
		"symlink with a long name":       {symlink("a", strings.Repeat("n", 256)), file("a/b", 1)},
		"data behind the tar":            {{Path: "a", Kind: Regular, Size: 2, Extents: []Extent{{0, testTarSize - 1, 2}}}},
		"data far behind the tar":        {{Path: "a", Kind: Regular, Size: 2, Extents: []Extent{{0, math.MaxInt64 - 2, 2}}}},
		"deeper than any path":           {dir(deep("a"), 0o755), symlink("s", deep("a")), file(deep("s")+"/f", 1)},
	}
	for name, facts := range tests {
		t.Run(name, func(t *testing.T) {
			if tree, err := build(t, facts...); !errors.Is(err, ErrMalformed) {
				t.Errorf("Build() = %v, want ErrMalformed", err)
				if tree != nil {
					t.Log(show(tree))
				}
			}
		})
	}
	t.Run("another tar", func(t *testing.T) {
		b := encode(t, nil, nil, Summary{TarSize: 5})
		if _, err := Build(NewReader(bytes.NewReader(b)), 6); !errors.Is(err, ErrMalformed) {
			t.Errorf("Build() = %v, want ErrMalformed", err)
		}
	})
}

// Long chains of symbolic links cost a bounded time.
func TestBuildBoundsSymlinkSteps(t *testing.T) {
	long := strings.Repeat("./", 2040)
	facts := repeat(39, func(i int) *Fact { return symlink(fmt.Sprint("l", i), long+fmt.Sprint("l", i+1)) })
	facts = append(facts, dir("l39", 0o755))
	facts = append(facts, repeat(1000, func(i int) *Fact { return file(fmt.Sprint("l0/f", i), 1) })...)
	if _, err := build(t, facts...); !errors.Is(err, ErrMalformed) {
		t.Errorf("Build() = %v, want ErrMalformed", err)
	}
}

func TestTypeFlips(t *testing.T) {
	var facts []*Fact
	for range 1000 {
		facts = append(facts, file("x/a", 1), dir("x/a", 0o700), file("x/a/b", 1), symlink("x/a", "y"))
	}
	tree, err := build(t, facts...)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := show(tree), list("x/ 755", "x/a -> y"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if len(tree.Inodes) != 3 {
		t.Errorf("%d inodes, want 3", len(tree.Inodes))
	}
}

func TestDirectoryLinks(t *testing.T) {
	tree, err := build(t, dir("a", 0o755), dir("a/b", 0o755), dir("a/c", 0o755), file("a/f", 1), mark("a/w", Whiteout))
	if err != nil {
		t.Fatal(err)
	}
	if a := tree.Root.Entries[0].Inode; a.Nlink != 4 || tree.Root.Nlink != 3 {
		t.Errorf("nlink of a = %d, of the root = %d, want 4 and 3", a.Nlink, tree.Root.Nlink)
	}
	if !slices.ContainsFunc(tree.Inodes, func(n *Inode) bool { return n.Kind == Whiteout }) {
		t.Error("the whiteout has no inode")
	}
}

func FuzzBuild(f *testing.F) {
	facts, accounts, summary := sample()
	var buf bytes.Buffer
	w := NewWriter(&buf)
	for _, fact := range facts {
		_ = w.Fact(fact)
	}
	_ = w.Accounts(accounts)
	summary.TarSize = testTarSize
	_ = w.Close(summary)
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := Build(NewReader(bytes.NewReader(b)), testTarSize)
		if err != nil {
			return
		}
		for i, n := range tree.Inodes {
			if n.Number != i || n.Nlink == 0 || n.Kind == Dir && n.Parent == nil {
				t.Fatalf("inode %d: %+v", i, n)
			}
		}
	})
}
