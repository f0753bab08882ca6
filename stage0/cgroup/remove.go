package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// maxDepth bounds the walk through what apps made below their cgroups.
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
		entries, err := os.ReadDir(dir)
		if err != nil && ignoreGone(err) != nil {
			return nil, fmt.Errorf("look for cgroups of the pod: %w", err)
		}
		for _, e := range entries {
			sub := filepath.Join(dir, e.Name())
			if !e.IsDir() || !strings.HasPrefix(e.Name(), appPrefix) {
				continue
			}
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
	var all []int
	for _, dir := range own {
		err := walk(dir, 0, func(dir string) error {
			pids, err := processes(dir)
			all = append(all, pids...)
			return ignoreGone(err)
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Remove removes the pod's folders and all below them. Nil means that they are
// not there now. A folder with a process in it is an error that names it.
func Remove(cg contract.Cgroup) error {
	own, err := Folders(cg)
	errs := []error{err}
	for _, dir := range own {
		errs = append(errs, walk(dir, 0, func(dir string) error {
			if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
				return fmt.Errorf("remove cgroup %s: %w", dir, err)
			}
			return nil
		}))
	}
	return errors.Join(errs...)
}

// walk calls f for the cgroup dir and all below it, children first.
func walk(dir string, depth int, f func(dir string) error) error {
	if depth > maxDepth {
		return fmt.Errorf("cgroup %s is nested more than %d deep", dir, maxDepth)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ignoreGone(err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if err := walk(filepath.Join(dir, e.Name()), depth+1, f); err != nil {
			return err
		}
	}
	return f(dir)
}

// processes lists the processes of one cgroup.
func processes(dir string) ([]int, error) {
	b, err := readFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil, err
	}
	var pids []int
	for line := range strings.Lines(string(b)) {
		pid, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return nil, fmt.Errorf("parse processes of cgroup %s: %w", dir, err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}

// ignoreGone drops the errors of a cgroup that was removed meanwhile.
func ignoreGone(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// readFile reads a file of cgroupfs or procfs, without the detour over the
// runtime's poller that os.ReadFile takes.
func readFile(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	var all bytes.Buffer
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "read", Path: name, Err: err}
		}
		if n == 0 {
			return all.Bytes(), nil
		}
		all.Write(buf[:n])
	}
}

// writeFile writes a value to a file of cgroupfs, in one write.
func writeFile(name, value string) error {
	fd, err := unix.Open(name, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return &os.PathError{Op: "write " + strconv.Quote(value) + " to", Path: name, Err: err}
	}
	return nil
}
