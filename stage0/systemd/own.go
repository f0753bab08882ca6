package systemd

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Unit is where a process is, in the words of systemd.
type Unit struct {
	Name string // of the unit; "" = the process is in none
	// Main is true when the process is the main process of the unit.
	Main bool
	// Session is true when the unit is a login or below the service manager of a
	// user: where shells are.
	Session bool
}

// OwnUnit finds out where this process is.
func OwnUnit() (Unit, error) {
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return Unit{}, fmt.Errorf("find own unit: %w", err)
	}
	path := unitPath(string(b))
	return Unit{
		Name:    UnitOf(path),
		Session: strings.HasPrefix(path, "/user.slice/"),
		Main:    os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid()),
	}, nil
}

// UnitOfProcess is the unit that a process is in, "" if it is in none or over.
func UnitOfProcess(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return ""
	}
	return UnitOf(unitPath(string(b)))
}

// WantsScope says whether a pod that is started from here should get a scope of
// its own. A process that is in a unit was put there by somebody who is to find
// the pod there: to limit it, to stop it. A shell is only where it is started
// from, and its end is not to be that of the pod.
func (u Unit) WantsScope() bool {
	switch {
	case u.Name == "" || u.Name == "init.scope":
		return true
	case u.Main:
		return false
	}
	return u.Session
}

// unitPath is the path in /proc/PID/cgroup by which systemd knows a process: that
// in the unified hierarchy, or in its own one where controllers are on v1. On
// hybrid hosts they are the same.
func unitPath(cgroups string) string {
	unified := ""
	for line := range strings.Lines(cgroups) {
		line = strings.TrimSuffix(line, "\n")
		if path, ok := strings.CutPrefix(line, "0::"); ok {
			unified = path
		}
		if _, path, ok := strings.Cut(line, ":name=systemd:"); ok {
			return path
		}
	}
	return unified
}

// UnitOf is the innermost unit in a path of cgroups, "" if there is none.
func UnitOf(path string) string {
	unit := ""
	for name := range strings.SplitSeq(path, "/") {
		if strings.HasSuffix(name, ".service") || strings.HasSuffix(name, ".scope") {
			unit = strings.TrimPrefix(name, "_") // as systemd escapes names of the kernel's
		}
	}
	return unit
}
