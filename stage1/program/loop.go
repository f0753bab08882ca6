package program

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The runtime's part of a fork: all signals are blocked, so that no handler of
// this runtime runs in the child. The runtime keeps these names open for this use.

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

// step is an Op as the child reads it: plain numbers.
type step struct {
	nr      uintptr
	args    [maxArgs]uintptr
	from    [maxArgs]uint16 // 1 + the slot whose result the argument is, 0 = none
	want    uintptr
	firstAt *byte
	pidAt   *byte // where ownPID writes
	allowed [maxAllowed]uint16
	slot    uint16
	cond    uint16 // 1 + the slot that decides, 0 = none
	index   uint16
	kind    kind
	condIs  outcome
	first   byte
	wants   bool
	anyErr  bool
	report  bool
}

// maxAllowed is how many errors an operation can allow by name.
const maxAllowed = 6

// outcome is what became of an operation.
type outcome uint8

const (
	notRun outcome = iota
	succeeded
	failed
)

// machine is all that the child uses, allocated before the clone. The child
// writes only into results, outcomes and the fields from msg on.
type machine struct {
	clone    cloneArgs
	steps    []step
	gaps     []gap // file descriptors to close first
	closing  [3]gap
	report   uintptr // the pipe to the parent
	release  uintptr // the pipe from the parent
	allSet   uint64  // a set of all signals
	childSet uint64  // a set of SIGCHLD

	results  []uintptr
	outcomes []outcome
	msg      message
	action   [4]uint64 // struct sigaction of the kernel: SIG_DFL, no flags
	none     uint64    // a set of no signals
	status   int32
	buf      [8]byte
}

type gap struct{ first, last uintptr }

// message is what the child tells: 24 bytes, written at once.
type message struct {
	what  uint32
	index uint32
	errno uint32
	_     uint32
	value uint64
}

const (
	msgFailed   = iota + 1 // operation index failed with errno; the child has ended
	msgForked              // the program goes on in the process value
	msgWaiting             // at operation index, for release
	msgReported            // the outcome of operation index
	msgEnded               // the program came to its end
)

// exitFailed is the exit code of a child whose program failed or ended without
// an execve. The parent knows better from the report.
const exitFailed = 125

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls, setTID, setTIDSize, cgroup uint64
}

// runChild clones and, in the child, runs the machine; it returns only in the
// parent. Everything that it calls in the child is nosplit: the child has no
// runtime that could grow a stack.
//
//go:noinline
//go:norace
//go:nosplit
//go:nocheckptr
func runChild(m *machine) (pid uintptr, errno syscall.Errno) {
	beforeFork()
	pid, _, errno = syscall.RawSyscall6(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&m.clone)), unsafe.Sizeof(m.clone), 0, 0, 0, 0)
	if errno != 0 || pid != 0 {
		afterFork()
		return pid, errno
	}
	resetSignals(m)
	for i := range m.gaps {
		syscall.RawSyscall6(unix.SYS_CLOSE_RANGE, m.gaps[i].first, m.gaps[i].last, 0, 0, 0, 0)
	}
	for i := range m.steps {
		s := &m.steps[i]
		if s.cond == 0 || m.outcomes[s.cond-1] == s.condIs {
			perform(m, s)
		}
	}
	tell(m, msgEnded, 0, 0, 0)
	exit(exitFailed)
	return 0, 0
}

//go:norace
//go:nosplit
//go:nocheckptr
func perform(m *machine, s *step) {
	var r uintptr
	var e syscall.Errno
	switch s.kind {
	case call:
		r, e = invoke(m, s)
	case fork:
		r, e = invoke(m, s)
		if e == 0 && r != 0 {
			tell(m, msgForked, s.index, 0, r)
			exit(0)
		}
	case wait:
		tell(m, msgWaiting, s.index, 0, 0)
		r, e = awaitRelease(m)
	case closeFiles:
		for i := range m.closing {
			if m.closing[i].first <= m.closing[i].last {
				_, _, e = syscall.RawSyscall6(unix.SYS_CLOSE_RANGE, m.closing[i].first, m.closing[i].last, 0, 0, 0, 0)
			}
			if e != 0 {
				break
			}
		}
	case ownPID:
		r, _, e = syscall.RawSyscall6(s.nr, 0, 0, 0, 0, 0, 0)
		writeDecimal(s.pidAt, r)
	case dropCaps:
		e = dropBounding(s.args[0])
	case initFork:
		setMask(&m.allSet)
		r, e = invoke(m, s)
		if e == 0 && r != 0 {
			initLoop(m, r)
		}
		setMask(&m.none)
	case reap:
		setMask(&m.allSet)
		initLoop(m, ^uintptr(0))
	}
	settle(m, s, r, e)
}

// settle keeps the outcome of a step, tells it, and ends the program on a
// failure that is not allowed.
//
//go:norace
//go:nosplit
//go:nocheckptr
func settle(m *machine, s *step, r uintptr, e syscall.Errno) {
	if e == 0 && (s.wants && r != s.want || s.firstAt != nil && *s.firstAt != s.first) {
		e = syscall.EPROTO
	}
	if e == 0 {
		m.results[s.slot], m.outcomes[s.slot] = r, succeeded
	} else {
		m.results[s.slot], m.outcomes[s.slot] = 0, failed
		if !allows(s, e) {
			tell(m, msgFailed, s.index, e, 0)
			exit(exitFailed)
		}
	}
	if s.report {
		tell(m, msgReported, s.index, e, r)
	}
}

//go:norace
//go:nosplit
func allows(s *step, e syscall.Errno) bool {
	if s.anyErr {
		return true
	}
	for i := range s.allowed {
		if s.allowed[i] == uint16(e) {
			return true
		}
	}
	return false
}

// maxAgain bounds the attempts at an openat2 that says EAGAIN: it cannot prove
// that ".." stays below the root while anything on the host is renamed or
// mounted. Somebody in the pod may do that for ever.
const maxAgain = 1000

// invoke makes the system call of a step, again when a signal interrupts it.
//
//go:norace
//go:nosplit
func invoke(m *machine, s *step) (r uintptr, e syscall.Errno) {
	var a [maxArgs]uintptr
	for i := range a {
		a[i] = s.args[i]
		if s.from[i] != 0 {
			a[i] = m.results[s.from[i]-1]
		}
	}
	for again := 0; ; again++ {
		r, _, e = syscall.RawSyscall6(s.nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if e == syscall.EINTR || e == syscall.EAGAIN && s.nr == unix.SYS_OPENAT2 && again < maxAgain {
			continue
		}
		return r, e
	}
}

// dropBounding drops the capabilities that are not in keep, up to the last one
// that the kernel knows.
//
//go:norace
//go:nosplit
func dropBounding(keep uintptr) syscall.Errno {
	for n := uintptr(0); n < 64; n++ {
		if keep&(1<<n) != 0 {
			continue
		}
		_, _, e := syscall.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, n, 0, 0, 0, 0)
		if e == syscall.EINVAL && n > 0 {
			return 0
		}
		if e != 0 {
			return e
		}
	}
	return 0
}

// writeDecimal writes n, of at most maxPIDDigits digits, and a zero byte.
//
//go:norace
//go:nosplit
//go:nocheckptr
func writeDecimal(at *byte, n uintptr) {
	digits := uintptr(1)
	for rest := n / 10; rest > 0; rest /= 10 {
		digits++
	}
	for i := digits; i > 0; i-- {
		*(*byte)(unsafe.Add(unsafe.Pointer(at), i-1)) = byte('0' + n%10)
		n /= 10
	}
	*(*byte)(unsafe.Add(unsafe.Pointer(at), digits)) = 0
}

//go:norace
//go:nosplit
func awaitRelease(m *machine) (r uintptr, e syscall.Errno) {
	for {
		r, _, e = syscall.RawSyscall6(unix.SYS_READ, m.release, uintptr(unsafe.Pointer(&m.buf)), 1, 0, 0, 0)
		if e == 0 && r == 0 {
			return 0, syscall.EPIPE // the parent is gone
		}
		if e != syscall.EINTR {
			return r, e
		}
	}
}

//go:norace
//go:nosplit
func tell(m *machine, what uint32, index uint16, e syscall.Errno, value uintptr) {
	m.msg.what, m.msg.index, m.msg.errno, m.msg.value = what, uint32(index), uint32(e), uint64(value)
	for {
		_, _, e := syscall.RawSyscall6(unix.SYS_WRITE, m.report, uintptr(unsafe.Pointer(&m.msg)), unsafe.Sizeof(m.msg), 0, 0, 0)
		if e != syscall.EINTR {
			return
		}
	}
}

//go:norace
//go:nosplit
func exit(code uintptr) {
	for {
		syscall.RawSyscall6(unix.SYS_EXIT_GROUP, code, 0, 0, 0, 0, 0)
	}
}

// lastSignal is the highest signal number of Linux.
const lastSignal = 64

// sigsetSize is the size of a signal set in bytes.
const sigsetSize = 8

//go:norace
//go:nosplit
func setMask(set *uint64) {
	syscall.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(set)), 0, sigsetSize, 0, 0)
}

// resetSignals gives every signal its default action and unblocks all: an app
// must not inherit what the caller of rkt ignored or blocked.
//
//go:norace
//go:nosplit
func resetSignals(m *machine) {
	for sig := uintptr(1); sig <= lastSignal; sig++ {
		syscall.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&m.action)), 0, sigsetSize, 0, 0)
	}
	setMask(&m.none)
}

// initLoop is a pid 1 that never executes anything. All signals are blocked, so
// that none is lost and each can be waited for: also those that the kernel
// would discard because pid 1 has no handler for them.
//
//go:norace
//go:nosplit
func initLoop(m *machine, child uintptr) {
	syscall.RawSyscall6(unix.SYS_CLOSE_RANGE, 0, maxFD, 0, 0, 0, 0)
	for {
		sig, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGTIMEDWAIT, uintptr(unsafe.Pointer(&m.allSet)), 0, 0, sigsetSize, 0, 0)
		if e != 0 {
			continue
		}
		if sig != uintptr(unix.SIGCHLD) {
			if child != ^uintptr(0) {
				syscall.RawSyscall6(unix.SYS_KILL, child, sig, 0, 0, 0, 0)
			}
			continue
		}
		for {
			pid, _, e := syscall.RawSyscall6(unix.SYS_WAIT4, ^uintptr(0), uintptr(unsafe.Pointer(&m.status)), unix.WNOHANG, 0, 0, 0)
			if e != 0 || pid == 0 {
				break
			}
			if pid == child {
				if sig := m.status & 0x7f; sig != 0 {
					exit(128 + uintptr(sig))
				}
				exit(uintptr(m.status>>8) & 0xff)
			}
		}
	}
}
