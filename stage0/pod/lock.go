package pod

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// The lock of a pod is made of open file description locks on bytes of the file
// "lock" in its directory.
//
// Such a lock belongs to the open file, so it passes through fork, dup and
// exec, and the kernel drops it when the last copy of the fd is closed, however
// the process ends. Unlike flock(2), it can be asked about without taking it
// (F_OFD_GETLK), so that looking at a pod never makes somebody else's attempt
// to lock it fail; and the answer tells how far the lock reaches, which says
// what its owner is doing.
//
// The owner has a write lock on ownerByte, taken without waiting: a refusal
// always means that there is another owner. One who removes the pod takes
// collectByte with it, in one call. The owner then takes waitByte, on which
// those who wait for the end of the pod block with read locks. They hold it for
// an instant after they were woken, so the owner may wait for that.
const (
	lockFile    = contract.LockFile
	ownerByte   = 0
	collectByte = 1
	waitByte    = 2
)

// Holder is who owns the lock of a pod.
type Holder int

// The holders.
const (
	Nobody    Holder = iota
	Runner           // prepares or runs the pod
	Collector        // removes it, or moves it aside
)

// maxOwner bounds the text in the lock file.
const maxOwner = 512

// Owner is who locked a pod for running, as written into the lock file: a line
// with pid, start ticks, time and boot id. It is a hint for people and for
// stopping a supervisor that does not answer; whether the pod is locked is known
// from the lock alone.
type Owner = contract.Ready

// openLock opens the lock file of the pod directory folder.
func openLock(folder, flags int) (int, error) {
	// O_NONBLOCK: whatever else has got that name, do not hang on it.
	fd, err := openBeneath(folder, lockFile, flags|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return -1, fmt.Errorf("open lock: %w", err)
	}
	return fd, nil
}

// takeLock makes the open file fd the owner of the lock or returns ErrLocked.
func takeLock(fd int, as Holder) error {
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: ownerByte, Len: 1}
	if as == Collector {
		l.Len = collectByte + 1
	}
	err := fcntlLock(fd, unix.F_OFD_SETLK, &l)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return ErrLocked
	}
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	l = unix.Flock_t{Type: unix.F_WRLCK, Start: waitByte, Len: 1}
	if err := fcntlLock(fd, unix.F_OFD_SETLKW, &l); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return nil
}

// awaitLock blocks until nobody owns the lock.
func awaitLock(fd int) error {
	l := unix.Flock_t{Type: unix.F_RDLCK, Start: waitByte, Len: 1}
	return fcntlLock(fd, unix.F_OFD_SETLKW, &l)
}

// holderOf reports which other open file than fd owns the lock.
func holderOf(fd int) (Holder, error) {
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: ownerByte, Len: 1}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &l); err != nil {
		return Nobody, fmt.Errorf("ask for the lock: %w", err)
	}
	switch {
	case l.Type == unix.F_UNLCK:
		return Nobody, nil
	case l.Start+l.Len > collectByte:
		return Collector, nil
	}
	return Runner, nil
}

func fcntlLock(fd, cmd int, l *unix.Flock_t) error {
	for {
		if err := unix.FcntlFlock(uintptr(fd), cmd, l); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// writeOwner records this process in the lock file. A full disk does not
// matter: the record is a hint.
func writeOwner(fd int, self Owner) {
	text := fmt.Appendf(nil, "%d %d %d %s\n", self.PID, self.StartTicks, self.Nanos, self.BootID)
	if unix.Ftruncate(fd, 0) == nil {
		_, _ = unix.Pwrite(fd, text, 0)
	}
}

// readOwner reads the record of the owner; ok is false when there is none.
func readOwner(fd int) (o Owner, ok bool) {
	b := make([]byte, maxOwner)
	n, err := unix.Pread(fd, b, 0)
	if err != nil || n == 0 || b[n-1] != '\n' {
		return o, false
	}
	fields := strings.Fields(string(b[:n]))
	if len(fields) != 4 {
		return o, false
	}
	pid, err1 := strconv.Atoi(fields[0])
	ticks, err2 := strconv.ParseUint(fields[1], 10, 64)
	nanos, err3 := strconv.ParseInt(fields[2], 10, 64)
	return Owner{PID: pid, StartTicks: ticks, Nanos: nanos, BootID: fields[3]}, errors.Join(err1, err2, err3) == nil && pid > 0
}

// ReserveLockFD makes sure that contract.LockFD is not taken by something that
// this process needs, such as the runtime's epoll instance, when PassLock puts
// the lock there. Call it first thing in main. A descriptor that the caller of
// the program passed in is left alone.
func ReserveLockFD() error {
	if _, err := unix.FcntlInt(contract.LockFD, unix.F_GETFD, 0); err == nil {
		return nil
	}
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/null: %w", err)
	}
	if fd == contract.LockFD {
		return nil
	}
	defer unix.Close(fd)
	return unix.Dup3(fd, contract.LockFD, unix.O_CLOEXEC)
}

// PassLock puts the lock on contract.LockFD without the close-on-exec flag,
// replacing what was there. Call it immediately before the exec of stage1: any
// child that is started in between keeps the pod locked.
func (p *Pod) PassLock() error {
	if p.held != Runner {
		return fmt.Errorf("internal error: pod %s is not locked", p.id)
	}
	if err := unix.Dup3(p.lock, contract.LockFD, 0); err != nil {
		return fmt.Errorf("pass the lock of pod %s: %w", p.id, err)
	}
	return nil
}
