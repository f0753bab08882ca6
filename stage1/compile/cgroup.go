package compile

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/stage1/program"
)

// moveIntoCgroups moves the process into the v1 cgroups. A process that moves
// itself, by its one thread, does not wait for a grace period of the kernel, as
// whoever moves another does: 5 to 20 ms after a quiet time. (Since Linux 5.5,
// cgroup_procs_write_start in kernel/cgroup/cgroup.c.) The unified hierarchy is
// cloned into.
func moveIntoCgroups(p *program.Program, tasks []Tasks) {
	for _, t := range tasks {
		p.Write(p.FD(t.FD, t.Name+" tasks"), "0").Because("move into the app's cgroup of " + t.Name)
	}
}

// leaveHostCgroups makes the app's cgroups the roots of a cgroup namespace and
// mounts what config.json asks for: always read-only.
func (s *start) leaveHostCgroups() error {
	s.Unshare(unix.CLONE_NEWCGROUP).Because("make the app's cgroup the root of what it sees")
	for _, m := range s.spec.Mounts {
		if m.Type != "cgroup" {
			continue
		}
		attrs, options, err := parseOptions(m.Options)
		if err != nil || len(options) > 0 {
			return fmt.Errorf("mount %q: options %q are not supported", m.Destination, m.Options)
		}
		s.mountCgroups(path.Clean(m.Destination), uintptr(attrs|noSuid|unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_RDONLY))
	}
	return nil
}

// mountCgroups mounts the unified hierarchy on dest or, where there are v1
// hierarchies, a folder with one mount for each, named as on the host.
func (s *start) mountCgroups(dest string, attrs uintptr) {
	why := fmt.Sprintf("mount cgroups on %q", dest)
	c := s.host.Cgroup
	if c.V2 == "" && len(c.V1) == 0 {
		return
	}
	target := s.mountPoint(dest, true, why)
	if len(c.V1) == 0 {
		s.MoveMount(s.Filesystem("cgroup2", "cgroup", nil, attrs, why).Result(), target.Result()).Because(why)
		return
	}
	dir := s.Filesystem("tmpfs", "cgroup", []string{"mode=755", "size=16k"}, attrs&^unix.MOUNT_ATTR_RDONLY, why)
	s.MoveMount(dir.Result(), target.Result()).Because(why)
	for _, name := range hierarchies(c.V1) {
		mount := s.Filesystem("cgroup", "cgroup", strings.Split(name, ","), attrs, why)
		s.Mkdirat(dir.Result(), name, 0o755).Because(why)
		s.MoveMountTo(mount.Result(), dir.Result(), name).Because(why)
	}
	if c.V2 != "" {
		mount := s.Filesystem("cgroup2", "cgroup", nil, attrs, why)
		s.Mkdirat(dir.Result(), "unified", 0o755).Because(why)
		s.MoveMountTo(mount.Result(), dir.Result(), "unified").Because(why)
	}
	s.MountSetattr(dir.Result(), unix.MOUNT_ATTR_RDONLY, false).Because(why)
}

// cgroupRoot is where hosts mount their cgroup hierarchies.
const cgroupRoot = "/sys/fs/cgroup/"

// hierarchies are the names of the v1 hierarchies that hold the folders: a
// comma-separated list of all controllers of each, which mounting one asks for.
func hierarchies(folders map[string]string) []string {
	var names []string
	for _, controller := range slices.Sorted(maps.Keys(folders)) {
		name := controller
		if rest, ok := strings.CutPrefix(folders[controller], cgroupRoot); ok {
			first, _, _ := strings.Cut(rest, "/")
			if slices.Contains(strings.Split(first, ","), controller) {
				name = first
			}
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// protectPaths hides the masked paths of config.json behind an empty file or
// directory of ours that nobody may open, and makes others read-only. What the
// kernel or the image does not have needs no protection.
func (s *start) protectPaths() error {
	if s.spec.Linux == nil {
		return nil
	}
	for _, list := range [][]string{s.spec.Linux.MaskedPaths, s.spec.Linux.ReadonlyPaths} {
		for _, p := range list {
			if c := path.Clean(p); !path.IsAbs(c) || c == "/" {
				return fmt.Errorf("path %q to protect is not an absolute path below the root", p)
			}
		}
	}
	s.maskPaths(s.spec.Linux.MaskedPaths)
	for _, p := range s.spec.Linux.ReadonlyPaths {
		why := fmt.Sprintf("make %q read-only", path.Clean(p))
		target := s.Openat2(s.root.Result(), path.Clean(p)[1:], unix.O_PATH, 0, inRoot).Allow(unix.ENOENT).Because(why)
		tree := s.OpenTree(target.Result(), "", true).IfOK(target).Because(why)
		s.MountSetattr(tree.Result(), unix.MOUNT_ATTR_RDONLY|noSuid|unix.MOUNT_ATTR_NOEXEC, true).IfOK(target).Because(why)
		s.MoveMount(tree.Result(), target.Result()).IfOK(target).Because(why)
	}
	return nil
}

func (s *start) maskPaths(paths []string) {
	if len(paths) == 0 {
		return
	}
	const why = "make the masks"
	masks := s.Filesystem("tmpfs", "mask", []string{"mode=755", "size=16k", "nr_inodes=4"},
		noSuid|unix.MOUNT_ATTR_NOEXEC, why)
	s.Mkdirat(program.Cwd(), stagingMasks, 0o755).Because(why)
	s.MoveMountTo(masks.Result(), program.Cwd(), stagingMasks).Because(why)
	s.Mkfileat(masks.Result(), "file", 0).Because(why)
	s.Mkdirat(masks.Result(), "dir", 0).Because(why)
	s.MountSetattr(masks.Result(), unix.MOUNT_ATTR_RDONLY, false).Because(why)
	for _, p := range paths {
		rel := path.Clean(p)[1:]
		why := fmt.Sprintf("mask %q", "/"+rel)
		dir := s.Openat2(s.root.Result(), rel, unix.O_PATH|unix.O_DIRECTORY, 0, inRoot).
			Allow(unix.ENOENT, unix.ENOTDIR).Because(why)
		empty := s.OpenTree(masks.Result(), "dir", false).IfOK(dir).Because(why)
		s.MoveMount(empty.Result(), dir.Result()).IfOK(dir).Because(why)
		file := s.Openat2(s.root.Result(), rel, unix.O_PATH, 0, inRoot).IfFailed(dir).Allow(unix.ENOENT, unix.ENOTDIR).Because(why)
		empty = s.OpenTree(masks.Result(), "file", false).IfOK(file).Because(why)
		s.MoveMount(empty.Result(), file.Result()).IfOK(file).Because(why)
	}
}
