package supervise

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// idmapError explains why the mount at path, or one below it, could not be
// id-mapped.
func idmapError(path string, userns int, err error) error {
	if err != unix.EINVAL && err != unix.EPERM {
		return fmt.Errorf("set attributes of %q: %w", path, err)
	}
	what := fmt.Sprintf("the filesystem of %q, or one mounted below it, cannot", path)
	if at := unmappable(path, userns); at == path {
		what = fmt.Sprintf("the filesystem of %q cannot", path)
	} else if at != "" {
		what = fmt.Sprintf("what is mounted at %q, below %q, cannot", at, path)
	}
	return fmt.Errorf("%s be id-mapped (%w): choose a folder of a filesystem that can, or run the pod with --private-users=no", what, err)
}

// unmappable finds the first mount at path or below that cannot be id-mapped, by
// trying each; "" if there is none. Only an error message depends on it.
func unmappable(path string, userns int) string {
	// Of this thread: the first one may have served for a look into another namespace.
	mounts, err := readMountinfo("/proc/thread-self/mountinfo")
	if err != nil {
		return ""
	}
	below := strings.TrimSuffix(path, "/") + "/"
	for _, at := range append([]string{path}, slices.Sorted(maps.Keys(mounts))...) {
		if at != path && !strings.HasPrefix(at, below) {
			continue
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, at, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_NO_AUTOMOUNT)
		if err != nil {
			continue
		}
		err = setAttributes(fd, unix.MountAttr{}, userns, 0)
		unix.Close(fd)
		if err != nil {
			return at
		}
	}
	return ""
}
