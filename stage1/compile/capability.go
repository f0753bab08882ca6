package compile

import (
	"fmt"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/program"
)

// capabilitySets are masks of 1<<CAP_X. The inheritable and the ambient set of
// an app are always empty (CVE-2022-24769).
type capabilitySets struct{ bounding, permitted, effective uint64 }

// Capabilities are the sets that a process of the app has just before it
// executes the app, as masks of 1<<CAP_X, for whoever reads them back.
func Capabilities(p *specs.Process) (bounding, permitted, effective uint64, err error) {
	s, err := parseCapabilities(p.Capabilities, p.User.UID)
	return s.bounding, s.permitted, s.effective, err
}

// parseCapabilities reads the sets of config.json; none at all means no
// capabilities. What a user other than root is given does not survive the
// execve, and so is not set in the first place.
func parseCapabilities(c *specs.LinuxCapabilities, uid uint32) (s capabilitySets, err error) {
	if c == nil {
		return s, nil
	}
	if len(c.Inheritable) > 0 || len(c.Ambient) > 0 {
		return s, fmt.Errorf("inheritable and ambient capabilities are not supported")
	}
	for _, set := range []struct {
		mask  *uint64
		names []string
	}{{&s.bounding, c.Bounding}, {&s.permitted, c.Permitted}, {&s.effective, c.Effective}} {
		for _, name := range set.names {
			n := capabilityNumber(name)
			if n < 0 {
				return s, fmt.Errorf("capability %q is not known", name)
			}
			*set.mask |= 1 << n
		}
	}
	if s.effective&^s.permitted != 0 || s.permitted&^s.bounding != 0 {
		return s, fmt.Errorf("effective capabilities must be permitted ones, and those in the bounding set")
	}
	if uid != 0 {
		s.permitted, s.effective = 0, 0
	}
	return s, nil
}

func capabilityNumber(name string) int {
	for i, n := range capabilities {
		if n == name {
			return i
		}
	}
	return -1
}

// capabilities are the names of the capabilities, by number.
var capabilities = [...]string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// dropBounding takes from the bounding set all that is not in keep.
func dropBounding(p *program.Program, keep uint64) {
	var names []string
	for n, name := range capabilities {
		if keep&(1<<n) != 0 {
			names = append(names, name)
		}
	}
	p.DropBounding(keep, strings.Join(names, ", ")).Because("drop capabilities")
}
