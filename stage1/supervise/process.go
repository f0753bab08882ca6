package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// maxProc bounds what is read of one file under /proc or a cgroup.
const maxProc = 1 << 20

// readFile reads a small file of procfs, sysfs or cgroupfs. It goes around
// os.ReadFile because that registers the file with the runtime's poller.
func readFile(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	return readAll(fd, path)
}

// readAll reads the small file fd to its end.
func readAll(fd int, path string) ([]byte, error) {
	b := make([]byte, 0, 1024)
	for {
		if len(b) == cap(b) {
			if len(b) >= maxProc {
				return nil, fmt.Errorf("read %s: larger than %d bytes", path, maxProc)
			}
			b = append(b, 0)[:len(b)]
		}
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, &os.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return b, nil
		default:
			b = b[:len(b)+n]
		}
	}
}

func procPath(pid int, file string) string {
	return "/proc/" + strconv.Itoa(pid) + "/" + file
}

// bootID is the identity of this boot of the kernel.
func bootID() (string, error) {
	b, err := readFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// startTicks is the time at which the process pid started, in clock ticks since
// the boot. Together with the pid it names a process for good within a boot.
func startTicks(pid int) (uint64, error) {
	b, err := readFile(procPath(pid, "stat"))
	if err != nil {
		return 0, err
	}
	// The command name may hold spaces and parentheses: count from its end.
	end := bytes.LastIndexByte(b, ')')
	fields := bytes.Fields(b[end+1:])
	if end < 0 || len(fields) < 20 {
		return 0, fmt.Errorf("parse %s: too few fields", procPath(pid, "stat"))
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// errGone reports a process that is not alive any more.
var errGone = errors.New("process is gone")

// openProcess returns a pidfd of the process that was recorded as pid, started
// at ticks in the boot with that id. It returns errGone when that process does
// not exist any more, whoever has its number now.
func openProcess(pid int, ticks uint64, boot string) (int, error) {
	now, err := bootID()
	if err != nil {
		return -1, err
	}
	if boot != now {
		return -1, errGone
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH || err == unix.EINVAL || err == unix.ENOENT {
		return -1, errGone // the number is now a thread's (ENOENT: since Linux 6.15)
	}
	if err != nil {
		return -1, fmt.Errorf("open pidfd of %d: %w", pid, err)
	}
	// Compared after the pidfd is open: the number cannot change hands now.
	t, err := startTicks(pid)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) || err == nil && t != ticks || exited(fd) {
		unix.Close(fd)
		return -1, errGone
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// exited says whether the process of a pidfd is over, be it reaped or not.
func exited(pidfd int) bool {
	return ready(pidfd, unix.POLLIN)
}

// awaitExit waits until the process of a pidfd is over.
func awaitExit(pidfd int, deadline time.Time) error {
	for !exited(pidfd) {
		wait := time.Until(deadline)
		if wait <= 0 {
			return errors.New("it does not die")
		}
		p := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		if _, err := unix.Poll(p, int(wait.Milliseconds())+1); err != nil && err != unix.EINTR {
			return fmt.Errorf("wait for it: %w", err)
		}
	}
	return nil
}

// signals is a set as printed in /proc/PID/status: bit n-1 is signal n.
type signals uint64

func (s signals) has(sig unix.Signal) bool { return s&(1<<(uint(sig)-1)) != 0 }

// handling is what the main thread of a process does with signals.
type handling struct{ blocked, ignored, caught signals }

func readHandling(pid int) (handling, error) {
	var h handling
	st, err := readStatus(pid)
	if err != nil {
		return h, err
	}
	for _, f := range []struct {
		key string
		set *signals
	}{{"SigBlk", &h.blocked}, {"SigIgn", &h.ignored}, {"SigCgt", &h.caught}} {
		v, err := strconv.ParseUint(st[f.key], 16, 64)
		if err != nil {
			return h, fmt.Errorf("parse %s of process %d: %w", f.key, pid, err)
		}
		*f.set = signals(v)
	}
	return h, nil
}

// readStatus reads /proc/PID/status as key and value without surrounding space.
func readStatus(pid int) (map[string]string, error) {
	b, err := readFile(procPath(pid, "status"))
	if err != nil {
		return nil, err
	}
	st := make(map[string]string, 64)
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			st[key] = strings.TrimSpace(value)
		}
	}
	return st, nil
}

// signalInit sends sig to the process of pidfd as if it were not pid 1 of a pid
// namespace. The kernel drops what pid 1 has no handler for; where any other
// process would be ended by sig, SIGKILL is sent in its place, and standsFor is
// true. A process that blocks sig will take it from the queue: it gets sig.
func signalInit(pid, pidfd int, sig unix.Signal) (standsFor bool, err error) {
	send, err := effective(pid, sig)
	if err != nil {
		return false, err
	}
	if err := unix.PidfdSendSignal(pidfd, send, nil, 0); err != nil {
		return false, err
	}
	return send != sig, nil
}

// effective is the signal to send in place of sig, as signalInit does.
func effective(pid int, sig unix.Signal) (unix.Signal, error) {
	h, err := readHandling(pid)
	if err != nil {
		return 0, err
	}
	if terminates(sig) && !h.blocked.has(sig) && !h.ignored.has(sig) && !h.caught.has(sig) {
		return unix.SIGKILL, nil
	}
	return sig, nil
}

// terminates says whether the default action of sig is to end the process,
// SIGKILL apart, which needs no help.
func terminates(sig unix.Signal) bool {
	switch sig {
	case unix.SIGKILL, unix.SIGCHLD, unix.SIGCONT, unix.SIGURG, unix.SIGWINCH,
		unix.SIGSTOP, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		return false
	}
	return true
}

// identity describes the process pid as of now, for Started and Ready.
func identity(pid int) (contract.Ready, error) {
	boot, err := bootID()
	if err != nil {
		return contract.Ready{}, err
	}
	ticks, err := startTicks(pid)
	if err != nil {
		return contract.Ready{}, err
	}
	return contract.Ready{PID: pid, StartTicks: ticks, BootID: boot, Nanos: nanos()}, nil
}

func nanos() int64 { return time.Now().UnixNano() }
