package supervise

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/internal/cgrouptree"
	"rkt/stage1/compile"
	"rkt/stage1/contract"
	"rkt/stage1/program"
)

// sandbox is what the apps of a pod share: its namespaces, kept alive by their
// descriptors for as long as the supervisor lives. They are made in a process of
// their own, which goes on while the supervisor does other things.
type sandbox struct {
	user   int // namespace, as soon as it has its id maps
	joined compile.Namespaces
	all    uint64 // which there are, as CLONE_NEW*

	child  *program.Child // nil = not there any more
	pinned bool           // joined is complete
	keep   bool           // the child is pid 1 of the pod's pid namespace
}

// noNamespaces are those of an app that shares all with the host.
func noNamespaces() compile.Namespaces {
	return compile.Namespaces{User: none, Net: none, IPC: none, UTS: none, PID: none}
}

// beginSandbox begins to make the namespaces of the pod. podPID says that apps
// share a pid namespace. On an error nothing is left.
func beginSandbox(pod *contract.Pod, host *contract.Host, podPID bool) (*sandbox, error) {
	s := &sandbox{user: none, joined: noNamespaces(), keep: podPID}
	p, flags, all := compile.Sandbox(pod, host, podPID)
	if all == 0 {
		s.pinned = true
		return s, nil
	}
	s.all = all
	var err error
	if s.child, err = p.Start(program.Clone{Flags: flags}); err != nil {
		return nil, fmt.Errorf("make sandbox: %w", err)
	}
	if flags&unix.CLONE_NEWUSER == 0 {
		return s, nil
	}
	if err := s.mapUsers(host); err != nil {
		s.close()
		return nil, fmt.Errorf("make sandbox: %w", err)
	}
	return s, nil
}

// mapUsers gives the user namespace its id maps and lets the child go on.
func (s *sandbox) mapUsers(host *contract.Host) error {
	if err := s.child.Until(compile.WaitMaps); err != nil {
		return err
	}
	if err := writeMaps(s.child.PID, host.IDs); err != nil {
		return err
	}
	fd, err := openNamespace(s.child.PID, "user")
	if err != nil {
		return err
	}
	s.user = fd
	return s.child.Release()
}

func openNamespace(pid int, name string) (int, error) {
	fd, err := unix.Open(procPath(pid, "ns/"+name), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return none, fmt.Errorf("open %s namespace: %w", name, err)
	}
	return fd, nil
}

// namespaces waits until the namespaces are complete and returns them.
func (s *sandbox) namespaces() (compile.Namespaces, error) {
	if s.pinned {
		return s.joined, nil
	}
	if err := s.child.Until(compile.WaitPinned); err != nil {
		return s.joined, fmt.Errorf("make sandbox: %w", err)
	}
	s.joined.User = s.user
	for _, ns := range []struct {
		flag uint64
		name string
		fd   *int
	}{
		{unix.CLONE_NEWNET, "net", &s.joined.Net},
		{unix.CLONE_NEWIPC, "ipc", &s.joined.IPC},
		{unix.CLONE_NEWUTS, "uts", &s.joined.UTS},
		{unix.CLONE_NEWPID, "pid", &s.joined.PID},
	} {
		if s.all&ns.flag == 0 {
			continue
		}
		fd, err := openNamespace(s.child.PID, ns.name)
		if err != nil {
			return s.joined, fmt.Errorf("make sandbox: %w", err)
		}
		*ns.fd = fd
	}
	s.pinned = true
	return s.joined, s.child.Release()
}

// dismiss ends the child, unless its pid namespace needs it.
func (s *sandbox) dismiss() {
	if !s.keep {
		s.end()
	}
}

func (s *sandbox) end() {
	if s.child == nil {
		return
	}
	s.child.Kill()
	unix.Close(s.child.Pidfd)
	s.child.Close()
	s.child = nil
}

// writeMaps gives the user namespace of the process pid its id maps.
func writeMaps(pid int, ids []contract.IDMap) error {
	if len(ids) == 0 {
		return errors.New("write id maps: the pod has no id range")
	}
	text := mapText(ids)
	for _, file := range []string{"uid_map", "gid_map"} {
		if err := cgrouptree.WriteFile(procPath(pid, file), text); err != nil {
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

// handOver describes the sandbox, if it is complete.
func (s *sandbox) handOver() (h Shared, ok bool) {
	h = Shared{
		User: s.user, Net: s.joined.Net, IPC: s.joined.IPC, UTS: s.joined.UTS, PID: s.joined.PID,
		All: s.all, Pidfd: -1,
	}
	if s.child != nil {
		h.Init, h.Pidfd = s.child.PID, s.child.Pidfd
	}
	return h, s.pinned
}

// takeOverSandbox goes on with the sandbox that h describes.
func takeOverSandbox(h Shared) *sandbox {
	s := &sandbox{user: h.User, all: h.All, pinned: true, keep: h.Init != 0}
	s.joined = compile.Namespaces{User: h.User, Net: h.Net, IPC: h.IPC, UTS: h.UTS, PID: h.PID}
	if s.keep {
		s.child = program.Adopt(h.Init, h.Pidfd)
	}
	return s
}

// close gives up the namespaces; they end with the last process in them.
func (s *sandbox) close() {
	closeFDs([]int{s.user, s.joined.Net, s.joined.IPC, s.joined.UTS, s.joined.PID})
	s.user, s.joined = none, noNamespaces()
	s.end()
}
