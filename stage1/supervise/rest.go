package supervise

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
	"rkt/stage1/program"
)

// A supervisor that has nothing to do but wait executes itself again and goes on
// where it was: its apps stay its children, its files stay open, and all that a
// start has left in memory is gone, which in a process that lives for months and
// starts an app now and then is most of it. A collection of the garbage would cost
// more memory than it finds. Until the exec nothing is given up: whatever is not
// quiet makes it wait for another time.

const (
	// restAfter is how long all has been quiet since a start. Most pods that live
	// shorter never pay for it.
	restAfter = 2 * time.Second
	// restPatience is how long the goroutines may take to become quiet.
	restPatience = 500 * time.Millisecond
	// lastRestDelay bounds how long a supervisor that is not quiet waits, at twice
	// the time before, until it tries again.
	lastRestDelay = time.Minute
	// restlessTurns is after how many turns of the loop so much may have been left
	// in memory that resting is worth it.
	restlessTurns = 4096
)

// ResumeFlag is how the run entrypoint is told to go on with a pod: it is
// followed by the number of a file that holds a handover.
const ResumeFlag = "--resume="

// restLater lets the supervisor rest when it has been quiet for a while.
func (s *supervisor) restLater() {
	s.restDelay = restAfter
	s.restAt = time.Now().Add(s.restDelay)
}

// rest executes the program again if all is quiet. It returns if it is not.
func (s *supervisor) rest() {
	s.restAt = time.Time{}
	if s.restless {
		return
	}
	if s.mayRest() {
		if s.hold() {
			if err := s.again(); err != nil {
				complain(fmt.Errorf("let memory go: %w", err))
				s.restless = true // what failed once fails again
			}
		}
		s.release()
	}
	s.restDelay = min(2*s.restDelay, lastRestDelay)
	s.restAt = time.Now().Add(s.restDelay)
}

// mayRest says whether nothing is under way that a handover does not describe.
func (s *supervisor) mayRest() bool {
	if s.phase != running || !s.notifier.idle() || s.journal != nil && s.journal.behind() || len(s.signals) > 0 {
		return false
	}
	if slices.ContainsFunc(s.ports.all(), func(p *published) bool { return p.serve == nil }) {
		return false
	}
	for _, a := range s.apps {
		if a.state == appWaiting && time.Until(a.due) < restAfter {
			return false
		}
	}
	return true
}

// keepers are the goroutines that serve files.
func (s *supervisor) keepers() []*keeper {
	all := []*keeper{&s.control.keeper}
	if s.proxy != nil {
		all = append(all, &s.proxy.keeper)
	}
	for _, p := range s.ports.all() {
		all = append(all, &p.keeper)
	}
	if s.stdin.began {
		all = append(all, &s.stdin.keeper)
	}
	for _, a := range s.apps {
		if a.streams != nil {
			for _, r := range a.streams.relays {
				all = append(all, &r.keeper)
			}
		}
	}
	return all
}

// hold makes all quiet: no goroutine has anything in its hands. It is false if
// something was to be done meanwhile. release undoes it in either case.
func (s *supervisor) hold() bool {
	all := s.keepers()
	for _, k := range all {
		k.hold()
	}
	patience := time.NewTimer(restPatience)
	defer patience.Stop()
	for _, k := range all {
		select {
		case <-k.done:
		case r := <-s.requests:
			answer(r.peer, s.onRequest(r.op))
			return false
		case n := <-s.heard():
			s.onNote(n)
			return false
		case <-patience.C:
			return false
		}
	}
	return s.notifier.idle() && !s.midLine() && !slices.ContainsFunc(s.ports.all(), (*published).busy) && (s.proxy == nil || s.proxy.pace.full())
}

// release lets all go on.
func (s *supervisor) release() {
	for _, k := range s.keepers() {
		k.resume()
	}
}

// midLine says whether a line of an app waits for its end to become an entry of
// the journal.
func (s *supervisor) midLine() bool {
	return slices.ContainsFunc(s.apps, func(a *app) bool {
		return a.streams != nil && slices.ContainsFunc(a.streams.lines, (*journalWriter).midLine)
	})
}

// again executes the program, with what it needs to go on. It returns on an
// error, and without one when a signal has come first.
func (s *supervisor) again() error {
	h, files, err := s.handOver()
	if err != nil {
		return err
	}
	guard, err := s.startGuard()
	if err != nil {
		return err
	}
	defer guard.Close()
	h.Guard = guard.ReleaseFD()
	memory, err := writeHandover(h)
	if err != nil {
		return errors.Join(err, guard.Release())
	}
	defer unix.Close(memory)

	signal.Stop(s.caught)
	if len(s.signals) == 0 {
		err = execAgain(memory, append(files, h.Guard, memory, contract.LockFD))
	}
	signal.Notify(s.caught, watched()...)
	return errors.Join(err, guard.Release())
}

// execAgain executes this program, which keeps the files open. It returns only on
// an error.
func execAgain(memory int, files []int) error {
	defer func() {
		for _, fd := range files {
			unix.CloseOnExec(fd)
		}
	}()
	for _, fd := range files {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("keep file %d: %w", fd, err)
		}
	}
	argv := slices.DeleteFunc(slices.Clone(os.Args), func(arg string) bool { return strings.HasPrefix(arg, ResumeFlag) })
	argv = append(argv, ResumeFlag+strconv.Itoa(memory))

	// The mask goes through exec: signals wait until the runtime unblocks them.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var set, before unix.Sigset_t
	for _, sig := range watched() {
		n := sig.(unix.Signal) - 1
		set.Val[n/64] |= 1 << (n % 64)
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, &before); err != nil {
		return fmt.Errorf("block signals: %w", err)
	}
	err := unix.Exec("/proc/self/exe", argv, os.Environ())
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil)
	return fmt.Errorf("execute %s: %w", argv[0], err)
}

// startGuard starts a process that ends the apps in order, each by its signal and
// after its grace by SIGKILL, if this process dies before it says that it listens
// to signals again. The Go runtime unblocks SIGTERM, SIGINT, SIGHUP and SIGQUIT
// while it starts, for half a millisecond before anybody can take them: one that
// comes then is fatal, and it meant the pod.
func (s *supervisor) startGuard() (*program.Child, error) {
	p := &program.Program{}
	p.Setsid().Because("hear nothing from the terminal")
	alone := p.Wait(waitListens).Allow(unix.EPIPE)
	var pidfds []program.Arg
	var grace time.Duration
	for _, a := range s.apps {
		if a.state != appRunning {
			continue
		}
		sig := unix.Signal(a.conf.StopSignal)
		if a.isInit() {
			var err error
			if sig, err = effective(a.pid, sig); err != nil {
				return nil, err
			}
		}
		pidfd := p.FD(a.pidfd, a.name)
		p.PidfdSendSignal(pidfd, sig).IfFailed(alone).Allow().Because("stop the app")
		pidfds = append(pidfds, pidfd)
		grace = max(grace, time.Duration(a.conf.StopGraceMillis)*time.Millisecond)
	}
	left := unix.NsecToTimespec(grace.Nanoseconds()) // the kernel counts it down
	for _, pidfd := range pidfds {
		p.AwaitReadable(pidfd, &left).IfFailed(alone).Allow().Because("give the apps their time")
	}
	for _, pidfd := range pidfds {
		p.PidfdSendSignal(pidfd, unix.SIGKILL).IfFailed(alone).Allow().Because("end the app")
	}
	guard, err := p.Start(program.Clone{})
	if err != nil {
		return nil, err
	}
	// Reaped by the loop, in this program or the next.
	unix.Close(guard.Pidfd)
	if err := guard.Until(waitListens); err != nil {
		guard.Close()
		return nil, err
	}
	return guard, nil
}

// dismissGuard tells the guard that signals are heard again. What executing the
// program has touched of it is not needed from here on.
func (s *supervisor) dismissGuard() {
	if s.guard > 0 {
		_, _ = unix.Write(s.guard, []byte{1})
		unix.Close(s.guard)
		s.guard = 0
		dropPages()
	}
}

const waitListens = "the supervisor listens"

// writeHandover writes what is handed over into a file in memory.
func writeHandover(h *handover) (int, error) {
	b, err := contract.Encode(h)
	if err != nil {
		return -1, err
	}
	fd, err := unix.MemfdCreate("rkt-state", unix.MFD_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("make memory file: %w", err)
	}
	for len(b) > 0 && err == nil {
		var n int
		if n, err = unix.Write(fd, b); err == unix.EINTR {
			n, err = 0, nil
		}
		b = b[max(n, 0):]
	}
	if err == nil {
		_, err = unix.Seek(fd, 0, unix.SEEK_SET)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("write memory file: %w", err)
	}
	return fd, nil
}

// dropPages unmaps the pages of the program itself that are in memory: they stay
// in the page cache, and the few that a waiting supervisor touches come back.
func dropPages() {
	b, err := readFile("/proc/self/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(b)) {
		// start-end perms offset device inode path
		f := strings.Fields(line)
		if len(f) < 6 || f[4] == "0" || strings.Contains(f[1], "w") {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil && start < end {
			_, _, _ = unix.Syscall(unix.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_DONTNEED)
		}
	}
}
