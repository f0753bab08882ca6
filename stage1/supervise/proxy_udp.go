package supervise

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxSessions bounds the clients of one port at a time; what further ones send
	// is dropped, as UDP may be.
	maxSessions = 1000
	// sessionIdle is how long a client that is silent, and to which nothing is sent,
	// is remembered.
	sessionIdle = 90 * time.Second
	// maxDatagram is the largest there is.
	maxDatagram = 64 << 10
)

// sessions are the clients of a port.
type sessions struct {
	p  *published
	mu sync.Mutex
	by map[netip.AddrPort]*end
	// buffers are used for a moment only: there are fewer than clients.
	buffers sync.Pool
}

func newSessions(p *published) *sessions {
	s := &sessions{p: p, by: make(map[netip.AddrPort]*end)}
	s.buffers.New = func() any { return new([maxDatagram]byte) }
	return s
}

// any says whether there is a client.
func (s *sessions) any() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.by) > 0
}

// serveUDP passes on datagrams until the socket is closed or held.
func (p *published) serveUDP() {
	s := p.sessions
	for {
		var err error
		e := p.conn.Read(func(fd uintptr) bool {
			b := s.buffers.Get().(*[maxDatagram]byte)
			defer s.buffers.Put(b)
			n, from, rerr := unix.Recvfrom(int(fd), b[:], 0)
			if rerr == unix.EAGAIN {
				return false
			}
			if err = rerr; err == nil {
				s.forward(b[:n], from)
			}
			return true
		})
		if errors.Is(e, os.ErrDeadlineExceeded) && !p.leaves() {
			continue
		}
		if e != nil {
			return
		}
		if err != nil && err != unix.EINTR && err != unix.ECONNREFUSED {
			time.Sleep(acceptPause)
		}
	}
}

// forward passes on one datagram of a client.
func (s *sessions) forward(b []byte, from unix.Sockaddr) {
	client, ok := addrPort(from)
	if !ok {
		return
	}
	pod := s.session(client, from)
	if pod == nil {
		return
	}
	_ = pod.file.SetReadDeadline(time.Now().Add(sessionIdle))
	_ = pod.conn.Control(func(fd uintptr) { _, _ = unix.Write(int(fd), b) }) // a full queue drops it
}

// session is that of a client, a new one if there is none.
func (s *sessions) session(client netip.AddrPort, from unix.Sockaddr) *end {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.by[client]; e != nil {
		return e
	}
	if len(s.by) >= maxSessions {
		return nil
	}
	fd, err := socket(s.p.target, unix.SOCK_DGRAM)
	if err != nil {
		return nil
	}
	if err := unix.Connect(fd, sockaddr(s.p.target)); err != nil {
		unix.Close(fd)
		return nil
	}
	f := os.NewFile(uintptr(fd), "session")
	conn, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil
	}
	e := &end{f, conn}
	s.by[client] = e
	go s.answer(e, client, from)
	return e
}

// answer passes on what the pod answers, until nothing has come for a while.
func (s *sessions) answer(pod *end, client netip.AddrPort, to unix.Sockaddr) {
	defer func() {
		s.mu.Lock()
		delete(s.by, client)
		s.mu.Unlock()
		pod.file.Close()
	}()
	for {
		e := pod.conn.Read(func(fd uintptr) bool {
			b := s.buffers.Get().(*[maxDatagram]byte)
			defer s.buffers.Put(b)
			n, _, err := unix.Recvfrom(int(fd), b[:], 0)
			if err == unix.EAGAIN {
				return false
			}
			if err == nil {
				_ = s.p.conn.Control(func(fd uintptr) { _ = unix.Sendto(int(fd), b[:n], 0, to) })
			}
			return true // an error is what ICMP has told of an earlier datagram
		})
		if e != nil {
			return
		}
		_ = pod.file.SetReadDeadline(time.Now().Add(sessionIdle))
	}
}

func addrPort(a unix.Sockaddr) (netip.AddrPort, bool) {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), true
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), true
	}
	return netip.AddrPort{}, false
}
