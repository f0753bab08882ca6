package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/internal/cgrouptree"
	"rkt/stage1/contract"
)

// maxDepth bounds how deep below the root the cgroups of a pod are looked for.
const maxDepth = 64

// Folders are the folders that belong to the pod alone, each once: its own, or
// in a unit that was delegated to it those of its apps that exist.
func Folders(cg contract.Cgroup) ([]string, error) {
	all := named(cg)
	if cg.Mark == "" {
		return all, nil
	}
	var own []string
	for _, dir := range all {
		names, err := cgrouptree.Children(dir)
		if err != nil {
			return nil, fmt.Errorf("look for cgroups of the pod: %w", err)
		}
		for _, name := range names {
			if !strings.HasPrefix(name, appPrefix) {
				continue
			}
			sub := filepath.Join(dir, name)
			mark, err := markOf(sub)
			if err != nil {
				return nil, err
			}
			if mark == cg.Mark {
				own = append(own, sub)
			}
		}
	}
	return own, nil
}

// markOf is the mark of a cgroup, "" if it has none or is gone.
func markOf(dir string) (string, error) {
	var b [64]byte
	n, err := unix.Getxattr(dir, contract.MarkAttr, b[:])
	switch err {
	case nil:
		return string(b[:n]), nil
	case unix.ENODATA, unix.ENOENT, unix.ENODEV, unix.ERANGE, unix.EOPNOTSUPP:
		return "", nil
	}
	return "", &os.PathError{Op: "read mark of cgroup", Path: dir, Err: err}
}

// named are the folders that the contract names, each once.
func named(cg contract.Cgroup) []string {
	var dirs []string
	for _, dir := range cg.V1 {
		dirs = append(dirs, filepath.Clean(dir))
	}
	if cg.V2 != "" {
		dirs = append(dirs, filepath.Clean(cg.V2))
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// Populated says whether a process is in any cgroup of the pod. Folders that
// are gone have none.
func Populated(cg contract.Cgroup) (bool, error) {
	pids, err := Processes(cg)
	return len(pids) > 0, err
}

// Processes lists the processes in all cgroups of the pod, sorted. A process of
// another pid namespace than the caller's is listed as 0.
func Processes(cg contract.Cgroup) ([]int, error) {
	own, err := Folders(cg)
	if err != nil {
		return nil, err
	}
	return cgrouptree.Processes(own...)
}

// Remove removes the pod's folders and all below them. Nil means that they are
// not there now. A folder with a process in it is an error that names it.
func Remove(cg contract.Cgroup) error {
	own, err := Folders(cg)
	return errors.Join(err, cgrouptree.Remove(own...))
}
