package supervise

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// ports are the sockets of the host on which the pod's ports are published. The
// firewall may send what is for them straight to the pod; what arrives is passed
// on. So the ports are nobody else's, loopback works, and no flush matters.
type ports struct{ published []*published }

// published is one socket and where what arrives there goes.
type published struct {
	keeper
	port   contract.Port
	at     netip.AddrPort
	socket *os.File
	fd     int // of socket
	conn   syscall.RawConn
	target netip.AddrPort

	slots    chan struct{} // one for each connection of TCP, and one for who takes them
	sessions *sessions     // of UDP
}

// publish takes the ports. A port that is taken already is an error.
func (s *supervisor) publish() error {
	s.ports = &ports{}
	for _, p := range s.pod.Net.Ports {
		if err := s.ports.take(p); err != nil {
			return fmt.Errorf("publish port %d: %w", p.PodPort, err)
		}
	}
	return nil
}

// take opens the sockets of a port.
func (ps *ports) take(p contract.Port) error {
	if p.HostIP != "" {
		ip, err := netip.ParseAddr(p.HostIP)
		if err != nil {
			return err
		}
		return ps.open(p, ip)
	}
	if err := ps.open(p, netip.AddrFrom4([4]byte{127, 0, 0, 1})); err != nil {
		return err
	}
	err := ps.open(p, netip.IPv6Loopback())
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil // a host without IPv6
	}
	return err
}

func (ps *ports) open(p contract.Port, ip netip.Addr) error {
	at := netip.AddrPortFrom(ip, uint16(p.HostPort))
	fd, err := bound(at, p.Protocol)
	if err != nil {
		switch {
		case errors.Is(err, unix.EADDRINUSE):
			return fmt.Errorf("%s/%s of the host is in use", at, p.Protocol)
		case errors.Is(err, unix.EADDRNOTAVAIL) && !ip.IsLoopback():
			return fmt.Errorf("%s is no address of the host", ip)
		}
		return fmt.Errorf("listen on %s/%s of the host: %w", at, p.Protocol, err)
	}
	return ps.add(p, at, fd)
}

// add takes over the socket fd of a port.
func (ps *ports) add(p contract.Port, at netip.AddrPort, fd int) error {
	f := os.NewFile(uintptr(fd), at.String())
	conn, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return err
	}
	ps.published = append(ps.published, &published{port: p, at: at, socket: f, fd: fd, conn: conn})
	return nil
}

// bound opens a socket at an address; one of TCP listens.
func bound(at netip.AddrPort, protocol string) (fd int, err error) {
	kind := unix.SOCK_STREAM
	if protocol == "udp" {
		kind = unix.SOCK_DGRAM
	}
	if fd, err = socket(at, kind); err != nil {
		return -1, err
	}
	if kind == unix.SOCK_STREAM {
		// What a connection of before leaves behind does not hold the port.
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil && at.Addr().Is6() {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(at))
	}
	if err == nil && kind == unix.SOCK_STREAM {
		err = unix.Listen(fd, unix.SOMAXCONN)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// socket opens a socket of the version of IP that an address has.
func socket(at netip.AddrPort, kind int) (int, error) {
	domain := unix.AF_INET
	if at.Addr().Is6() {
		domain = unix.AF_INET6
	}
	return unix.Socket(domain, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

func sockaddr(at netip.AddrPort) unix.Sockaddr {
	if at.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
}

// serve begins to pass on what arrives, to the first address that the pod has:
// apps are more likely to listen on that of IPv4.
func (ps *ports) serve(a *contract.Attached) error {
	if len(ps.published) == 0 {
		return nil
	}
	var to netip.Addr
	for _, i := range a.Interfaces {
		for _, text := range i.Addresses {
			if p, err := netip.ParsePrefix(text); err == nil && !to.IsValid() {
				to = p.Addr()
			}
		}
	}
	if !to.IsValid() {
		return errors.New("publish ports: the pod has no address")
	}
	for _, p := range ps.published {
		p.begin(netip.AddrPortFrom(to, uint16(p.port.PodPort)))
	}
	return nil
}

// begin begins to pass on what arrives to target.
func (p *published) begin(target netip.AddrPort) {
	p.target = target
	p.interrupt = func() { _ = p.socket.SetReadDeadline(time.Now()) }
	p.clear = func() { _ = p.socket.SetReadDeadline(time.Time{}) }
	if p.port.Protocol == "udp" {
		p.sessions, p.serve = newSessions(p), p.serveUDP
	} else {
		p.slots, p.serve = make(chan struct{}, maxConnections), p.serveTCP
	}
	p.start()
}

// busy says whether somebody is connected. Nobody comes to be while it is held.
func (p *published) busy() bool {
	if p.sessions != nil {
		return p.sessions.any()
	}
	return len(p.slots) > 0
}

// all are the ports that are served; ps may be nil.
func (ps *ports) all() []*published {
	if ps == nil {
		return nil
	}
	return ps.published
}

// portHandover is a port that is served.
type portHandover struct {
	Port   contract.Port `json:"port"`
	At     string        `json:"at"`
	Target string        `json:"target"`
	FD     int           `json:"fd"`
}

// describe is the handover of the ports.
func (ps *ports) describe() (list []portHandover) {
	for _, p := range ps.all() {
		list = append(list, portHandover{p.port, p.at.String(), p.target.String(), p.fd})
	}
	return list
}

// takeOverPorts goes on with the ports that a handover lists.
func takeOverPorts(list []portHandover) (*ports, error) {
	ps := &ports{}
	for i, h := range list {
		at, err := netip.ParseAddrPort(h.At)
		if err != nil {
			return nil, err
		}
		target, err := netip.ParseAddrPort(h.Target)
		if err != nil {
			return nil, err
		}
		if err := ps.add(h.Port, at, h.FD); err != nil {
			return nil, err
		}
		ps.published[i].begin(target)
	}
	return ps, nil
}

// close gives the ports back. What is under way ends with this process.
func (ps *ports) close() {
	if ps == nil {
		return
	}
	for _, p := range ps.published {
		p.socket.Close()
	}
}
