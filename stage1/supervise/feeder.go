package supervise

import (
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// feeder copies the caller's stdin to the terminal of an app. What is typed may
// come between two starts of the app, so one feeder serves all of them.
type feeder struct {
	keeper
	event int // an eventfd that ends a wait

	sync.Mutex
	to    *os.File
	tty   *terminal // the caller's, nil if stdin is none
	began bool
	ended bool // stdin is at its end, and the app knows
}

// backgroundCheck is how often a feeder whose terminal belongs to another job
// looks whether it has got it back: not every shell tells.
const backgroundCheck = 500 * time.Millisecond

// feed makes to the target of what is read from now on. tty is the caller's
// terminal, nil where stdin is none.
func (f *feeder) feed(to *os.File, tty *terminal) error {
	f.Lock()
	defer f.Unlock()
	f.to, f.tty = to, tty
	if f.began {
		return nil
	}
	f.began = true
	return f.begin()
}

// takeOver goes on with what another process has begun to feed, or come to the
// end of. The target is set by then.
func (f *feeder) takeOver(began, ended bool) error {
	f.began, f.ended = began, ended
	if !began {
		return nil
	}
	return f.begin()
}

func (f *feeder) begin() (err error) {
	if f.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("relay stdin: %w", err)
	}
	f.serve, f.interrupt, f.clear = f.copy, f.wake, f.sleep
	f.start()
	return nil
}

// wake ends a wait, and each one from now on until sleep.
func (f *feeder) wake() { _, _ = unix.Write(f.event, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

func (f *feeder) sleep() {
	var count [8]byte
	_, _ = unix.Read(f.event, count[:])
}

// look makes the feeder look again whose the terminal is.
func (f *feeder) look() {
	f.Lock()
	defer f.Unlock()
	if f.began {
		f.wake()
	}
}

// copy runs until the end of stdin or until it is held.
func (f *feeder) copy() {
	var buf [4096]byte
	for !f.isEnded() {
		to, mine := f.target()
		fds := [2]unix.PollFd{{Fd: int32(f.event), Events: unix.POLLIN}, {Fd: 0, Events: unix.POLLIN}}
		timeout := -1
		if !mine {
			// Reading would stop this process, or take what was typed for another job.
			fds[1].Fd, timeout = -1, int(backgroundCheck.Milliseconds())
		}
		_, _ = unix.Poll(fds[:], timeout)
		if fds[0].Revents != 0 {
			if f.leaves() {
				return
			}
			f.sleep()
			continue
		}
		if fds[1].Revents != 0 {
			f.pass(to, buf[:])
		}
	}
}

// target is where input goes, and whether it is this process that gets it.
func (f *feeder) target() (to *os.File, mine bool) {
	f.Lock()
	defer f.Unlock()
	return f.to, f.tty == nil || f.tty.take()
}

func (f *feeder) isEnded() bool {
	f.Lock()
	defer f.Unlock()
	return f.ended
}

// pass reads once and writes that. A target that is closed takes nothing.
func (f *feeder) pass(to *os.File, buf []byte) {
	n, err := unix.Read(0, buf)
	switch {
	case n > 0:
		_, _ = to.Write(buf[:n])
	case err == unix.EINTR || err == unix.EAGAIN:
	case err == unix.EIO && f.tty != nil && !foreground(0):
		// The terminal went to another job in between.
	default:
		_, _ = to.Write([]byte{eot}) // what Ctrl-D is to a terminal
		f.Lock()
		defer f.Unlock()
		f.ended = true
	}
}

// eot is the default end-of-file character of a terminal.
const eot = 4
