package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/contract"
)

// Ulimit is a limit on a resource of each process of an app.
type Ulimit struct {
	Name       string // as of ulimit(3): nofile, nproc, ...
	Soft, Hard uint64
}

// Unlimited is the value of a Ulimit that is none.
const Unlimited = ^uint64(0)

// ulimitTypes are the resources that an app's limits can be set of.
func ulimitTypes() []string {
	return []string{
		"as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
		"rtprio", "rttime", "sigpending", "stack",
	}
}

// setUlimits replaces the limits that the operator has named. stage1 sets no
// more than its own hard limit.
func setUlimits(limits []specs.POSIXRlimit, wanted []Ulimit) ([]specs.POSIXRlimit, error) {
	for _, u := range wanted {
		if !slices.Contains(ulimitTypes(), u.Name) {
			return nil, fmt.Errorf("--ulimit: unknown resource %q, known are %s", u.Name, strings.Join(ulimitTypes(), ", "))
		}
		if u.Soft > u.Hard {
			return nil, fmt.Errorf("--ulimit %s: the soft limit %d is above the hard limit %d", u.Name, u.Soft, u.Hard)
		}
		l := specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: u.Soft, Hard: u.Hard}
		limits = slices.DeleteFunc(limits, func(old specs.POSIXRlimit) bool { return old.Type == l.Type })
		limits = append(limits, l)
	}
	return limits, nil
}

// Sysctl is a parameter of the kernel.
type Sysctl struct{ Name, Value string }

// sysctls checks the parameters that the operator wants for the pod. Only what
// each network or ipc namespace has of its own can be set, and only where the
// pod has that namespace: what is the host's stays the host's.
func (c *compiler) sysctls() error {
	seen := make(map[string]bool)
	for _, s := range c.spec.Sysctls {
		name := strings.ReplaceAll(s.Name, "/", ".")
		switch {
		case !validSysctl(name):
			return fmt.Errorf("--sysctl: %q is not the name of a kernel parameter", s.Name)
		case len(s.Value) > 1024 || strings.ContainsFunc(s.Value, func(r rune) bool { return r < ' ' && r != '\t' || r > '~' }):
			return fmt.Errorf("--sysctl %s: the value is no parameter's", s.Name)
		case seen[name]:
			return fmt.Errorf("--sysctl %s is given twice", s.Name)
		case strings.HasPrefix(name, "net."):
			if c.files.Pod.Net.Mode == contract.NetHost {
				return fmt.Errorf("--sysctl %s: with --net=host it would be the host's", s.Name)
			}
		case slices.Contains(ipcSysctls(), name) || strings.HasPrefix(name, "fs.mqueue."):
			if c.files.Pod.IPC != contract.Private {
				return fmt.Errorf("--sysctl %s: it would be the host's", s.Name)
			}
		default:
			return fmt.Errorf("--sysctl %s: it is the host's; a pod has net.*, fs.mqueue.* and of kernel.* %s of its own", s.Name, strings.Join(ipcSysctls(), " "))
		}
		seen[name] = true
		c.files.Pod.Sysctls = append(c.files.Pod.Sysctls, contract.Sysctl{Path: strings.ReplaceAll(name, ".", "/"), Value: s.Value})
	}
	return nil
}

// ipcSysctls are what an ipc namespace has, outside of fs.mqueue.
func ipcSysctls() []string {
	return []string{
		"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shm_rmid_forced", "kernel.shmall",
		"kernel.shmmax", "kernel.shmmni",
	}
}

func validSysctl(name string) bool {
	for part := range strings.SplitSeq(name, ".") {
		if part == "" || strings.Trim(part, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
			return false
		}
	}
	return len(name) <= 200 && strings.Contains(name, ".")
}

// Bounds on labels and annotations, which are for people and managers.
const (
	maxLabels    = 256
	maxLabelSize = 64 << 10
)

// checkLabels checks labels or annotations of flag.
func checkLabels(flag string, labels map[string]string) error {
	if len(labels) > maxLabels {
		return fmt.Errorf("%s: there are %d, limit is %d", flag, len(labels), maxLabels)
	}
	size := 0
	for name, value := range labels {
		size += len(name) + len(value)
		if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("%s: %s is not a name", flag, strconv.QuoteToASCII(name))
		}
		if strings.ContainsRune(value, 0) {
			return fmt.Errorf("%s: the value of %q has a NUL character", flag, name)
		}
	}
	if size > maxLabelSize {
		return fmt.Errorf("%s: they take %d bytes, limit is %d", flag, size, maxLabelSize)
	}
	return nil
}
