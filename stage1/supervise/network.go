package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

const (
	// networkLimit bounds how long one of the commands of contract.HostNetwork may
	// take. They bound themselves more tightly.
	networkLimit = 5 * time.Minute
	// networkPoll is how often the wait for it looks whether the pod is to end.
	networkPoll = 100 * time.Millisecond
	// maxReason bounds what is kept of why it failed.
	maxReason = 4096
)

// networks are those of a pod of contract.NetJoined.
type networks struct {
	netns  int
	helper *helper // that attaches; nil = it is done
}

// helper is a command at work.
type helper struct {
	name    string
	pid     int
	pidfd   int
	says    int // what it writes on stderr
	started time.Time
}

// attach begins to attach the pod to its networks.
func (s *supervisor) attach() error {
	err := s.keepNetworks()
	if err == nil && s.networks != nil {
		s.networks.helper, err = startHelper("attach networks", s.host.Network.Attach, s.networks.netns)
	}
	return err
}

// keepNetworks keeps the network namespace of a pod that is attached to networks:
// it is needed for longer than the flavour has it.
func (s *supervisor) keepNetworks() error {
	if s.host.Network == nil {
		return nil
	}
	fd, err := s.flavour.Network()
	if err != nil {
		return err
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, contract.NetnsFD+1)
	if err != nil {
		return fmt.Errorf("keep network namespace: %w", err)
	}
	s.networks = &networks{netns: own}
	return nil
}

// awaitNetworks waits until the networks are there, and then serves the ports
// that the pod publishes. Only the first call does anything.
func (s *supervisor) awaitNetworks() error {
	n := s.networks
	if n == nil || n.helper == nil {
		return nil
	}
	h := n.helper
	n.helper = nil
	if err := h.wait(func() bool { s.takeSignals(); return s.phase >= stopping }); err != nil {
		return err
	}
	a, err := contract.LoadAttached(".")
	if err != nil {
		return fmt.Errorf("read networks: %w", err)
	}
	return s.ports.serve(a)
}

// leaveNetworks undoes what was done for the pod's networks. Every process of
// the pod is dead.
func (s *supervisor) leaveNetworks() error {
	if s.networks == nil {
		return nil
	}
	defer unix.Close(s.networks.netns)
	if h := s.networks.helper; h != nil { // no app came so far that it was waited for
		_ = h.wait(func() bool { return true })
	}
	a, err := contract.LoadAttached(".")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || a.Detach {
		h, err := startHelper("detach networks", s.host.Network.Detach, s.networks.netns)
		if err != nil {
			return err
		}
		return h.wait(func() bool { return false })
	}
	if err := release(s.pod.UUID, a.Release); err != nil {
		return err
	}
	return os.Remove(contract.NetworkFile)
}

// startHelper executes a command of contract.HostNetwork.
func startHelper(name string, argv []string, netns int) (*helper, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer null.Close()
	// Not a pipe: what a plugin leaves running would keep that open.
	says, err := unix.MemfdCreate("rkt-net", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	h := &helper{name: name, says: says, pidfd: -1, started: time.Now()}
	h.pid, err = syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
		Env:   os.Environ(),
		Files: []uintptr{null.Fd(), uintptr(says), uintptr(says), contract.LockFD, uintptr(netns)},
		Sys:   &syscall.SysProcAttr{Setpgid: true, PidFD: &h.pidfd},
	})
	if err != nil {
		unix.Close(says)
		return nil, fmt.Errorf("%s: %w", name, &os.PathError{Op: "execute", Path: argv[0], Err: err})
	}
	return h, nil
}

// wait waits for the end of the command, which is killed when stop says so or
// when it takes too long.
func (h *helper) wait(stop func() bool) error {
	defer unix.Close(h.says)
	defer unix.Close(h.pidfd)
	killed := ""
	p := []unix.PollFd{{Fd: int32(h.pidfd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, int(networkPoll.Milliseconds()))
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("%s: wait: %w", h.name, err)
		}
		if n == 1 {
			break
		}
		if late := time.Since(h.started) > networkLimit; killed == "" && (late || stop()) {
			if killed = "the pod was stopped"; late {
				killed = "it took longer than " + networkLimit.String()
			}
			_ = unix.Kill(-h.pid, unix.SIGKILL)
		}
	}
	var ws unix.WaitStatus
	if _, err := unix.Wait4(h.pid, &ws, 0, nil); err != nil {
		return fmt.Errorf("%s: wait: %w", h.name, err)
	}
	return h.result(ws, killed)
}

// result is what the command has come to. Of a good one, what it says is for the
// operator.
func (h *helper) result(ws unix.WaitStatus, killed string) error {
	b := make([]byte, maxReason)
	n, _ := unix.Pread(h.says, b, 0)
	said := strings.TrimSpace(string(b[:max(n, 0)]))
	switch {
	case killed != "":
		return fmt.Errorf("%s: %s", h.name, killed)
	case ws.Exited() && ws.ExitStatus() == 0:
		if said != "" {
			writeAll(2, []byte(said+"\n"))
		}
		return nil
	case said != "":
		return fmt.Errorf("%s: %s", h.name, said)
	case ws.Signaled():
		return fmt.Errorf("%s: it was ended by %s", h.name, ws.Signal())
	}
	return fmt.Errorf("%s: it ended with %d", h.name, ws.ExitStatus())
}
