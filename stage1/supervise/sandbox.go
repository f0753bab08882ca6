package supervise

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/stage1/compile"
	"rkt/stage1/contract"
	"rkt/stage1/program"
)

// sandbox is what the apps of a pod share: its namespaces, kept alive by these
// descriptors for as long as the supervisor lives.
type sandbox struct {
	compile.Namespaces
	reaper *program.Child // pid 1 of the pod's pid namespace; nil = there is none
}

// noNamespaces are those of an app that shares all with the host.
func noNamespaces() compile.Namespaces {
	return compile.Namespaces{User: none, Net: none, IPC: none, UTS: none, PID: none}
}

// makeSandbox makes the namespaces of the pod. podPID says that apps share a pid
// namespace. On an error nothing is left.
func makeSandbox(pod *contract.Pod, host *contract.Host, podPID bool) (*sandbox, error) {
	s := &sandbox{Namespaces: noNamespaces()}
	p, flags, all := compile.Sandbox(pod, host, podPID)
	if all == 0 {
		return s, nil
	}
	child, err := p.Start(program.Clone{Flags: flags})
	if err != nil {
		return nil, fmt.Errorf("make sandbox: %w", err)
	}
	if err := s.fill(child, all, host); err != nil {
		child.Kill()
		s.close()
		child.Close()
		return nil, fmt.Errorf("make sandbox: %w", err)
	}
	if flags&unix.CLONE_NEWPID != 0 {
		s.reaper = child
		return s, nil
	}
	unix.Close(child.Pidfd)
	child.Close()
	return s, nil
}

// fill meets the child where it waits, and opens its namespaces.
func (s *sandbox) fill(child *program.Child, flags uint64, host *contract.Host) error {
	if flags&unix.CLONE_NEWUSER != 0 {
		if err := child.Until(compile.WaitMaps); err != nil {
			return err
		}
		if err := writeMaps(child.PID, host.IDs); err != nil {
			return err
		}
		if err := child.Release(); err != nil {
			return err
		}
	}
	if err := child.Until(compile.WaitPinned); err != nil {
		return err
	}
	for _, ns := range []struct {
		flag uint64
		name string
		fd   *int
	}{
		{unix.CLONE_NEWUSER, "user", &s.User},
		{unix.CLONE_NEWNET, "net", &s.Net},
		{unix.CLONE_NEWIPC, "ipc", &s.IPC},
		{unix.CLONE_NEWUTS, "uts", &s.UTS},
		{unix.CLONE_NEWPID, "pid", &s.PID},
	} {
		if flags&ns.flag == 0 {
			continue
		}
		fd, err := unix.Open(procPath(child.PID, "ns/"+ns.name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s namespace: %w", ns.name, err)
		}
		*ns.fd = fd
	}
	return child.Release()
}

// writeMaps gives the user namespace of the process pid its id maps.
func writeMaps(pid int, ids []contract.IDMap) error {
	if len(ids) == 0 {
		return errors.New("write id maps: the pod has no id range")
	}
	text := mapText(ids)
	for _, file := range []string{"uid_map", "gid_map"} {
		if err := writeFile(procPath(pid, file), text); err != nil {
			return fmt.Errorf("write id maps: %w", err)
		}
	}
	return nil
}

func mapText(ids []contract.IDMap) string {
	var b strings.Builder
	for _, m := range ids {
		for i, n := range []uint32{m.Inside, m.Outside, m.Count} {
			b.WriteString(strconv.FormatUint(uint64(n), 10))
			b.WriteByte(" \n"[i/2])
		}
	}
	return b.String()
}

// outside is the host's id of an id inside the pod.
func outside(ids []contract.IDMap, id uint32) (uint32, bool) {
	if len(ids) == 0 {
		return id, true
	}
	for _, m := range ids {
		if id >= m.Inside && id-m.Inside < m.Count {
			return m.Outside + (id - m.Inside), true
		}
	}
	return 0, false
}

// close gives up the namespaces; they end with the last process in them.
func (s *sandbox) close() {
	closeFDs([]int{s.User, s.Net, s.IPC, s.UTS, s.PID})
	s.Namespaces = noNamespaces()
	if s.reaper != nil {
		s.reaper.Kill()
		unix.Close(s.reaper.Pidfd)
		s.reaper.Close()
		s.reaper = nil
	}
}
