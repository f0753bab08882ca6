package program

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Clone says how the child is cloned.
type Clone struct {
	Flags uint64 // namespaces: CLONE_NEW*
	// Cgroup is a folder of the unified hierarchy, in which the child starts;
	// nil = the parent's.
	Cgroup *os.File
}

// Start clones a child that runs the program. The child has the file
// descriptors 0, 1, 2, those named by FD, and the two pipes to its parent.
// The caller reaps the child, and closes it.
func (p *Program) Start(c Clone) (*Child, error) {
	m, err := p.assemble()
	if err != nil {
		return nil, err
	}
	var report, release [2]int
	if err := unix.Pipe2(report[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	if err := unix.Pipe2(release[:], unix.O_CLOEXEC); err != nil {
		unix.Close(report[0])
		unix.Close(report[1])
		return nil, fmt.Errorf("make pipe: %w", err)
	}
	for _, fd := range []*int{&report[1], &release[0]} {
		if err := above(fd, firstFile+p.passed); err != nil {
			for _, fd := range append(report[:], release[:]...) {
				unix.Close(fd)
			}
			return nil, fmt.Errorf("make pipe: %w", err)
		}
	}
	m.setFiles(p, report[1], release[0])
	pidfd := int32(-1)
	m.clone = cloneArgs{
		flags:      c.Flags | unix.CLONE_PIDFD,
		pidfd:      uint64(uintptr(unsafe.Pointer(&pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
	}
	if c.Cgroup != nil {
		m.clone.flags |= unix.CLONE_INTO_CGROUP
		m.clone.cgroup = uint64(c.Cgroup.Fd())
	}
	syscall.ForkLock.Lock()
	pid, errno := runChild(m)
	syscall.ForkLock.Unlock()
	unix.Close(report[1])
	unix.Close(release[0])
	child := &Child{
		PID: int(pid), Pidfd: int(pidfd), program: p,
		report: report[0], release: release[1], forks: p.forks(),
	}
	if errno != 0 {
		child.Close()
		return nil, cloneError(errno)
	}
	return child, nil
}

// cloneError explains the errors of clone3 that an administrator can act on.
func cloneError(e syscall.Errno) error {
	if e == unix.ENOSPC || e == unix.EUSERS {
		return fmt.Errorf("clone process: a limit on namespaces is reached (sysctl user.max_*_namespaces): %w", e)
	}
	return fmt.Errorf("clone process: %w", e)
}

// assemble turns the operations into what the child reads.
func (p *Program) assemble() (*machine, error) {
	m := &machine{
		steps:    make([]step, len(p.ops)),
		results:  make([]uintptr, len(p.ops)),
		outcomes: make([]outcome, len(p.ops)),
		allSet:   ^uint64(0),
	}
	if len(p.ops) >= 1<<16 {
		return nil, errors.New("internal error: program is too long")
	}
	for i, o := range p.ops {
		s := &m.steps[i]
		s.kind, s.nr, s.index, s.slot = o.kind, o.nr, uint16(i), uint16(o.slot().index)
		s.anyErr, s.report = o.anyErr, o.report
		s.first, s.firstAt, s.pidAt = o.first, o.firstAt, o.pidAt
		if o.want != nil {
			s.wants, s.want = true, *o.want
		}
		if o.cond != nil {
			s.cond, s.condIs = uint16(o.cond.slot().index)+1, failed
			if o.condOK {
				s.condIs = succeeded
			}
		}
		if len(o.allowed) > maxAllowed {
			return nil, fmt.Errorf("internal error: %s allows more than %d errors", o.Call(), maxAllowed)
		}
		for j, e := range o.allowed {
			s.allowed[j] = uint16(e)
		}
		for j, a := range o.args {
			s.args[j] = a.value
			if a.result != nil {
				s.from[j] = uint16(a.result.slot().index) + 1
			}
		}
	}
	return m, nil
}

// above gives an open file a number of at least min, in place of the one it has.
func above(fd *int, min int) error {
	if *fd >= min {
		return nil
	}
	n, err := unix.FcntlInt(uintptr(*fd), unix.F_DUPFD_CLOEXEC, min)
	if err == nil {
		unix.Close(*fd)
		*fd = n
	}
	return err
}

// setFiles computes what the child closes: at first all but the named
// descriptors, later all but the pipes and those that are passed on.
func (m *machine) setFiles(p *Program, report, release int) {
	m.report, m.release = uintptr(report), uintptr(release)
	m.gaps = gaps(firstFile, append([]int{report, release}, p.fds...))
	n := copy(m.closing[:], gaps(firstFile+p.passed, []int{report, release}))
	for i := n; i < len(m.closing); i++ {
		m.closing[i] = gap{first: 1, last: 0}
	}
}

// gaps are the ranges of file descriptors from next on without those of the list.
func gaps(next int, keep []int) []gap {
	keep = slices.Clone(keep)
	slices.Sort(keep)
	var g []gap
	for _, fd := range keep {
		if fd > next {
			g = append(g, gap{uintptr(next), uintptr(fd - 1)})
		}
		next = max(next, fd+1)
	}
	return append(g, gap{uintptr(next), maxFD})
}

// maxFD is the highest file descriptor, for close_range.
const maxFD = 1<<32 - 1
