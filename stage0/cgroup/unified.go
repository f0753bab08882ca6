package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/internal/cgrouptree"
	"rkt/stage1/contract"
)

// MissingError reports a limit that cannot be set on this host or from where
// rkt was started.
type MissingError struct {
	Controller Controller
	Why        string
	// Unit is the unit of systemd that is not delegated, "" if that is not why.
	Unit string
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("limit cannot be set without the %s controller: %s", e.Controller, e.Why)
}

// Hint says what to do about it.
func (e *MissingError) Hint() string {
	options := map[Controller]string{Memory: "--memory", CPU: "--cpu and --cpu-shares", Pids: "--pids"}[e.Controller]
	if e.Unit != "" {
		return fmt.Sprintf("add the line Delegate=yes to the unit %s, or run without %s", e.Unit, options)
	}
	return fmt.Sprintf("run without %s, or from a systemd unit with Delegate=yes", options)
}

// makeUnified makes the folders in the v2 hierarchy, after it has passed the
// controllers that are needed down to the apps.
func (h *Host) makeUnified(made *folders, uuid string, apps []App, need []Controller) (cg contract.Cgroup, err error) {
	at, err := h.lookAround()
	if err != nil || at.forbidden {
		return cg, errors.Join(err, at.refuse(need))
	}
	if err := h.delegate(at, need); err != nil {
		return cg, err
	}
	if at.whole {
		cg, err = h.makeInUnit(made, uuid, at.base, apps)
		if !errors.Is(err, errTaken) {
			return cg, err
		}
	}
	cg.V2 = filepath.Join(at.base, podPrefix+uuid)
	if err := made.pod(cg.V2, apps, mainLeaf); err != nil {
		return cg, err
	}
	if err := enable(cg.V2, need); err != nil {
		return cg, fmt.Errorf("enable controllers for the apps: %w", err)
	}
	for _, a := range apps {
		if err := setUnified(filepath.Join(cg.V2, appPrefix+a.Name), a.Limits); err != nil {
			return cg, fmt.Errorf("limit app %q: %w", a.Name, err)
		}
	}
	return cg, nil
}

// setUnified sets the limits of an app in its v2 cgroup.
func setUnified(dir string, l contract.Limits) error {
	var s settings
	if l.MemoryBytes > 0 {
		s.set("memory.max", l.MemoryBytes)
		s.setIfThere("memory.swap.max", 0) // else the limit only moves an app to the swap
	}
	if l.CPUMillis > 0 {
		s = append(s, setting{file: "cpu.max", value: fmt.Sprintf("%d %d", l.CPUMillis*cpuPeriodMicros/1000, cpuPeriodMicros)})
	}
	if l.CPUShares > 0 {
		s.set("cpu.weight", weight(l.CPUShares))
	}
	if l.Pids > 0 {
		s.set("pids.max", l.Pids)
	}
	return s.write(dir)
}

// weight maps shares of v1 (2 to 262144) onto the weights of v2 (1 to 10000).
func weight(shares int64) int64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}

// canDelegate says why the children of the v2 cgroup dir cannot have the
// controllers, nil if they can. It changes nothing.
func (h *Host) canDelegate(dir string, need []Controller) error {
	on, err := words(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	there, err := words(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, c := range need {
		switch {
		case slices.Contains(on, string(c)):
		case !slices.Contains(there, string(c)):
			return &MissingError{Controller: c, Why: fmt.Sprintf("it is not enabled for cgroup %s", dir)}
		case dir == h.root || alone(dir):
		default:
			return &MissingError{Controller: c, Why: fmt.Sprintf("cgroup %s has processes beside rkt", dir)}
		}
	}
	return nil
}

// delegate passes controllers of the v2 cgroup at.base on to its children. A
// cgroup other than the root that does so must be empty of processes: this one,
// if it is the only one, moves down into a leaf. In a unit that is the pod's it
// does so in any case.
func (h *Host) delegate(at place, need []Controller) error {
	dir := at.base
	if err := h.canDelegate(dir, need); err != nil {
		return err
	}
	on, err := words(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return err
	}
	missing := slices.DeleteFunc(slices.Clone(need), func(c Controller) bool { return slices.Contains(on, string(c)) })
	moves := at.whole && at.own == dir
	if len(missing) == 0 && !moves {
		return nil
	}
	if dir != h.root && at.own == dir {
		leaf := filepath.Join(dir, supervisor)
		if err := unix.Mkdir(leaf, 0o755); err != nil && err != unix.EEXIST {
			return &os.PathError{Op: "make cgroup", Path: leaf, Err: err}
		}
		if err := cgrouptree.WriteFile(filepath.Join(leaf, "cgroup.procs"), "0"); err != nil {
			return fmt.Errorf("move into own cgroup: %w", err)
		}
	}
	if err := enable(dir, missing); err != nil {
		return &MissingError{Controller: missing[0], Why: err.Error()}
	}
	return nil
}

// enable writes the controllers into the subtree_control of a v2 cgroup.
func enable(dir string, need []Controller) error {
	if len(need) == 0 {
		return nil
	}
	var b strings.Builder
	for _, c := range need {
		fmt.Fprintf(&b, "+%s ", c)
	}
	return cgrouptree.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), b.String())
}

// alone says whether no other process than this one is in the cgroup dir.
func alone(dir string) bool {
	b, err := cgrouptree.ReadFile(filepath.Join(dir, "cgroup.procs"))
	only := strings.TrimSpace(string(b))
	return err == nil && (only == "" || only == strconv.Itoa(os.Getpid()))
}

// words are the space-separated words of a file.
func words(file string) ([]string, error) {
	b, err := cgrouptree.ReadFile(file)
	return strings.Fields(string(b)), err
}
