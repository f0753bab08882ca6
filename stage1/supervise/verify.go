package supervise

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/compile"
	"rkt/stage1/contract"
)

// Verify reads back from outside what the program has done, from the kernel's
// own account of the process. A security setting that did not take, for a reason
// that nobody foresaw, must not be found out by an attacker.
func (n *Native) Verify(t *Task, pid int) error {
	st, err := readStatus(pid)
	if err != nil {
		return err
	}
	filtered := t.filtered()
	for _, check := range []func() error{
		func() error { return verifyPrivileges(st, t.Spec.Process, filtered, false) },
		func() error { return verifyUser(st, t.Spec.Process.User, t.Host.IDs) },
		func() error { return verifyMap(pid, t.Pod, t.Host) },
		func() error { return verifyMounts(pid, t.Spec) },
	} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// filtered says whether the app has a seccomp filter.
func (t *Task) filtered() bool {
	f, err := os.Stat(path.Join(t.Dir, contract.SeccompFile))
	return err == nil && f.Size() > 0
}

// VerifyHost is Verify for an app in the host's namespaces, which is only as
// confined as its config.json says.
func VerifyHost(t *Task, pid int) error {
	st, err := readStatus(pid)
	if err != nil {
		return err
	}
	if err := verifyPrivileges(st, t.Spec.Process, t.filtered(), true); err != nil {
		return err
	}
	return verifyUser(st, t.Spec.Process.User, nil)
}

// verifyPrivileges compares capabilities, no_new_privs and the seccomp mode.
// With keep, a process without a word about capabilities may have any.
func verifyPrivileges(st map[string]string, p *specs.Process, filtered, keep bool) error {
	if err := verifyCapabilities(st, p); err != nil && (!keep || p.Capabilities != nil) {
		return err
	}
	nnp := "0"
	if p.NoNewPrivileges {
		nnp = "1"
	}
	if st["NoNewPrivs"] != nnp {
		return mismatch("NoNewPrivs", st["NoNewPrivs"], nnp)
	}
	if filtered && st["Seccomp"] != "2" {
		return mismatch("Seccomp", st["Seccomp"], "2")
	}
	return nil
}

func verifyCapabilities(st map[string]string, p *specs.Process) error {
	bounding, permitted, effective, err := compile.Capabilities(p)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		key  string
		want uint64
	}{{"CapBnd", bounding}, {"CapPrm", permitted}, {"CapEff", effective}, {"CapInh", 0}, {"CapAmb", 0}} {
		if got, err := strconv.ParseUint(st[c.key], 16, 64); err != nil || got != c.want {
			return mismatch(c.key, st[c.key], fmt.Sprintf("%016x", c.want))
		}
	}
	return nil
}

func mismatch(what, got, want string) error {
	return fmt.Errorf("%s is %q, want %q", what, got, want)
}

// verifyUser compares all user and group ids as the host sees them.
func verifyUser(st map[string]string, u specs.User, ids []contract.IDMap) error {
	for _, c := range []struct {
		key string
		id  uint32
	}{{"Uid", u.UID}, {"Gid", u.GID}} {
		host, ok := outside(ids, c.id)
		if !ok {
			return fmt.Errorf("%s %d is not in the id range of the pod", c.key, c.id)
		}
		for _, f := range strings.Fields(st[c.key]) {
			if f != strconv.FormatUint(uint64(host), 10) {
				return mismatch(c.key, st[c.key], strconv.FormatUint(uint64(host), 10))
			}
		}
	}
	var want, got []string
	for _, g := range u.AdditionalGids {
		host, ok := outside(ids, g)
		if !ok {
			return fmt.Errorf("group %d is not in the id range of the pod", g)
		}
		want = append(want, strconv.FormatUint(uint64(host), 10))
	}
	got = strings.Fields(st["Groups"])
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, slices.Compact(want)) && !slices.Equal(got, want) {
		return mismatch("Groups", strings.Join(got, " "), strings.Join(want, " "))
	}
	return nil
}

// verifyMap compares the id map that the process lives under.
func verifyMap(pid int, pod *contract.Pod, host *contract.Host) error {
	if pod.User != contract.Private {
		return nil
	}
	b, err := readFile(procPath(pid, "uid_map"))
	if err != nil {
		return err
	}
	got, want := strings.Fields(string(b)), strings.Fields(mapText(host.IDs))
	if !slices.Equal(got, want) {
		return mismatch("the id map", strings.Join(got, " "), strings.Join(want, " "))
	}
	return nil
}

// mounted is what a line of /proc/PID/mountinfo says of a mount: its flags and
// those of its filesystem, separated by commas.
type mounted struct{ flags, super string }

func (m mounted) has(flag string) bool { return hasFlag(m.flags, flag) }

func hasFlag(list, flag string) bool {
	for f := range strings.SplitSeq(list, ",") {
		if f == flag {
			return true
		}
	}
	return false
}

// readMounts reads the mounts of a process by mount point; of several on one
// point the topmost.
func readMounts(pid int) (map[string]mounted, error) {
	return readMountinfo(procPath(pid, "mountinfo"))
}

func readMountinfo(path string) (map[string]mounted, error) {
	b, err := readFile(path)
	if err != nil {
		return nil, err
	}
	all := make(map[string]mounted, 32)
	for line := range strings.Lines(string(b)) {
		// 36 35 98:0 /root /point flags optional... - type source super
		head, tail, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " - ")
		var point, flags string
		n := 0
		for f := range strings.FieldsSeq(head) {
			switch n++; n {
			case 5:
				point = f
			case 6:
				flags = f
			}
		}
		if !ok || n < 6 {
			return nil, fmt.Errorf("parse mountinfo: %q", line)
		}
		all[unescape(point)] = mounted{flags, tail[strings.LastIndexByte(tail, ' ')+1:]}
	}
	return all, nil
}

// unescape undoes the octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// verifyMounts checks that the root is as it was asked for and that whatever is
// to be hidden or read-only is. A path that does not exist needs no protection.
func verifyMounts(pid int, spec *specs.Spec) error {
	mounts, err := readMounts(pid)
	if err != nil {
		return err
	}
	root, ok := mounts["/"]
	if !ok {
		return errors.New("the process has no root mount")
	}
	readonly := spec.Root != nil && spec.Root.Readonly
	switch {
	case !root.has("nodev"):
		return errors.New("the root is not nodev")
	case spec.Process.NoNewPrivileges && !root.has("nosuid"):
		return errors.New("the root is not nosuid")
	case readonly && !root.has("ro"):
		return errors.New("the root is not read-only")
	case !readonly && (root.has("ro") || hasFlag(root.super, "ro")):
		return errors.New("the root is read-only")
	}
	fd, err := unix.Open(procPath(pid, "root"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the root: %w", err)
	}
	defer unix.Close(fd)
	for _, p := range spec.Linux.MaskedPaths {
		if m, ok := mounts[path.Clean(p)]; !ok && exists(fd, p) {
			return fmt.Errorf("%q is not masked", p)
		} else if ok && !m.has("ro") {
			return fmt.Errorf("the mask of %q is not read-only", p)
		}
	}
	for _, p := range spec.Linux.ReadonlyPaths {
		if m, ok := mounts[path.Clean(p)]; !ok && exists(fd, p) || ok && !m.has("ro") {
			return fmt.Errorf("%q is not read-only", p)
		}
	}
	return nil
}

// exists says whether the path p leads to something in root. Its last component
// is not followed: a mount is on what a link leads to, which has another name.
func exists(root int, p string) bool {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	fd, err := unix.Openat2(root, strings.TrimPrefix(path.Clean(p), "/"), &how)
	if err != nil {
		return err != unix.ENOENT && err != unix.ENOTDIR
	}
	defer unix.Close(fd)
	// The mount that is found may be the mask, under a path with other links.
	var st unix.Statx_t
	err = unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &st)
	return err != nil || st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 && st.Mode&unix.S_IFMT != unix.S_IFLNK
}
