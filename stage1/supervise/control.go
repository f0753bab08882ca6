package supervise

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// replyTimeout is how long either side of the socket waits for the other.
var replyTimeout = unix.Timeval{Sec: 5}

// request is one message of the socket. The loop answers it to the peer before
// it does anything else: what was asked for may be the end of this process.
type request struct {
	op   contract.Operation
	peer int
}

// control is the supervisor's socket. Messages of other users than root, longer
// than contract.MaxRequest or of another version are refused.
type control struct {
	keeper
	file     *os.File
	fd       int // of file
	requests chan<- request
	over     chan struct{} // closed when the loop takes no more requests
}

// listen makes the socket in dir, in place of one that a dead supervisor left,
// and hands what it receives to requests.
func listen(dir string, requests chan<- request) (*control, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make control socket: %w", err)
	}
	err = withSocketPath(dir, func(path string) error {
		if err := unix.Unlink(path); err != nil && err != unix.ENOENT {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
			return err
		}
		if err := unix.Chmod(path, 0o600); err != nil {
			return err
		}
		return unix.Listen(fd, 16)
	})
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make control socket in %s: %w", dir, err)
	}
	return newControl(fd, requests), nil
}

// newControl takes over the listening socket fd.
func newControl(fd int, requests chan<- request) *control {
	c := &control{file: os.NewFile(uintptr(fd), contract.SocketFile), fd: fd, requests: requests, over: make(chan struct{})}
	c.serve = c.accept
	c.interrupt = func() { _ = c.file.SetReadDeadline(time.Now()) }
	c.clear = func() { _ = c.file.SetReadDeadline(time.Time{}) }
	c.start()
	return c
}

// withSocketPath calls f with a path of the socket in dir that is short enough
// for a socket address, whatever the length of dir.
func withSocketPath(dir string, f func(path string) error) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return f("/proc/self/fd/" + strconv.Itoa(fd) + "/" + contract.SocketFile)
}

// accept hands the requests that arrive to the loop, one at a time. After end it
// answers them itself: what could be asked for has come to pass.
func (c *control) accept() {
	conn, err := c.file.SyscallConn()
	if err != nil {
		return
	}
	for {
		peer := -1
		err := conn.Read(func(fd uintptr) bool {
			n, _, err := unix.Accept4(int(fd), unix.SOCK_CLOEXEC)
			if err == nil {
				peer = n
			}
			return err != unix.EAGAIN
		})
		if errors.Is(err, os.ErrDeadlineExceeded) && !c.leaves() {
			continue
		}
		if err != nil {
			return
		}
		if peer < 0 {
			continue
		}
		op, err := ask(peer)
		if err != nil {
			answer(peer, err)
			continue
		}
		select {
		case c.requests <- request{op, peer}:
		case <-c.over:
			answer(peer, nil)
		}
	}
}

// end says that the loop takes no more requests.
func (c *control) end() { close(c.over) }

// ask reads what a peer wants, who must be root.
func ask(peer int) (contract.Operation, error) {
	cred, err := unix.GetsockoptUcred(peer, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return "", fmt.Errorf("read credentials of the peer: %w", err)
	}
	if cred.Uid != 0 {
		return "", fmt.Errorf("refused: the peer is user %d, not root", cred.Uid)
	}
	var req contract.Request
	if err := receive(peer, &req); err != nil {
		return "", err
	}
	if !contract.Speaks(req.Version) {
		return "", fmt.Errorf("request has version %d, this program speaks %d", req.Version, contract.Version)
	}
	return req.Op, nil
}

// answer tells a peer what became of its request, and closes the connection.
func answer(peer int, result error) {
	defer unix.Close(peer)
	rep := contract.Reply{Version: contract.Version}
	if result != nil {
		rep.Error = result.Error()
	}
	b, err := contract.Encode(rep)
	if err != nil || len(b) > contract.MaxRequest {
		return
	}
	_ = unix.Send(peer, b, unix.MSG_NOSIGNAL)
}

// receive reads one message of a peer that is given replyTimeout to send it.
func receive(fd int, v any) error {
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &replyTimeout); err != nil {
		return err
	}
	b := make([]byte, contract.MaxRequest+1)
	n, err := unix.Read(fd, b)
	for err == unix.EINTR {
		n, err = unix.Read(fd, b)
	}
	switch {
	case err == unix.EAGAIN:
		return errors.New("no message in time")
	case err == unix.ECONNRESET:
		return errClosed
	case err != nil:
		return fmt.Errorf("receive message: %w", err)
	case n == 0:
		return errClosed
	case n > contract.MaxRequest:
		return fmt.Errorf("message is larger than %d bytes", contract.MaxRequest)
	}
	return contract.Decode(b[:n], v)
}

// errClosed reports a peer that has closed the connection.
var errClosed = errors.New("the peer closed the connection")

// errNoSupervisor reports that nobody listens on the socket of a pod.
var errNoSupervisor = errors.New("the pod has no supervisor")

// callSupervisor sends op to the supervisor that listens in the run folder of
// host and waits for its reply. The version is that of host.json: the supervisor
// may be older than this program. The pidfd is the supervisor's, for the caller
// to close, and is -1 if none is found; err is errNoSupervisor when nobody
// listens, and errClosed when whoever did was at its end.
func callSupervisor(host *contract.Host, op contract.Operation) (pidfd int, err error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make socket: %w", err)
	}
	defer unix.Close(fd)
	err = withSocketPath(host.RunDir, func(path string) error {
		return unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	})
	if err == unix.ECONNREFUSED || err == unix.ENOENT {
		return -1, errNoSupervisor
	}
	if err != nil {
		return -1, fmt.Errorf("connect to the supervisor: %w", err)
	}
	if pidfd, err = peerProcess(fd); err != nil {
		return -1, err
	}
	b, err := contract.Encode(contract.Request{Version: host.Version, Op: op})
	if err != nil {
		return pidfd, err
	}
	err = unix.Send(fd, b, unix.MSG_NOSIGNAL)
	if err == unix.EPIPE || err == unix.ECONNRESET {
		err = errClosed
	}
	if err != nil {
		return pidfd, fmt.Errorf("ask the supervisor: %w", err)
	}
	var rep contract.Reply
	if err := receive(fd, &rep); err != nil {
		return pidfd, fmt.Errorf("ask the supervisor: %w", err)
	}
	if rep.Error != "" {
		return pidfd, fmt.Errorf("the supervisor refused: %s", rep.Error)
	}
	return pidfd, nil
}

// peerProcess is a pidfd of the process that listens at the other end of fd.
func peerProcess(fd int) (int, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return -1, fmt.Errorf("read credentials of the supervisor: %w", err)
	}
	pidfd, err := unix.PidfdOpen(int(cred.Pid), 0)
	if err != nil {
		return -1, errNoSupervisor
	}
	// The listener's end closes with it. While it is open the pid is its own.
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
	if _, err := unix.Poll(p, 0); err != nil || p[0].Revents&unix.POLLHUP != 0 || exited(pidfd) {
		unix.Close(pidfd)
		return -1, errNoSupervisor
	}
	return pidfd, nil
}
