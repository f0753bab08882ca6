// Package cgroup gives a pod its place in the cgroup hierarchies of the host,
// whatever they are: v1, v2, or both. It makes the folders and sets the limits
// (Host.Make), says whether anything is alive in them (Populated), and removes
// them (Remove). It never moves an app: that is for stage1, and only of itself
// does it move this process, where v2 demands it.
//
// A pod lies below the cgroup that rkt was started in, so that whoever limits or
// kills that one (a unit, a session) reaches the pod.
package cgroup

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/cgroups/v3"
	"golang.org/x/sys/unix"

	"rkt/internal/cgrouptree"
	"rkt/stage1/contract"
)

// mountRoot is where the hierarchies are mounted, by convention of all of userland.
const mountRoot = "/sys/fs/cgroup"

// Names of folders.
const (
	podPrefix  = "rkt-" // plus the pod's UUID, below the caller's cgroup
	appPrefix  = "app." // plus the app's name, below the pod's
	mainLeaf   = "main" // v2: where the processes of an app are
	supervisor = "supervisor"
)

// Mode is how the host mounts its cgroups.
type Mode string

// The modes.
const (
	None   Mode = "none"
	V1     Mode = "v1"
	V2     Mode = "v2"
	Hybrid Mode = "hybrid" // controllers in v1, an almost empty v2 beside them
)

// Controller is a resource controller, by its v1 name.
type Controller string

// The controllers that limits need.
const (
	Memory Controller = "memory"
	CPU    Controller = "cpu"
	Pids   Controller = "pids"
)

// App is an app that is to have a cgroup, with its limits.
type App struct {
	Name   string
	Limits contract.Limits
}

// Host is the cgroup side of this host as this process sees it.
type Host struct {
	Mode Mode
	root string
	// managed says that the cgroups are systemd's: others may only make some where
	// it has delegated that to them.
	managed bool
	// own are the cgroups of this process by v1 controller; "" is the unified one.
	own map[string]string
}

// Detect finds out the mode and this process's own cgroups.
func Detect() (*Host, error) {
	h := &Host{root: mountRoot}
	switch cgroups.Mode() {
	case cgroups.Unified:
		h.Mode = V2
	case cgroups.Hybrid:
		h.Mode = Hybrid
	case cgroups.Legacy:
		h.Mode = V1
	default:
		h.Mode = None
		return h, nil
	}
	h.managed = unix.Access(booted, unix.F_OK) == nil
	b, err := cgrouptree.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find own cgroup: %w", err)
	}
	h.own = parseOwn(string(b))
	return h, nil
}

// parseOwn reads lines of the form "hierarchy:controller,controller:path".
func parseOwn(s string) map[string]string {
	own := make(map[string]string)
	for line := range strings.Lines(s) {
		_, rest, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, dir, ok2 := strings.Cut(rest, ":")
		if !ok || !ok2 {
			continue
		}
		for c := range strings.SplitSeq(controllers, ",") {
			own[c] = dir
		}
	}
	return own
}

// Has says whether limits that need c can be set for a pod that is made now.
func (h *Host) Has(c Controller) bool {
	switch h.Mode {
	case V1, Hybrid:
		_, ok := h.own[string(c)]
		at, err := h.lookAround()
		return ok && err == nil && !at.forbidden
	case V2:
		at, err := h.lookAround()
		return err == nil && !at.forbidden && h.canDelegate(at.base, []Controller{c}) == nil
	case None:
	}
	return false
}

// Make makes the cgroups of a pod and of its apps with their limits. A limit
// that this host cannot set is a *MissingError, and nothing is left behind then.
func (h *Host) Make(uuid string, apps []App) (cg contract.Cgroup, err error) {
	var made folders
	defer func() {
		if err != nil {
			made.remove()
			cg = contract.Cgroup{}
		}
	}()
	need := needed(apps)
	switch h.Mode {
	case V2:
		return h.makeUnified(&made, uuid, apps, need)
	case V1, Hybrid:
		return h.makeLegacy(&made, uuid, apps, need)
	case None:
	}
	if len(need) > 0 {
		return cg, &MissingError{Controller: need[0], Why: "no cgroups are mounted at " + h.root}
	}
	return cg, nil
}

// needed are the controllers that the limits of apps need, sorted.
func needed(apps []App) []Controller {
	set := make(map[Controller]bool, 3)
	for _, a := range apps {
		for c, on := range map[Controller]bool{
			Memory: a.Limits.MemoryBytes > 0,
			CPU:    a.Limits.CPUMillis > 0 || a.Limits.CPUShares > 0,
			Pids:   a.Limits.Pids > 0,
		} {
			if on {
				set[c] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// makeLegacy makes folders in the v1 hierarchies of the controllers that are
// needed. Each costs a migration when the app starts, so no more than these; but
// one is needed to find the processes of a pod again, where v2 does not do that.
func (h *Host) makeLegacy(made *folders, uuid string, apps []App, need []Controller) (cg contract.Cgroup, err error) {
	at, err := h.lookAround()
	if err != nil || at.forbidden {
		return cg, errors.Join(err, at.refuse(need))
	}
	if h.Mode == V1 && !slices.Contains(need, Pids) {
		if _, ok := h.own[string(Pids)]; ok {
			need = append(need, Pids)
		}
	}
	cg.V1 = make(map[string]string, len(need))
	for _, c := range need {
		if _, ok := h.own[string(c)]; !ok {
			return cg, &MissingError{Controller: c, Why: "this host has not mounted it"}
		}
		dir, err := h.ownDir(string(c), filepath.Join(h.root, string(c)))
		if err != nil {
			return cg, err
		}
		dir = filepath.Join(dir, podPrefix+uuid)
		cg.V1[string(c)] = dir
		if slices.Contains(*made, dir) {
			continue // two controllers in one hierarchy
		}
		if err := made.pod(dir, apps, ""); err != nil {
			return cg, err
		}
	}
	for _, a := range apps {
		for c, dir := range cg.V1 {
			if err := setLegacy(filepath.Join(dir, appPrefix+a.Name), Controller(c), a.Limits); err != nil {
				return cg, fmt.Errorf("limit app %q: %w", a.Name, err)
			}
		}
	}
	if h.Mode == Hybrid {
		dir, err := h.ownDir("", filepath.Join(h.root, "unified"))
		if err != nil {
			return cg, err
		}
		cg.V2 = filepath.Join(dir, podPrefix+uuid)
		return cg, made.pod(cg.V2, apps, mainLeaf)
	}
	return cg, nil
}

// folders are the cgroups that one call of Make has made, in that order.
type folders []string

func (f *folders) mkdir(dir string) error {
	if err := unix.Mkdir(dir, 0o755); err != nil {
		return &os.PathError{Op: "make cgroup", Path: dir, Err: err}
	}
	*f = append(*f, dir)
	return nil
}

// pod makes the pod's folder and one for each app, with a leaf in it if wanted.
func (f *folders) pod(dir string, apps []App, leaf string) error {
	if err := f.mkdir(dir); err != nil {
		return err
	}
	for _, a := range apps {
		sub := filepath.Join(dir, appPrefix+a.Name)
		if err := f.mkdir(sub); err != nil {
			return err
		}
		if leaf == "" {
			continue
		}
		if err := f.mkdir(filepath.Join(sub, leaf)); err != nil {
			return err
		}
	}
	return nil
}

// remove removes what was made. Nothing can be in it yet.
func (f folders) remove() {
	for _, dir := range slices.Backward(f) {
		_ = unix.Rmdir(dir) // gc removes what resists
	}
}

// setLegacy sets the limits of one v1 controller.
func setLegacy(dir string, c Controller, l contract.Limits) error {
	var s settings
	switch c {
	case Memory:
		if l.MemoryBytes > 0 {
			s.set("memory.limit_in_bytes", l.MemoryBytes)
			// Memory and swap together: else the limit only moves an app to the swap.
			s.setIfThere("memory.memsw.limit_in_bytes", l.MemoryBytes)
		}
	case CPU:
		if l.CPUMillis > 0 {
			s.set("cpu.cfs_period_us", cpuPeriodMicros)
			s.set("cpu.cfs_quota_us", l.CPUMillis*cpuPeriodMicros/1000)
		}
		if l.CPUShares > 0 {
			s.set("cpu.shares", l.CPUShares)
		}
	case Pids:
		if l.Pids > 0 {
			s.set("pids.max", l.Pids)
		}
	}
	return s.write(dir)
}

// cpuPeriodMicros is the kernel's default period, in which a quota counts.
const cpuPeriodMicros = 100_000

// settings are values for the files of one cgroup, in order.
type settings []setting

type setting struct {
	file, value string
	optional    bool // a kernel may have been built without it
}

func (s *settings) set(file string, value int64) {
	*s = append(*s, setting{file, strconv.FormatInt(value, 10), false})
}

func (s *settings) setIfThere(file string, value int64) {
	*s = append(*s, setting{file, strconv.FormatInt(value, 10), true})
}

func (s settings) write(dir string) error {
	for _, v := range s {
		err := cgrouptree.WriteFile(filepath.Join(dir, v.file), v.value)
		if v.optional && os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ownDir is the folder of this process's own cgroup of a controller, in the
// hierarchy mounted at mount. In a container without a cgroup namespace the path
// is that of the host and the mount shows the container's own cgroup.
func (h *Host) ownDir(controller, mount string) (string, error) {
	own, ok := h.own[controller]
	if !ok {
		return "", fmt.Errorf("own cgroup is not in the hierarchy at %s", mount)
	}
	if !strings.HasPrefix(own, "/..") {
		dir := filepath.Join(mount, path.Clean(own))
		if unix.Access(dir, unix.F_OK) == nil {
			return dir, nil
		}
	}
	pids, err := cgrouptree.Members(mount)
	if err == nil && slices.Contains(pids, os.Getpid()) {
		return mount, nil
	}
	return "", fmt.Errorf("own cgroup %q is not visible below %s", own, mount)
}
