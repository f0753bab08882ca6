package supervise

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxConnections bounds what one port serves at a time. More wait in the
	// kernel's queue.
	maxConnections = 1000
	// spliceSize is how much is moved at once: what a pipe holds.
	spliceSize = 64 << 10
	// acceptPause is how long no connection is taken after it has failed, as for
	// want of descriptors.
	acceptPause = 100 * time.Millisecond
)

// serveTCP takes connections until the socket is closed or held.
func (p *published) serveTCP() {
	for {
		p.slots <- struct{}{}
		client, err := p.accept()
		if err == nil {
			go func() {
				defer func() { <-p.slots }()
				p.connection(client)
			}()
			continue
		}
		<-p.slots
		if errors.Is(err, os.ErrDeadlineExceeded) && !p.leaves() {
			continue
		}
		if _, isErrno := err.(syscall.Errno); !isErrno {
			return
		}
		time.Sleep(acceptPause)
	}
}

func (p *published) accept() (fd int, err error) {
	e := p.conn.Read(func(listener uintptr) bool {
		fd, _, err = unix.Accept4(int(listener), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		return err != unix.EAGAIN && err != unix.ECONNABORTED && err != unix.EINTR
	})
	if e != nil {
		return -1, e
	}
	return fd, err
}

// connection passes on both directions of a connection.
func (p *published) connection(fd int) {
	client, err := newEnd(fd)
	if err != nil {
		return
	}
	defer client.file.Close()
	pod, err := p.dial()
	if err != nil {
		return // the client sees that the connection ends
	}
	defer pod.file.Close()
	var both sync.WaitGroup
	both.Go(func() { pump(client, pod) })
	pump(pod, client)
	both.Wait()
}

// dial connects to the pod.
func (p *published) dial() (*end, error) {
	fd, err := socket(p.target, unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	err = unix.Connect(fd, sockaddr(p.target))
	if err != nil && err != unix.EINPROGRESS {
		unix.Close(fd)
		return nil, err
	}
	e, fresh := (*end)(nil), err == unix.EINPROGRESS
	if e, err = newEnd(fd); err != nil {
		return nil, err
	}
	werr := e.conn.Write(func(fd uintptr) bool {
		// Looked at here: the runtime forgets before the first call what it has heard.
		if fresh && !ready(int(fd), unix.POLLOUT) {
			return false
		}
		var n int
		if n, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && n != 0 {
			err = syscall.Errno(n)
		}
		return true
	})
	if err == nil {
		err = werr
	}
	if err != nil {
		e.file.Close()
		return nil, err
	}
	return e, nil
}

// end is one of the two connections that are joined.
type end struct {
	file *os.File
	conn syscall.RawConn
}

// newEnd takes over the descriptor.
func newEnd(fd int) (*end, error) {
	// A peer that vanished without a word is found out in two hours.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	f := os.NewFile(uintptr(fd), "connection")
	c, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &end{f, c}, nil
}

// pump moves bytes until from has no more, and says so to the other side. The
// bytes do not pass through this process. After an error neither direction goes on.
func pump(from, to *end) {
	err := from.spliceTo(to)
	how := unix.SHUT_WR
	if err != nil {
		how = unix.SHUT_RDWR
		_ = from.conn.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), how) })
	}
	_ = to.conn.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), how) })
}

func (from *end) spliceTo(to *end) error {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return err
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	const flags = unix.SPLICE_F_NONBLOCK | unix.SPLICE_F_MOVE
	for {
		var n int64
		var err error
		if e := from.conn.Read(func(fd uintptr) bool {
			n, err = unix.Splice(int(fd), nil, pipe[1], nil, spliceSize, flags)
			return err != unix.EAGAIN && err != unix.EINTR
		}); e != nil {
			return e
		}
		if err != nil || n == 0 {
			return err
		}
		for n > 0 {
			var m int64
			if e := to.conn.Write(func(fd uintptr) bool {
				m, err = unix.Splice(pipe[0], nil, int(fd), nil, int(n), flags)
				return err != unix.EAGAIN && err != unix.EINTR
			}); e != nil {
				return e
			}
			if err != nil {
				return err
			}
			n -= m
		}
	}
}
