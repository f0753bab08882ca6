package compile

import (
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/stage1/program"
)

// inRoot resolves a path of the image: symbolic links lead nowhere but below
// the root, and the magic ones of procfs nowhere at all.
const inRoot = unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS

// noLinks resolves a path which must not have symbolic links.
const noLinks = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS

// mountPoint finds the directory or file at the clean absolute path in the
// app's root, makes what is missing, and returns the operation whose result is
// an O_PATH fd of it. Every step is relative to an fd. A directory is only made
// where nothing has its name: a symbolic link that leads nowhere is refused.
// A file is mounted on such a link itself, as /etc/resolv.conf often is one.
func (s *start) mountPoint(dest string, dir bool, why string) *program.Op {
	rel := strings.TrimPrefix(dest, "/")
	resolve := uint64(inRoot)
	switch dest {
	case "/proc", "/sys", "/dev":
		resolve = noLinks // what is found there is trusted by all software
	}
	kind := uint64(0)
	if dir {
		kind = unix.O_DIRECTORY
	}
	found := s.Openat2(s.root.Result(), rel, unix.O_PATH|kind, 0, resolve).Allow(unix.ENOENT).Because(why)

	dirs, name := path.Split(rel)
	parent := s.makeParents(dirs, found, why)
	if dir {
		s.Mkdirat(parent.Result(), name, 0o755).IfFailed(found).Because(why)
		s.Openat2(parent.Result(), name, unix.O_PATH|unix.O_DIRECTORY, 0, noLinks).
			IfFailed(found).As(found).Because(why)
		return found
	}
	s.Mkfileat(parent.Result(), name, 0o644).IfFailed(found).Allow(unix.EEXIST).Because(why)
	s.Openat2(parent.Result(), name, unix.O_PATH|unix.O_NOFOLLOW, 0, noLinks).
		IfFailed(found).As(found).Because(why)
	return found
}

// makeParents makes what is missing of the directories, if found has failed, and
// returns the last one.
func (s *start) makeParents(dirs string, found *program.Op, why string) *program.Op {
	parent, made := s.root, ""
	for name := range strings.SplitSeq(strings.TrimSuffix(dirs, "/"), "/") {
		if name == "" {
			continue
		}
		made = path.Join(made, name)
		next := s.Openat2(s.root.Result(), made, unix.O_PATH|unix.O_DIRECTORY, 0, inRoot).
			IfFailed(found).Allow(unix.ENOENT).Because(why)
		s.Mkdirat(parent.Result(), name, 0o755).IfFailed(next).Because(why)
		s.Openat2(parent.Result(), name, unix.O_PATH|unix.O_DIRECTORY, 0, noLinks).
			IfFailed(next).As(next).Because(why)
		parent = next
	}
	return parent
}
