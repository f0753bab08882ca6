// Package cgrouptree treats cgroups as what they are, trees of folders with
// processes in them: it lists these, ends them and removes the folders. It knows
// both versions and nothing of whose they are. A folder that is gone, also while
// it is looked at, has no processes and needs no removal.
package cgrouptree

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
)

// maxDepth bounds the walk through what programs made below their cgroups.
const maxDepth = 64

// Walk calls f for the cgroup dir and all below it, children first. A tree that
// is too deep is an error.
func Walk(dir string, f func(dir string) error) error { return walk(dir, 0, f) }

func walk(dir string, depth int, f func(dir string) error) error {
	if depth > maxDepth {
		return fmt.Errorf("cgroup %s is nested more than %d deep", dir, maxDepth)
	}
	sub, err := Children(dir)
	if err != nil {
		return err
	}
	for _, name := range sub {
		if err := walk(filepath.Join(dir, name), depth+1, f); err != nil {
			return err
		}
	}
	return f(dir)
}

// Children are the names of the cgroups in the cgroup dir.
func Children(dir string) ([]string, error) {
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

// Processes lists the processes in the trees, sorted. Those of another pid
// namespace than the caller's are listed as one 0.
func Processes(dirs ...string) ([]int, error) {
	var all []int
	for _, dir := range dirs {
		err := Walk(dir, func(dir string) error {
			pids, err := Members(dir)
			all = append(all, pids...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Members lists the processes of one cgroup.
func Members(dir string) ([]int, error) {
	b, err := ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return nil, ignoreGone(err)
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

// Remove removes the trees. Nil means that they are not there now. A folder with
// a process in it is an error that names it; the others are removed all the same.
func Remove(dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		errs = append(errs, Walk(dir, func(dir string) error {
			if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
				return fmt.Errorf("remove cgroup %s: %w", dir, err)
			}
			return nil
		}))
	}
	return errors.Join(errs...)
}

// ignoreGone drops the errors of a cgroup that was removed meanwhile.
func ignoreGone(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}

// ReadFile reads a file of cgroupfs or procfs, without the detour over the
// runtime's poller that os.ReadFile takes.
func ReadFile(name string) ([]byte, error) {
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

// WriteFile writes a value to an existing file of cgroupfs or procfs, in one write.
func WriteFile(name, value string) error {
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
