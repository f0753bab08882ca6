package stage0

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/stage0/cgroup"
	"rkt/stage0/plan"
)

// Verdict is what a check of the host comes to.
type Verdict string

// The verdicts.
const (
	Fine    Verdict = "ok"
	Warning Verdict = "warning" // some runs would fail, or do with less
	Failure Verdict = "failure" // a run without further options would fail
)

// Check is one thing that pods need of a host, and whether it has it.
type Check struct {
	Name    string  `json:"name"`
	Verdict Verdict `json:"verdict"`
	Found   string  `json:"found"`
	Advice  string  `json:"advice,omitempty"` // what to do, unless all is well
}

// oldestKernel is the first that has all that pods need: the newest of it is
// the id map of a mount over an overlay (5.19).
var oldestKernel = [2]int{5, 19}

// CheckHost looks at what pods need of the host and its kernel. It changes
// nothing and waits for nothing.
func CheckHost(env *Env) []Check {
	return []Check{
		checkKernel(unameRelease()),
		checkPrivileges("/proc/self/status"),
		checkUserNamespacesLeft("/proc/sys/user/max_user_namespaces"),
		checkCalls(),
		checkOverlay("/proc/filesystems"),
		checkSeccomp("/proc/sys/kernel/seccomp/actions_avail"),
		checkCgroups(),
		checkIDs("/etc/subuid", "/etc/subgid"),
		checkAppArmor("/sys/module/apparmor/parameters/enabled"),
		env.checkStage1(),
	}
}

func unameRelease() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func checkKernel(release string) Check {
	c := Check{Name: "kernel", Verdict: Fine, Found: "Linux " + release}
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		c.Verdict, c.Advice = Warning, "rkt does not understand this version"
		return c
	}
	if major < oldestKernel[0] || major == oldestKernel[0] && minor < oldestKernel[1] {
		c.Verdict, c.Advice = Failure, fmt.Sprintf("Linux %d.%d or newer is needed", oldestKernel[0], oldestKernel[1])
	}
	return c
}

// needed are the capabilities without which nothing works, by their numbers.
var needed = map[string]int{
	"CAP_CHOWN": unix.CAP_CHOWN, "CAP_DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "CAP_KILL": unix.CAP_KILL, "CAP_SETGID": unix.CAP_SETGID,
	"CAP_SETUID": unix.CAP_SETUID, "CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN, "CAP_SYS_CHROOT": unix.CAP_SYS_CHROOT, "CAP_SYS_PTRACE": unix.CAP_SYS_PTRACE,
}

func checkPrivileges(status string) Check {
	c := Check{Name: "privileges", Verdict: Fine, Found: "root with the capabilities that rkt needs"}
	if os.Geteuid() != 0 {
		c.Verdict, c.Found, c.Advice = Failure, fmt.Sprintf("the user %d", os.Geteuid()), "run rkt as root"
		return c
	}
	b, err := os.ReadFile(status)
	_, rest, ok := strings.Cut(string(b), "\nCapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	have, err2 := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err := errors.Join(err, err2); err != nil || !ok {
		c.Verdict, c.Found, c.Advice = Warning, "unknown capabilities", "mount /proc"
		return c
	}
	var missing []string
	for _, name := range slices.Sorted(maps.Keys(needed)) {
		if have&(1<<needed[name]) == 0 {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		c.Verdict, c.Found = Failure, "root without "+strings.Join(missing, ", ")
		c.Advice = "something has taken these away: a container, or CapabilityBoundingSet= of a unit"
	}
	return c
}

func checkUserNamespacesLeft(sysctl string) Check {
	c := Check{Name: "user namespaces", Verdict: Fine}
	n, err := readNumber(sysctl)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.Verdict, c.Found, c.Advice = Failure, "none", "a kernel with CONFIG_USER_NS, or --private-users=no, with less isolation"
	case err != nil:
		c.Verdict, c.Found, c.Advice = Warning, err.Error(), "mount /proc"
	case n == 0:
		c.Verdict, c.Found, c.Advice = Failure, "none allowed", (&NoUserNamespacesError{}).Hint()
	default:
		c.Found = fmt.Sprintf("up to %d", n)
	}
	return c
}

// checkCalls tries newer system calls, which filters of container managers and
// of units refuse.
func checkCalls() Check {
	c := Check{Name: "system calls", Verdict: Fine, Found: "openat2, open_tree and mount_setattr work"}
	fd, err := unix.Openat2(unix.AT_FDCWD, "/", &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
	if err != nil {
		c.Verdict, c.Found = Failure, "openat2: "+err.Error()
		c.Advice = "a filter of system calls forbids it: a container's, or RestrictSUIDSGID= of a unit"
		return c
	}
	unix.Close(fd)
	fd, err = unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err == nil {
		defer unix.Close(fd)
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr)
	}
	if err != nil {
		c.Verdict, c.Found = Failure, "open_tree and mount_setattr: "+err.Error()
		c.Advice = "a filter of system calls or a container forbids mounting: run rkt outside of it"
	}
	return c
}

func checkOverlay(filesystems string) Check {
	c := Check{Name: "overlay", Verdict: Fine, Found: "known to the kernel"}
	b, err := os.ReadFile(filesystems)
	switch {
	case err != nil:
		c.Verdict, c.Found, c.Advice = Warning, err.Error(), "mount /proc"
	case !strings.Contains(string(b), "\toverlay\n"):
		c.Verdict, c.Found, c.Advice = Warning, "not loaded", "modprobe overlay; the first pod does it where modules can be loaded"
	}
	return c
}

func checkSeccomp(actions string) Check {
	c := Check{Name: "seccomp", Verdict: Fine, Found: "filters are there"}
	b, err := os.ReadFile(actions)
	have := " " + strings.TrimSpace(string(b)) + " "
	if err != nil || !strings.Contains(have, " errno ") || !strings.Contains(have, " allow ") {
		c.Verdict, c.Found, c.Advice = Failure, "no filters", "a kernel with CONFIG_SECCOMP_FILTER, or --seccomp=unconfined, with less isolation"
	}
	return c
}

func checkCgroups() Check {
	c := Check{Name: "cgroups", Verdict: Fine}
	host, err := cgroup.Detect()
	if err != nil {
		c.Verdict, c.Found, c.Advice = Failure, err.Error(), "mount cgroup2 on /sys/fs/cgroup"
		return c
	}
	var missing []string
	for _, controller := range []cgroup.Controller{cgroup.CPU, cgroup.Memory, cgroup.Pids} {
		if !host.Has(controller) {
			missing = append(missing, string(controller))
		}
	}
	c.Found = string(host.Mode) + ", limits of cpu, memory and pids"
	if host.Mode == cgroup.None {
		c.Verdict, c.Found, c.Advice = Warning, "none", "mount cgroup2 on /sys/fs/cgroup: without it no limit can be set"
	} else if len(missing) > 0 {
		c.Verdict, c.Found = Warning, string(host.Mode)+", no limits of "+strings.Join(missing, ", ")+" from here"
		c.Advice = "for limits run pods in a unit with Delegate=yes"
	}
	return c
}

func checkIDs(files ...string) Check {
	c := Check{Name: "user ids", Verdict: Fine}
	taken, err := subordinate(files...)
	if err != nil {
		c.Verdict, c.Found, c.Advice = Failure, err.Error(), "make it readable"
		return c
	}
	all := uint64(lastID-firstID) / plan.RangeSize
	var lost uint64
	for _, r := range taken {
		first, end := max(r.first, firstID), min(r.first+r.count, lastID)
		if first < end {
			lost += (end-first)/plan.RangeSize + 1
		}
	}
	free := all - min(lost, all)
	c.Found = fmt.Sprintf("room for %d pods of %d ids, from %d", free, plan.RangeSize, firstID)
	if free < 100 {
		c.Verdict, c.Advice = Warning, "take ranges above 524288 out of "+strings.Join(files, " and ")
	}
	if free == 0 {
		c.Verdict = Failure
	}
	return c
}

func checkAppArmor(enabled string) Check {
	c := Check{Name: "AppArmor", Verdict: Fine, Found: "off"}
	if b, err := os.ReadFile(enabled); err == nil && strings.TrimSpace(string(b)) == "Y" {
		c.Found = "on; pods are confined by namespaces, seccomp and capabilities, without a profile"
	}
	return c
}

// checkStage1 looks for the default flavour.
func (e *Env) checkStage1() Check {
	c := Check{Name: "stage1", Verdict: Fine}
	s, err := e.findStage1("")
	if err == nil {
		var command []string
		if command, err = s.command("run"); err == nil {
			c.Found = command[0]
			err = unix.Access(command[0], unix.X_OK)
		}
	}
	if err != nil {
		c.Verdict, c.Found, c.Advice = Failure, err.Error(), "install rkt again, or run it beside its folder stage1"
	}
	return c
}
