package plan

import (
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/contract"
)

// defaultCaps are what the entrypoints of images do as root before they become
// somebody else: prepare files, drop to a user, signal. Low ports and ping work
// without a capability in a pod's own network.
func defaultCaps() []string {
	return []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID", "CAP_SETUID",
	}
}

// capDefault in a list of capabilities stands for the default set.
const capDefault = "DEFAULT"

// capAll in a list of capabilities stands for all that there are.
const capAll = "ALL"

// knownCaps are the capabilities of Linux 5.9 and later.
func knownCaps() []string {
	return strings.Fields(`
		CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_AUDIT_WRITE CAP_BLOCK_SUSPEND CAP_BPF CAP_CHECKPOINT_RESTORE
		CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_IPC_LOCK CAP_IPC_OWNER
		CAP_KILL CAP_LEASE CAP_LINUX_IMMUTABLE CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_MKNOD CAP_NET_ADMIN
		CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_RAW CAP_PERFMON CAP_SETFCAP CAP_SETGID CAP_SETPCAP
		CAP_SETUID CAP_SYSLOG CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_CHROOT CAP_SYS_MODULE CAP_SYS_NICE
		CAP_SYS_PACCT CAP_SYS_PTRACE CAP_SYS_RAWIO CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG
		CAP_WAKE_ALARM`)
}

// capabilities decides about the sets of an app. Inheritable and ambient are
// empty. Root has what its bounding set has. Another user has nothing, and a
// bounding set only when the operator names one: it limits what privilege
// escalation, if that is allowed, can give.
func (c *compiler) capabilities(a *App, name string, p *specs.Process) error {
	if !c.has[contract.FeatureCaps] {
		return nil
	}
	caps, err := capSet(a)
	if err != nil {
		return err
	}
	for _, cap := range caps {
		if !slices.Contains(defaultCaps(), cap) {
			if a.CapsRetain == nil {
				c.weaken(name, "--cap-add="+strings.Join(a.CapsAdd, ","))
				break
			}
			c.weaken(name, "--caps-retain="+strings.Join(a.CapsRetain, ","))
			break
		}
	}
	none := []string{}
	p.Capabilities = &specs.LinuxCapabilities{
		Bounding: caps, Effective: caps, Permitted: caps, Inheritable: none, Ambient: none,
	}
	if p.User.UID != 0 {
		p.Capabilities.Effective, p.Capabilities.Permitted = none, none
		if a.CapsRetain == nil && a.CapsAdd == nil && !a.AllowPrivilegeEscalation {
			p.Capabilities.Bounding = none
		}
	}
	return nil
}

// capSet is the set that the operator wants, sorted.
func capSet(a *App) ([]string, error) {
	if a.CapsRetain != nil && a.CapsRemove != nil {
		return nil, fmt.Errorf("--caps-retain and --caps-remove exclude each other")
	}
	if a.CapsAdd != nil || a.CapsDrop != nil {
		return changedCaps(a)
	}
	if a.CapsRetain == nil {
		remove, err := parseCaps(a.CapsRemove)
		if err != nil {
			return nil, fmt.Errorf("--caps-remove: %w", err)
		}
		return slices.DeleteFunc(defaultCaps(), func(s string) bool { return slices.Contains(remove, s) }), nil
	}
	caps, err := parseCaps(a.CapsRetain)
	if err != nil {
		return nil, fmt.Errorf("--caps-retain: %w", err)
	}
	return caps, nil
}

// changedCaps is the default set without what is dropped and with what is added.
func changedCaps(a *App) ([]string, error) {
	if a.CapsRetain != nil || a.CapsRemove != nil {
		return nil, fmt.Errorf("--cap-add and --cap-drop exclude --caps-retain and --caps-remove")
	}
	drop, err := parseCaps(a.CapsDrop)
	if err != nil {
		return nil, fmt.Errorf("--cap-drop: %w", err)
	}
	add, err := parseCaps(a.CapsAdd)
	if err != nil {
		return nil, fmt.Errorf("--cap-add: %w", err)
	}
	caps := slices.DeleteFunc(defaultCaps(), func(s string) bool { return slices.Contains(drop, s) })
	caps = append(caps, add...)
	slices.Sort(caps)
	return slices.Compact(caps), nil
}

// parseCaps makes full names of names, and sorts them.
func parseCaps(names []string) ([]string, error) {
	known := knownCaps()
	caps := []string{}
	for _, n := range names {
		upper := strings.ToUpper(strings.TrimSpace(n))
		if upper == capDefault {
			caps = append(caps, defaultCaps()...)
			continue
		}
		if upper == capAll {
			caps = append(caps, known...)
			continue
		}
		if upper == "" {
			continue
		}
		full := "CAP_" + strings.TrimPrefix(upper, "CAP_")
		if !slices.Contains(known, full) {
			return nil, fmt.Errorf("unknown capability %q", n)
		}
		caps = append(caps, full)
	}
	slices.Sort(caps)
	return slices.Compact(caps), nil
}
