package layer

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"rkt/internal/mutant"
)

// ErrMalformed reports facts that break the form or a limit of this package.
var ErrMalformed = errors.New("malformed layer facts")

// CleanPath reports whether p is the only spelling of a path in a layer: "." for
// the root, else names that are neither empty, "." nor "..", joined by single
// slashes, within MaxPath, MaxComponent and MaxDepth and without NUL.
func CleanPath(p string) bool {
	if p == "." {
		return true
	}
	if p == "" || len(p) > MaxPath || strings.IndexByte(p, 0) >= 0 {
		return false
	}
	for depth := 1; ; depth++ {
		name, rest, more := strings.Cut(p, "/")
		if name == "" || name == "." || name == ".." || len(name) > MaxComponent || depth > MaxDepth {
			return false
		}
		if !more {
			return true
		}
		p = rest
	}
}

// AllowedXattr reports whether a layer may carry the attribute: user.* and
// security.capability, but nothing that overlayfs reads as its own.
func AllowedXattr(name string) bool {
	if len(name) > MaxXattrName || strings.IndexByte(name, 0) >= 0 {
		return false
	}
	if rest, ok := strings.CutPrefix(name, "user."); ok {
		if mutant.On("allxattrs") {
			return true
		}
		return rest != "" && !strings.HasPrefix(rest, "overlay.")
	}
	return name == "security.capability"
}

// Check says what is wrong with the form of a fact: a field over its limit, one
// that its kind does not have, a path that is not clean. What it says about the
// rest of the layer and about the tar is for the reader of the facts to judge.
// The error is ErrMalformed.
func (f *Fact) Check() error {
	if !CleanPath(f.Path) {
		return malformed("path %.80q is not clean", f.Path)
	}
	if f.Kind < Dir || f.Kind > Opaque {
		return malformed("%q has the unknown kind %d", f.Path, f.Kind)
	}
	if f.Path == "." && f.Kind != Dir && f.Kind != Opaque {
		return malformed("the root is not a directory")
	}
	for _, step := range []func() error{f.checkInode, f.checkLink, f.checkXattrs, f.checkData} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// hasInode is true for the kinds that bring an inode with attributes.
func (k Kind) hasInode() bool {
	return k == Dir || k == Regular || k == Symlink || k == Fifo
}

func (f *Fact) checkInode() error {
	if f.Mode&^0o7777 != 0 {
		return malformed("%q has the mode %#o", f.Path, f.Mode)
	}
	if f.UID == math.MaxUint32 || f.GID == math.MaxUint32 {
		return malformed("%q has the owner %d:%d, which is no owner", f.Path, f.UID, f.GID)
	}
	if f.Nanos >= 1e9 {
		return malformed("%q has %d nanoseconds", f.Path, f.Nanos)
	}
	return nil
}

func (f *Fact) checkLink() error {
	switch f.Kind {
	case Symlink:
		// The kernel's own limit, PATH_MAX, counts the NUL.
		if f.Link == "" || len(f.Link) >= MaxPath || strings.IndexByte(f.Link, 0) >= 0 {
			return malformed("symlink %q has a target that no symlink can have", f.Path)
		}
	case Hardlink:
		if f.Link == "." || !CleanPath(f.Link) {
			return malformed("hard link %q has the target %.80q, which is not clean", f.Path, f.Link)
		}
	default:
		if f.Link != "" {
			return malformed("%q has a link target and is no link", f.Path)
		}
	}
	return nil
}

func (f *Fact) checkXattrs() error {
	if len(f.Xattrs) == 0 {
		return nil
	}
	if !f.Kind.hasInode() || len(f.Xattrs) > MaxXattrs {
		return malformed("%q has %d extended attributes", f.Path, len(f.Xattrs))
	}
	for i, x := range f.Xattrs {
		if !AllowedXattr(x.Name) || len(x.Value) > MaxXattr {
			return malformed("%q has the extended attribute %.80q of %d bytes", f.Path, x.Name, len(x.Value))
		}
		for _, earlier := range f.Xattrs[:i] {
			if earlier.Name == x.Name {
				return malformed("%q has the extended attribute %q twice", f.Path, x.Name)
			}
		}
	}
	return nil
}

// checkData checks that extents are in order and inside the file. That each is
// inside the tar is checked by whoever knows the tar.
func (f *Fact) checkData() error {
	if f.Kind != Regular {
		if f.Size != 0 || len(f.Extents) != 0 {
			return malformed("%q has data and is no regular file", f.Path)
		}
		return nil
	}
	if f.Size > MaxSize || len(f.Extents) > MaxExtents {
		return malformed("%q has %d bytes in %d extents", f.Path, f.Size, len(f.Extents))
	}
	var end uint64
	for _, e := range f.Extents {
		if e.Length == 0 || e.Logical < end || e.Logical > f.Size || e.Length > f.Size-e.Logical || e.Offset > math.MaxUint64-e.Length {
			return malformed("%q has the extent %+v of %d bytes", f.Path, e, f.Size)
		}
		end = e.Logical + e.Length
	}
	return nil
}

// Check says what is wrong with the form of the accounts. The error is ErrMalformed.
func (a *Accounts) Check() error {
	if len(a.Users) > MaxAccounts || len(a.Groups) > MaxAccounts || len(a.Problem) > MaxProblem {
		return malformed("accounts of %d users and %d groups", len(a.Users), len(a.Groups))
	}
	if !a.HasPasswd && len(a.Users) > 0 || !a.HasGroup && len(a.Groups) > 0 {
		return malformed("accounts without their file")
	}
	for _, u := range a.Users {
		if !accountName(u.Name) || len(u.Home) > MaxPath || strings.IndexByte(u.Home, 0) >= 0 {
			return malformed("user %.80q", u.Name)
		}
	}
	members := 0
	for _, g := range a.Groups {
		if members += len(g.Members); !accountName(g.Name) || members > MaxMembers {
			return malformed("group %.80q", g.Name)
		}
		for _, m := range g.Members {
			if !accountName(m) {
				return malformed("group %q has the member %.80q", g.Name, m)
			}
		}
	}
	return nil
}

func accountName(s string) bool {
	return s != "" && len(s) <= MaxAccountName && !strings.ContainsAny(s, ":\n\x00")
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}
