package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage1/compile"
	"rkt/stage1/contract"
)

// appPrefix begins the name of the cgroup of an app.
const appPrefix = "app."

// maxCgroupDepth bounds the walk through what apps made below their cgroups.
const maxCgroupDepth = 64

// cgroups are the folders of a pod in the cgroup hierarchies of the host.
type cgroups struct{ contract.Cgroup }

// folders are the pod's folders, each once, the unified hierarchy first.
func (c cgroups) folders() []string {
	var dirs []string
	if c.V2 != "" {
		dirs = append(dirs, filepath.Clean(c.V2))
	}
	for _, h := range c.legacy() {
		dirs = append(dirs, h.dir)
	}
	return dirs
}

// main is the folder in the unified hierarchy that an app is cloned into, or "".
func (c cgroups) main(app string) string {
	if c.V2 == "" {
		return ""
	}
	return filepath.Join(c.V2, appPrefix+app, "main")
}

// hierarchy is the pod's folder in a v1 hierarchy, named by its controllers.
type hierarchy struct{ name, dir string }

// legacy are the v1 hierarchies, each once.
func (c cgroups) legacy() []hierarchy {
	var all []hierarchy
	for _, controller := range slices.Sorted(maps.Keys(c.V1)) {
		dir := filepath.Clean(c.V1[controller])
		if i := slices.IndexFunc(all, func(h hierarchy) bool { return h.dir == dir }); i >= 0 {
			all[i].name += "," + controller
			continue
		}
		all = append(all, hierarchy{controller, dir})
	}
	return all
}

// openTasks opens what a process of an app writes to in order to move into the
// app's v1 cgroups. The unified hierarchy is cloned into. closeTasks closes it.
func (c cgroups) openTasks(app string) (tasks []compile.Tasks, err error) {
	for _, h := range c.legacy() {
		file := filepath.Join(h.dir, appPrefix+app, "tasks")
		fd, err := unix.Open(file, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			closeTasks(tasks)
			return nil, &os.PathError{Op: "open cgroup", Path: file, Err: err}
		}
		tasks = append(tasks, compile.Tasks{FD: fd, Name: h.name})
	}
	return tasks, nil
}

func closeTasks(tasks []compile.Tasks) {
	for _, t := range tasks {
		unix.Close(t.FD)
	}
}

// oomKills is the number of processes of an app that the kernel has killed for
// want of memory. Without a memory controller it is 0.
func (c cgroups) oomKills(app string) uint64 {
	file := ""
	if dir := c.V1["memory"]; dir != "" {
		file = filepath.Join(dir, appPrefix+app, "memory.oom_control")
	} else if c.V2 != "" {
		file = filepath.Join(c.V2, appPrefix+app, "memory.events")
	}
	b, err := readFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if n, ok := strings.CutPrefix(line, "oom_kill "); ok {
			v, _ := strconv.ParseUint(strings.TrimSpace(n), 10, 64)
			return v
		}
	}
	return 0
}

// own are the folders that belong to the pod alone: its own, or in a unit that was
// delegated to it those of its apps.
func (c cgroups) own() ([]string, error) {
	if c.Mark != "" {
		return c.apps()
	}
	return c.folders(), nil
}

// marked says whether the folder of an app is this pod's.
func (c cgroups) marked(dir string) (bool, error) {
	b := make([]byte, len(c.Mark)+1)
	n, err := unix.Getxattr(dir, contract.MarkAttr, b)
	switch err {
	case nil:
		return string(b[:n]) == c.Mark, nil
	case unix.ENODATA, unix.ENOENT, unix.ENODEV, unix.ERANGE:
		return false, nil // another pod's, or gone
	}
	return false, fmt.Errorf("read mark of cgroup %s: %w", dir, err)
}

// apps are the cgroups of all apps that exist, in all hierarchies.
func (c cgroups) apps() ([]string, error) {
	var dirs []string
	for _, dir := range c.folders() {
		sub, err := subfolders(dir)
		if err != nil {
			return nil, err
		}
		for _, name := range sub {
			if !strings.HasPrefix(name, appPrefix) {
				continue
			}
			sub := filepath.Join(dir, name)
			own := c.Mark == ""
			if !own {
				if own, err = c.marked(sub); err != nil {
					return nil, err
				}
			}
			if own {
				dirs = append(dirs, sub)
			}
		}
	}
	return dirs, nil
}

// kill ends every process in the cgroups of all apps and returns when none is
// left. What resists until the deadline is an error that names it.
func (c cgroups) kill(deadline time.Time) error {
	dirs, err := c.apps()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		// A fork bomb would win the race of lists and signals. The file exists on
		// v1 with the pids controller and on v2.
		_ = writeFile(filepath.Join(dir, "pids.max"), "0")
	}
	return killAll(dirs, deadline)
}

// empty is kill for one app that is about to be restarted.
func (c cgroups) empty(app string, deadline time.Time) error {
	var dirs []string
	for _, dir := range c.folders() {
		dirs = append(dirs, filepath.Join(dir, appPrefix+app))
	}
	pids, err := listProcesses(dirs)
	if err != nil || len(pids) == 0 {
		return err
	}
	if err := killAll(dirs, deadline); err != nil {
		return err
	}
	main := c.main(app)
	if main == "" {
		return nil
	}
	// Since Linux 6.14 whoever is cloned into a cgroup that was killed once, from
	// one that was not, is killed too: the kernel compares the two counts.
	if err := unix.Rmdir(main); err != nil {
		return fmt.Errorf("remove cgroup %s: %w", main, err)
	}
	if err := unix.Mkdir(main, 0o755); err != nil {
		return fmt.Errorf("make cgroup %s: %w", main, err)
	}
	return nil
}

func killAll(dirs []string, deadline time.Time) error {
	for {
		left, err := killOnce(dirs)
		if err == nil {
			err = awaitExit(left, deadline)
		}
		for _, v := range left {
			unix.Close(v.pidfd)
		}
		if err != nil {
			return err
		}
		// Only a list that is empty proves it: what was listed may have forked.
		pids, err := listProcesses(dirs)
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v do not die", pids)
		}
	}
}

// victim is a process that was sent SIGKILL.
type victim struct{ pid, pidfd int }

// killOnce sends SIGKILL to what it finds in the trees of cgroups, thaws them,
// because a frozen process does not die, and returns whom it sent it.
func killOnce(dirs []string) (left []victim, err error) {
	for _, dir := range dirs {
		_ = writeFile(filepath.Join(dir, "cgroup.kill"), "1") // v2: reaches the whole tree at once
	}
	before, err := listProcesses(dirs)
	if err != nil {
		return nil, err
	}
	var open []victim
	for _, pid := range before {
		if fd, err := unix.PidfdOpen(pid, 0); err == nil {
			open = append(open, victim{pid, fd})
		}
	}
	after, err := listProcesses(dirs)
	for _, v := range open {
		// Listed after the pidfd was opened and alive after that: the number was
		// this process's while it was listed. Any other may be a stranger's.
		_, listed := slices.BinarySearch(after, v.pid)
		if err != nil || !listed || exited(v.pidfd) {
			unix.Close(v.pidfd)
			continue
		}
		left = append(left, v)
		if e := unix.PidfdSendSignal(v.pidfd, unix.SIGKILL, nil, 0); e != nil && e != unix.ESRCH {
			err = fmt.Errorf("kill process %d: %w", v.pid, e)
		}
	}
	for _, dir := range dirs {
		_ = writeFile(filepath.Join(dir, "freezer.state"), "THAWED")
		_ = writeFile(filepath.Join(dir, "cgroup.freeze"), "0")
	}
	return left, err
}

// awaitExit waits until all victims are dead.
func awaitExit(vs []victim, deadline time.Time) error {
	for _, v := range vs {
		for !exited(v.pidfd) {
			wait := time.Until(deadline)
			if wait <= 0 {
				return fmt.Errorf("process %d does not die", v.pid)
			}
			p := []unix.PollFd{{Fd: int32(v.pidfd), Events: unix.POLLIN}}
			if _, err := unix.Poll(p, int(wait.Milliseconds())+1); err != nil && err != unix.EINTR {
				return fmt.Errorf("wait for process %d: %w", v.pid, err)
			}
		}
	}
	return nil
}

// listProcesses are the sorted pids in the trees of cgroups.
func listProcesses(dirs []string) ([]int, error) {
	var pids []int
	for _, dir := range dirs {
		err := walkCgroups(dir, 0, func(dir string) error {
			b, err := readFile(filepath.Join(dir, "cgroup.procs"))
			if err != nil {
				return ignoreGone(err)
			}
			for line := range strings.Lines(string(b)) {
				// 0 is a process outside this pid namespace.
				if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
					pids = append(pids, pid)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids), nil
}

// remove removes the pod's folders in all hierarchies. Nil means that they are
// not there now. A folder with a process in it is an error.
func (c cgroups) remove() error {
	own, err := c.own()
	errs := []error{err}
	for _, dir := range own {
		err := walkCgroups(dir, 0, func(dir string) error {
			if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
				return fmt.Errorf("remove cgroup %s: %w", dir, err)
			}
			return nil
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// walkCgroups calls f for the cgroup dir and all below it, children first.
func walkCgroups(dir string, depth int, f func(dir string) error) error {
	if depth > maxCgroupDepth {
		return fmt.Errorf("cgroup %s is nested more than %d deep", dir, maxCgroupDepth)
	}
	sub, err := subfolders(dir)
	if err != nil {
		return err
	}
	for _, name := range sub {
		if err := walkCgroups(filepath.Join(dir, name), depth+1, f); err != nil {
			return err
		}
	}
	return f(dir)
}

// subfolders are the names of the folders in a cgroup; none if it is gone.
func subfolders(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, ignoreGone(err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// ignoreGone drops the errors of a cgroup that was removed meanwhile.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
