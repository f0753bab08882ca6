package supervise

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	relayBuffer = 16 << 10
	// relayLeft bounds what is read after the app is over. A pipe holds at most
	// this much; whoever writes more is not the app.
	relayLeft = 1 << 20
	// relayPatience is how long a reader of the output may keep the end of an
	// app waiting, such as a terminal that was stopped with Ctrl-S.
	relayPatience = 10 * time.Second
)

// relay copies what an app writes.
type relay struct {
	keeper
	from   *os.File
	fd     int // of from
	output int // the app's stream that it belongs to: 1 or 2, 0 for its terminal
	to     io.Writer
	buf    []byte
	n      int // bytes in buf
	err    error
}

// newRelay starts copying from the file fd, which must not block, to to. The
// relay takes over fd. What to does not take is lost.
func newRelay(to io.Writer, fd, output int) *relay {
	r := &relay{from: os.NewFile(uintptr(fd), "relay"), fd: fd, output: output, to: to}
	r.serve = r.copy
	r.interrupt = func() { _ = r.from.SetReadDeadline(time.Now()) }
	r.clear = func() { _ = r.from.SetReadDeadline(time.Time{}) }
	r.start()
	return r
}

// copy runs until the end of input, or until end or hold is called. It has no
// buffer before there is something to read: most apps of most pods are silent.
// In its loop it allocates nothing, so that the supervisor does not grow with
// what an app prints.
func (r *relay) copy() {
	conn, err := r.from.SyscallConn()
	if err != nil {
		return
	}
	wait, now := r.readWhenThere, func(fd uintptr) { r.read(fd) }
	left := -1 // bytes that may still be read; -1 = no bound
	for {
		r.n, r.err = 0, nil
		if left < 0 {
			err = conn.Read(wait)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				if r.leaves() {
					return
				}
				if r.stage.Load() == ending {
					left = relayLeft
				}
				continue
			}
		} else {
			err = conn.Control(now)
		}
		if r.err == unix.EINTR {
			continue
		}
		if err != nil || r.err != nil || r.n <= 0 {
			return // EIO: the last process on a terminal is gone
		}
		_, _ = r.to.Write(r.buf[:r.n])
		if left >= 0 {
			if left -= r.n; left <= 0 {
				return
			}
		}
	}
}

// readWhenThere reads once if there is something, and says whether there was.
func (r *relay) readWhenThere(fd uintptr) bool {
	if r.buf == nil && !ready(int(fd), unix.POLLIN) {
		return false
	}
	return r.read(fd)
}

// read reads once, and says whether there was something.
func (r *relay) read(fd uintptr) bool {
	if r.buf == nil {
		r.buf = make([]byte, relayBuffer)
	}
	r.n, r.err = unix.Read(int(fd), r.buf)
	return r.err != unix.EAGAIN
}

// end passes on what has been written so far and stops. It does not wait for
// the end of input: somebody outside of the pod may have been handed the pipe.
func (r *relay) end() {
	r.stage.Store(ending)
	r.interrupt()
	select {
	case <-r.done:
	case <-time.After(relayPatience):
	}
	_ = r.from.Close()
}

// ready says whether one of the poll(2) events is there on fd.
func ready(fd int, events int16) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, 0)
	return err == nil && n > 0
}
