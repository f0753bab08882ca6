package program

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Child is a process that runs a program. Its methods are called by one
// goroutine; reading blocks until the child does something or dies.
type Child struct {
	// PID is the process that runs the program: after a Fork the forked one,
	// which is a child of this process when the clone had CLONE_PARENT.
	PID int
	// Pidfd refers to PID. Close does not close it: the caller owns it.
	Pidfd int
	// Events are the reports so far.
	Events []Event

	program *Program
	report  int
	release int
	forks   int       // Forks that have not been reported
	early   []message // of the forked process, read before the report of the Fork
}

// Event is a reported outcome.
type Event struct {
	Label string
	Errno syscall.Errno // 0 = the operation succeeded
	Value uint64        // its result
}

// errEnded is the end of the pipe: the child executed something, or died.
var errEnded = errors.New("the process ended before its program did")

// Until reads reports until the child waits at label. A failed operation is an
// *Error, and then the child has ended.
func (c *Child) Until(label string) error {
	for {
		msg, err := c.next()
		if err != nil {
			return err
		}
		o := c.program.ops[msg.index]
		if msg.what == msgWaiting && o.label == label {
			return nil
		}
		if msg.what == msgWaiting || msg.what == msgEnded {
			return fmt.Errorf("internal error: program is not waiting at %q", label)
		}
	}
}

// UntilForked reads reports until the program goes on in the process that its
// first Fork makes: from here on PID and Pidfd are that one's.
func (c *Child) UntilForked() error {
	for {
		msg, err := c.next()
		switch {
		case err != nil:
			return err
		case msg.what == msgForked:
			return nil
		case msg.what != msgReported:
			return errors.New("internal error: program does not fork")
		}
	}
}

// Release lets the child go on from where it waits.
func (c *Child) Release() error {
	for {
		_, err := unix.Write(c.release, []byte{1})
		if err == nil {
			return nil
		}
		if err != unix.EINTR {
			return fmt.Errorf("release process: %w", err)
		}
	}
}

// ReleaseFD is the file that Release writes a byte to. The child that waits notices
// when the last copy of it is closed.
func (c *Child) ReleaseFD() int { return c.release }

// Done reads reports until the child tells nothing more: it executed something,
// came to the end of the program, or was killed. Executed is true for the first
// and the last, which only the exit status tells apart. A failed operation is
// an *Error.
func (c *Child) Done() (executed bool, err error) {
	for {
		msg, err := c.next()
		if errors.Is(err, errEnded) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
		if msg.what == msgEnded {
			return false, nil
		}
		if msg.what == msgWaiting {
			return false, fmt.Errorf("internal error: program waits at %q", c.program.ops[msg.index].label)
		}
	}
}

// Reported is the newest event with the label.
func (c *Child) Reported(label string) (Event, bool) {
	for i := len(c.Events) - 1; i >= 0; i-- {
		if c.Events[i].Label == label {
			return c.Events[i], true
		}
	}
	return Event{}, false
}

// Adopt is the child of this process that another program has started, in this
// process before an exec. Only Kill and Close may be called; pidfd is taken over.
func Adopt(pid, pidfd int) *Child {
	return &Child{PID: pid, Pidfd: pidfd, report: -1, release: -1}
}

// Kill ends the process and reaps it. It is for a start that failed; after it
// only Close may be called.
func (c *Child) Kill() {
	if c.Pidfd >= 0 {
		unix.PidfdSendSignal(c.Pidfd, unix.SIGKILL, nil, 0)
	}
	reapPID(c.PID)
}

// Close closes the pipes to the child. A child that still waits ends.
func (c *Child) Close() {
	for _, fd := range []*int{&c.report, &c.release} {
		if *fd >= 0 {
			unix.Close(*fd)
			*fd = -1
		}
	}
}

// next reads one message and takes note of it. What a forked process tells
// before the one that forked it has told its pid is put back: two processes
// write to the pipe, and either may come first.
func (c *Child) next() (message, error) {
	for {
		msg, err := c.read()
		if err != nil {
			return msg, err
		}
		if c.forks > 0 && msg.what != msgForked && int(msg.index) > c.program.lastFork() {
			c.early = append(c.early, msg)
			continue
		}
		return msg, c.note(msg)
	}
}

// read is the next message: of those that were early, when their time has come.
func (c *Child) read() (msg message, err error) {
	if c.forks == 0 && len(c.early) > 0 {
		msg, c.early = c.early[0], c.early[1:]
		return msg, nil
	}
	b := (*[unsafe.Sizeof(message{})]byte)(unsafe.Pointer(&msg))[:]
	for read := 0; read < len(b); {
		// Raw: the child answers in microseconds, and the runtime would make a
		// thread to run what is not there to be run meanwhile.
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(c.report), uintptr(unsafe.Pointer(&b[read])), uintptr(len(b)-read))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return msg, fmt.Errorf("read report of process: %w", errno)
		}
		if n == 0 {
			runtime.KeepAlive(c.program)
			return msg, errEnded
		}
		read += int(n)
	}
	if int(msg.index) >= len(c.program.ops) {
		return msg, errors.New("internal error: report of an unknown operation")
	}
	return msg, nil
}

// note keeps what a message says.
func (c *Child) note(msg message) error {
	o := c.program.ops[msg.index]
	switch msg.what {
	case msgFailed:
		return &Error{Index: o.index, Why: o.why, Call: o.Call(), Errno: syscall.Errno(msg.errno)}
	case msgReported:
		c.Events = append(c.Events, Event{Label: o.label, Errno: syscall.Errno(msg.errno), Value: msg.value})
	case msgForked:
		c.forks--
		return c.follow(int(msg.value))
	}
	return nil
}

// follow makes the forked process the child, and reaps the one that forked it.
func (c *Child) follow(pid int) error {
	first, firstFD := c.PID, c.Pidfd
	c.PID, c.Pidfd = pid, -1
	reapPID(first)
	unix.Close(firstFD)
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	c.Pidfd = fd
	return nil
}

// reapPID waits for a child that is about to end. Somebody else may have.
func reapPID(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}
