// Package sandbox takes from a process of rkt-fetch, before it reads a byte that
// a stranger wrote, everything that its role does not need: the host's files,
// capabilities, system calls, its memory's readability. The privileged half has
// started it in namespaces of its own and gives it no request, and so no
// credential, before it has said what holds and that has been read back.
//
// A kernel, or a container around rkt, may refuse some of it. What can be had is
// taken, and what is refused is told by name; whether that is enough is decided
// by who started it. Start with Enter.
package sandbox

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
	"rkt/internal/mutant"
)

// Options say what the process is.
type Options struct {
	Role wire.Role
	How  wire.How
	UID  int // to become, where How does not give it
	GID  int
	// Keep is the highest file descriptor that it was started with on purpose.
	Keep int
}

// Result tells which lines hold, and why the others do not.
type Result struct {
	Lines   wire.Line
	Refused string
}

// Enter confines this process for good. It must be called before anything else
// is done, by main. The error is a step without which it must not go on.
func Enter(o Options) (Result, error) {
	runtime.LockOSThread() // the steps are of the process, but for those that say so
	defer runtime.UnlockOSThread()
	var r Result
	if err := closeOthers(o.Keep); err != nil {
		return r, fmt.Errorf("close files: %w", err)
	}
	if o.Role == wire.ReadLayer {
		if err := openForWriting(wire.TarFD, wire.FactsFD); err != nil {
			return r, fmt.Errorf("open tar and facts: %w", err)
		}
	}
	preferToDie()
	var refused []string
	for _, s := range steps(o) {
		name := s.line.Names()[0]
		if s.line&o.Role.Lines() == 0 && !s.also || left(s.line) {
			continue
		}
		err := s.do()
		switch {
		case err == nil:
			r.Lines |= s.line & o.Role.Lines()
		case isRefusal(err):
			refused = append(refused, fmt.Sprintf("%s: %v", name, err))
		default:
			return r, fmt.Errorf("%s: %w", name, err)
		}
	}
	r.Lines |= given(o)
	r.Refused = strings.Join(refused, "; ")
	return r, nil
}

// step makes one line hold.
type step struct {
	line wire.Line
	do   func() error
	also bool // done by roles too that cannot have the whole line
}

// steps are in the only order that works: files are laid out while there are
// capabilities, and the filter comes last, since it forbids most of the others.
func steps(o Options) []step {
	return []step{
		{line: wire.OwnRoot, do: func() error { return enterRoot(o) }},
		{line: wire.OwnUser, do: func() error { return becomeUser(o) }},
		{line: wire.Limits, do: func() error { return setLimits(o.Role) }},
		{line: wire.NoDump, do: func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) }},
		{line: wire.NoCaps, do: func() error { return dropCapabilities(o.How, kept(o.Role)) }, also: true},
		{line: wire.NoNewPrivs, do: noNewPrivileges},
		{line: wire.Landlock, do: func() error { return restrictFiles(o.Role) }},
		{line: wire.Filter, do: func() error { return loadFilter(o.Role) }},
	}
}

// given are the lines that come with the way it was started. They are read back
// by who did so.
func given(o Options) wire.Line {
	namespaces := wire.OwnPids | wire.OwnIPC | wire.OwnUTS | wire.OwnCgroupNS | wire.NoNetwork
	switch o.How {
	case wire.HowUser:
		namespaces |= wire.OwnUserNS
	case wire.HowRoot:
	default:
		return 0
	}
	return namespaces & o.Role.Lines()
}

// left reports whether a mutant leaves a line out.
func left(l wire.Line) bool {
	return mutant.On("unconfined") || l == wire.OwnRoot && mutant.On("hostroot") || l == wire.NoCaps && mutant.On("keepcaps") ||
		l == wire.Landlock && mutant.On("nolandlock") || l == wire.Filter && mutant.On("nofilter") || l == wire.NoDump && mutant.On("dumpable") ||
		l == wire.Limits && mutant.On("nolimits") || l == wire.NoNewPrivs && mutant.On("newprivs")
}

// isRefusal reports whether err is a kernel that will not or cannot.
func isRefusal(err error) bool {
	for _, e := range []error{unix.EPERM, unix.EACCES, unix.ENOSYS, unix.EOPNOTSUPP, unix.EINVAL, unix.ENOSPC, errNotStarted} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// errNotStarted is a line that needs namespaces which it was not started in.
var errNotStarted = errors.New("no namespaces could be made")

// onAllThreads makes a system call whose effect is on the calling thread only.
func onAllThreads(call string, trap, a1, a2, a3 uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall(trap, a1, a2, a3)
	if errno != 0 {
		return fmt.Errorf("%s: %w", call, errno)
	}
	return nil
}

func noNewPrivileges() error {
	return onAllThreads("prctl", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0)
}
