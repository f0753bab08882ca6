package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
)

// closeOthers closes what was left open by whoever started rkt. What the Go
// runtime opens for itself stays.
func closeOthers(keep int) error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= keep {
			continue
		}
		target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err != nil || strings.HasPrefix(target, "anon_inode:[event") {
			continue // the folder itself, closed by now; the poller
		}
		unix.Close(fd)
	}
	return nil
}

// openForWriting replaces descriptors of files by ones that can be written to.
// What stands for a file that was not given is left alone.
func openForWriting(fds ...int) error {
	for _, fd := range fds {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		n, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Dup3(n, fd, unix.O_CLOEXEC)
		unix.Close(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// preferToDie lets the kernel, when memory runs out, take this process rather
// than one that somebody needs. Without it nothing is less safe.
func preferToDie() { _ = os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0) }

// becomeUser gives up the uid of root. In a user namespace the uid is another's
// since before the program was executed.
func becomeUser(o Options) error {
	if o.How == wire.HowUser {
		return nil
	}
	if err := syscall.Setgroups(nil); err != nil {
		return fmt.Errorf("setgroups: %w", err)
	}
	if err := syscall.Setresgid(o.GID, o.GID, o.GID); err != nil {
		return fmt.Errorf("setresgid: %w", err)
	}
	if err := syscall.Setresuid(o.UID, o.UID, o.UID); err != nil {
		return fmt.Errorf("setresuid: %w", err)
	}
	// The change of the uid took the signal away that comes when rkt dies.
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
}

// lastCapability is above all that there are; the kernel refuses what it has not.
const lastCapability = 63

// securebits: no capabilities for uid 0, none kept or raised, all of it locked.
const securebits = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<5 | 1<<6 | 1<<7

// kept are the capabilities of a role: those to make files of any owner, with any
// mode and attribute, for the one that unpacks.
func kept(r wire.Role) uint64 {
	if r != wire.UnpackLayer {
		return 0
	}
	return 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FOWNER | 1<<unix.CAP_FSETID | 1<<unix.CAP_SETFCAP
}

// dropCapabilities gives up all capabilities but those of the mask, and the means
// to get others.
func dropCapabilities(how wire.How, keep uint64) error {
	if how != wire.HowUser {
		dropBounding(keep)
	}
	_ = onAllThreads("prctl", unix.SYS_PRCTL, unix.PR_SET_SECUREBITS, securebits, 0)
	_ = onAllThreads("prctl", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0)
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(keep), Permitted: uint32(keep)},
		{Effective: uint32(keep >> 32), Permitted: uint32(keep >> 32)},
	}
	return onAllThreads("capset", unix.SYS_CAPSET, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&data[0])), 0)
}

// dropBounding takes what is not kept from the bounding set, which counts when a
// program is executed: one of several reasons for which none brings a capability.
// It stops every thread 41 times, 2 ms, so that it is left out where a capability
// would be of a user namespace that has nothing else in it.
func dropBounding(keep uint64) {
	for c := range uintptr(lastCapability + 1) {
		has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err != nil {
			break // past the last one
		}
		if has == 0 || keep>>c&1 == 1 {
			continue
		}
		// Who may not take from the bounding set has nothing that it would bound.
		if err := onAllThreads("prctl", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, c, 0); err != nil {
			break
		}
	}
}

// limits of a process, by role. A window of 128 MiB to inflate into is the most
// memory that a layer may ask for.
func limits(r wire.Role) map[int]uint64 {
	l := map[int]uint64{
		unix.RLIMIT_CORE:     0,
		unix.RLIMIT_MEMLOCK:  0,
		unix.RLIMIT_MSGQUEUE: 0,
		unix.RLIMIT_NPROC:    256, // threads
		unix.RLIMIT_NOFILE:   64,
		unix.RLIMIT_DATA:     1 << 30,
		unix.RLIMIT_AS:       8 << 30, // mostly reserved, never touched
		unix.RLIMIT_FSIZE:    maxFile,
	}
	switch r {
	case wire.AskRegistries, wire.ReadImage:
		l[unix.RLIMIT_NOFILE] = 512
	case wire.UnpackLayer: // one for each level of folders
		l[unix.RLIMIT_NOFILE] = 4096
		delete(l, unix.RLIMIT_NPROC) // counted with all of root's
	}
	return l
}

// maxFile bounds what is written to one file, in bytes: the tar of a layer.
const maxFile = 256 << 30

// setLimits lowers the limits and never raises one.
func setLimits(r wire.Role) error {
	for resource, most := range limits(r) {
		var now unix.Rlimit
		if err := unix.Getrlimit(resource, &now); err != nil {
			return fmt.Errorf("getrlimit: %w", err)
		}
		if most = min(most, now.Max); now.Cur != most || now.Max != most {
			if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
				return fmt.Errorf("setrlimit: %w", err)
			}
		}
	}
	return nil
}
