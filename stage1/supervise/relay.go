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
	from *os.File
	to   io.Writer
	done chan struct{}
}

// newRelay starts copying from from, which must not block, to to. The relay
// takes over from. What to does not take is lost.
func newRelay(to io.Writer, from *os.File) *relay {
	r := &relay{from: from, to: to, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.copy()
	}()
	return r
}

// copy runs until the end of input or until end is called. It has no buffer
// before there is something to read: most apps of most pods are silent.
func (r *relay) copy() {
	conn, err := r.from.SyscallConn()
	if err != nil {
		return
	}
	var buf []byte
	left := -1 // bytes that may still be read; -1 = no bound
	for {
		var n int
		var rerr error
		read := func(fd uintptr) bool {
			if buf == nil && left < 0 {
				if p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}; !pending(p) {
					return false
				}
			}
			if buf == nil {
				buf = make([]byte, relayBuffer)
			}
			n, rerr = unix.Read(int(fd), buf)
			return rerr != unix.EAGAIN
		}
		if left < 0 {
			err = conn.Read(read)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				left = relayLeft
				continue
			}
		} else {
			err = conn.Control(func(fd uintptr) { read(fd) })
		}
		if rerr == unix.EINTR {
			continue
		}
		if err != nil || rerr != nil || n <= 0 {
			return // EIO: the last process on a terminal is gone
		}
		_, _ = r.to.Write(buf[:n])
		if left >= 0 {
			if left -= n; left <= 0 {
				return
			}
		}
	}
}

// end passes on what has been written so far and stops. It does not wait for
// the end of input: somebody outside of the pod may have been handed the pipe.
func (r *relay) end() {
	_ = r.from.SetReadDeadline(time.Now())
	select {
	case <-r.done:
	case <-time.After(relayPatience):
	}
	_ = r.from.Close()
}

func pending(p []unix.PollFd) bool {
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0
}
