package supervise

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rkt/internal/cgrouptree"
	"rkt/stage1/compile"
	"rkt/stage1/contract"
)

// appPrefix begins the name of the cgroup of an app.
const appPrefix = "app."

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
		sub, err := cgrouptree.Children(dir)
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
	if err := cgrouptree.Seal(dirs...); err != nil {
		return err
	}
	return killTrees(dirs, deadline)
}

func killTrees(dirs []string, deadline time.Time) error {
	ctx, cancel := context.WithDeadlineCause(context.Background(), deadline, errStubborn)
	defer cancel()
	return cgrouptree.Kill(ctx, dirs...)
}

// errStubborn says why nobody waits any longer.
var errStubborn = fmt.Errorf("they had %v", killDeadline)

// empty is kill for one app that is about to be restarted.
func (c cgroups) empty(app string, deadline time.Time) error {
	var dirs []string
	for _, dir := range c.folders() {
		dirs = append(dirs, filepath.Join(dir, appPrefix+app))
	}
	pids, err := cgrouptree.Processes(dirs...)
	if err != nil || len(pids) == 0 {
		return err
	}
	if err := killTrees(dirs, deadline); err != nil {
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

// remove removes the pod's folders in all hierarchies. Nil means that they are
// not there now. A folder with a process in it is an error.
func (c cgroups) remove() error {
	own, err := c.own()
	return errors.Join(err, cgrouptree.Remove(own...))
}
