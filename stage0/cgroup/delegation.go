package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// booted exists where systemd is the init of the host (sd_booted(3)).
const booted = "/run/systemd/system"

// place is where this process is, and where a pod of it may have its cgroups.
type place struct {
	own  string // the folder of the cgroup of this process
	base string // the folder below which those of a pod are made
	// whole says that all of base is for this pod: a unit that was delegated to
	// this process alone.
	whole bool
	// forbidden says that nothing may be made anywhere, as unit, in which this
	// process is, was not delegated.
	forbidden bool
	unit      string
}

// lookAround finds the place of this process in the hierarchy by which the host
// tracks processes. Where systemd owns that, a cgroup is for others to change if
// it says so by an attribute (systemd.io/CGROUP_DELEGATION). What is delegated
// is the cgroup of the unit; with DelegateSubgroup= this process is one below it.
func (h *Host) lookAround() (at place, err error) {
	controller, mount := "", h.root
	switch {
	case h.Mode == Hybrid:
		mount = filepath.Join(h.root, "unified")
	case h.Mode == V1 && !h.managed:
		return place{}, nil // each controller has its own
	case h.Mode == V1:
		controller, mount = "name=systemd", filepath.Join(h.root, "systemd")
	}
	if at.own, err = h.ownDir(controller, mount); err != nil {
		return at, err
	}
	at.base, at.unit = at.own, filepath.Base(at.own)
	if !h.managed {
		return at, nil
	}
	if ok, err := delegated(at.own); ok || err != nil {
		at.whole = alone(at.own)
		return at, err
	}
	above := filepath.Dir(at.own)
	if isUnit(filepath.Base(above)) && len(above) > len(mount) {
		ok, err := delegated(above)
		if ok || err != nil {
			at.base, at.unit = above, filepath.Base(above)
			at.whole = alone(above)
			return at, err
		}
	}
	at.forbidden = true
	return at, nil
}

// isUnit says whether a folder of that name is the cgroup of a unit that has
// processes.
func isUnit(name string) bool {
	return strings.HasSuffix(name, ".service") || strings.HasSuffix(name, ".scope")
}

// delegated says whether systemd has delegated the cgroup dir. Older ones set
// the attribute in the trusted namespace only.
func delegated(dir string) (bool, error) {
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		var b [8]byte
		n, err := unix.Getxattr(dir, name, b[:])
		switch {
		case err == nil && string(b[:n]) == "1":
			return true, nil
		case err == nil, err == unix.ENODATA, err == unix.EOPNOTSUPP, err == unix.ERANGE:
		default:
			return false, &os.PathError{Op: "ask whether cgroup is delegated", Path: dir, Err: err}
		}
	}
	return false, nil
}

// refuse is the error of limits that need cgroups where none may be made; nil if
// there are no such limits.
func (p place) refuse(need []Controller) error {
	if len(need) == 0 {
		return nil
	}
	return &MissingError{
		Controller: need[0], Unit: p.unit,
		Why: fmt.Sprintf("systemd has not delegated the cgroup of %s, in which the pod stays", p.unit),
	}
}

// errTaken reports that the unit has folders of these names already, or a
// filesystem that cannot mark them.
var errTaken = errors.New("the unit has other pods")

// makeInUnit makes the folders of the apps in the v2 cgroup base of a unit, and
// marks them as those of this pod. On errTaken nothing is left.
func (h *Host) makeInUnit(made *folders, uuid, base string, apps []App) (cg contract.Cgroup, err error) {
	cg = contract.Cgroup{V2: base, Mark: uuid}
	for _, a := range apps {
		dir := filepath.Join(base, appPrefix+a.Name)
		err := made.mkdir(dir)
		if err == nil {
			err = unix.Setxattr(dir, contract.MarkAttr, []byte(uuid), unix.XATTR_CREATE)
		}
		if errors.Is(err, os.ErrExist) || errors.Is(err, unix.EOPNOTSUPP) {
			made.remove()
			*made = nil
			return contract.Cgroup{}, errTaken
		}
		if err != nil {
			return cg, fmt.Errorf("make cgroup of app %q: %w", a.Name, err)
		}
		if err := made.mkdir(filepath.Join(dir, mainLeaf)); err != nil {
			return cg, err
		}
		if err := setUnified(dir, a.Limits); err != nil {
			return cg, fmt.Errorf("limit app %q: %w", a.Name, err)
		}
	}
	return cg, nil
}
