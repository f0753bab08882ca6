package supervise

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// unifiedRoot is where the unified hierarchy is mounted when it is the only one.
const unifiedRoot = "/sys/fs/cgroup"

// cgroupOf opens the cgroup that a process is in, for a pod without any of its
// own: limits of the unit that it lives in hold for what is entered too. It is
// nil on a host where the unified hierarchy is not the only one. The pidfd is
// that of the process.
func cgroupOf(pid, pidfd int) (*os.File, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(unifiedRoot, &fs); err != nil || fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil, nil
	}
	b, err := readFile(procPath(pid, "cgroup"))
	if err != nil {
		return nil, fmt.Errorf("find cgroup of the app: %w", err)
	}
	path, ok := strings.CutPrefix(strings.TrimSuffix(string(b), "\n"), "0::/")
	if !ok || strings.HasPrefix(path, "..") {
		return nil, fmt.Errorf("find cgroup of the app: %q is not visible here", b)
	}
	dir := filepath.Join(unifiedRoot, path)
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open cgroup %s: %w", dir, err)
	}
	if exited(pidfd) { // and its number may be another's
		unix.Close(fd)
		return nil, fmt.Errorf("find cgroup of the app: %w", errGone)
	}
	return os.NewFile(uintptr(fd), dir), nil
}
