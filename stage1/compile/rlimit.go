package compile

import (
	"fmt"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/program"
)

// rlimitNames are the names of the resources that have limits, by number.
var rlimitNames = [...]string{
	unix.RLIMIT_CPU:        "RLIMIT_CPU",
	unix.RLIMIT_FSIZE:      "RLIMIT_FSIZE",
	unix.RLIMIT_DATA:       "RLIMIT_DATA",
	unix.RLIMIT_STACK:      "RLIMIT_STACK",
	unix.RLIMIT_CORE:       "RLIMIT_CORE",
	unix.RLIMIT_RSS:        "RLIMIT_RSS",
	unix.RLIMIT_NPROC:      "RLIMIT_NPROC",
	unix.RLIMIT_NOFILE:     "RLIMIT_NOFILE",
	unix.RLIMIT_MEMLOCK:    "RLIMIT_MEMLOCK",
	unix.RLIMIT_AS:         "RLIMIT_AS",
	unix.RLIMIT_LOCKS:      "RLIMIT_LOCKS",
	unix.RLIMIT_SIGPENDING: "RLIMIT_SIGPENDING",
	unix.RLIMIT_MSGQUEUE:   "RLIMIT_MSGQUEUE",
	unix.RLIMIT_NICE:       "RLIMIT_NICE",
	unix.RLIMIT_RTPRIO:     "RLIMIT_RTPRIO",
	unix.RLIMIT_RTTIME:     "RLIMIT_RTTIME",
}

// rlimits is the number of resources that have limits.
const rlimits = len(rlimitNames)

// Rlimits reads the limits of this process.
func Rlimits() (limits [rlimits]unix.Rlimit, err error) {
	for i := range limits {
		if err := unix.Prlimit(0, i, nil, &limits[i]); err != nil {
			return limits, fmt.Errorf("read resource limit %d: %w", i, err)
		}
	}
	return limits, nil
}

// openFiles is the soft limit on open files for an app that asks for none. The
// Go runtime has raised the supervisor's own, and programs that use select(2)
// break above this number.
const openFiles = 1024

// setRlimits sets what config.json asks for, as far as the supervisor's hard
// limits allow: raising those needs CAP_SYS_RESOURCE on the host.
func setRlimits(p *program.Program, list []specs.POSIXRlimit, own *[rlimits]unix.Rlimit) error {
	nofile := &own[unix.RLIMIT_NOFILE]
	want := map[int]unix.Rlimit{unix.RLIMIT_NOFILE: {Cur: openFiles, Max: nofile.Max}}
	for _, l := range list {
		n := rlimitNumber(l.Type)
		if n < 0 {
			return fmt.Errorf("resource limit %q is not known", l.Type)
		}
		want[n] = unix.Rlimit{Cur: l.Soft, Max: l.Hard}
	}
	for n, name := range rlimitNames {
		if l, ok := want[n]; ok {
			hard := min(l.Max, own[n].Max)
			p.Setrlimit(n, name, min(l.Cur, hard), hard).Because("limit resources")
		}
	}
	return nil
}

func rlimitNumber(name string) int {
	for i, n := range rlimitNames {
		if n == name {
			return i
		}
	}
	return -1
}
