package compile

import (
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
	"rkt/stage1/program"
)

// Sandbox is the program of the child in which a pod's namespaces are made: by
// the clone those with the flags clone, by the program itself the others of all,
// while the parent does something else. When all is 0 there is nothing to make.
// With podPID the child stays, as the first process of the pid namespace that
// apps of the pod share; else it has no further use after WaitPinned.
func Sandbox(pod *contract.Pod, host *contract.Host, podPID bool) (p *program.Program, clone, all uint64) {
	p = &program.Program{}
	hide(p)
	if podPID {
		clone |= unix.CLONE_NEWPID
	}
	if pod.User == contract.Private {
		clone |= unix.CLONE_NEWUSER
		p.Wait(WaitMaps)
		becomeRoot(p)
	}
	shared := sharedNamespaces(pod)
	makeShared(p, pod, host, shared)
	p.Wait(WaitPinned)
	if podPID {
		p.Prctl(unix.PR_SET_NAME, "PR_SET_NAME", p.Text("rkt-init")).Because("name the pod's first process")
		p.Reap()
	}
	return p, clone, clone | shared
}

// sharedNamespaces are those that the apps of a pod share, but for its user and
// pid namespaces, which must be made by a clone.
func sharedNamespaces(pod *contract.Pod) (flags uint64) {
	if pod.Net.Mode != contract.NetHost {
		flags |= unix.CLONE_NEWNET
	}
	if pod.IPC == contract.Private {
		flags |= unix.CLONE_NEWIPC
	}
	if pod.UTS == contract.Private {
		flags |= unix.CLONE_NEWUTS
	}
	return flags
}

// makeShared makes and fits out the shared namespaces, as their root: what is in
// them belongs to it.
func makeShared(p *program.Program, pod *contract.Pod, host *contract.Host, flags uint64) {
	if flags != 0 {
		p.Unshare(uintptr(flags)).Because("make the namespaces of the pod")
	}
	if flags&unix.CLONE_NEWNET != 0 {
		loopbackUp(p)
		openNetwork(p, host)
	}
	for _, s := range pod.Sysctls {
		why := "set " + s.Path
		f := p.Openat(program.Cwd(), "/proc/sys/"+s.Path, unix.O_WRONLY|unix.O_NOFOLLOW).Because(why)
		p.Write(f.Result(), s.Value).Because(why)
		p.Close(f.Result())
	}
	if flags&unix.CLONE_NEWUTS != 0 && pod.Hostname != "" {
		p.Sethostname(pod.Hostname).Because("set the host name")
	}
}

// hide makes the process one that nobody inside the pod may look into: it is a
// copy of the supervisor, and its /proc/PID/exe is the supervisor's program
// (CVE-2019-5736). The execve of the app undoes it.
func hide(p *program.Program) {
	p.Prctl(unix.PR_SET_DUMPABLE, "PR_SET_DUMPABLE", program.Num(0)).Because("hide from the pod")
}

// becomeRoot turns the host's root into the root of the user namespace.
func becomeRoot(p *program.Program) {
	const why = "become root of the user namespace"
	p.Setgroups(nil).Because(why)
	p.Setresgid(0).Because(why)
	p.Setresuid(0).Because(why)
}

// ifreq is struct ifreq with ifr_flags.
type ifreq struct {
	name  [unix.IFNAMSIZ]byte
	flags uint16
	_     [22]byte
}

func loopbackUp(p *program.Program) {
	const why = "bring up the loopback interface"
	req := &ifreq{flags: unix.IFF_UP}
	copy(req.name[:], "lo")
	var _ [40]byte = [unsafe.Sizeof(*req)]byte{}
	socket := p.Add("socket", unix.SYS_SOCKET, program.Named(unix.AF_INET, "AF_INET"),
		program.Named(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, "SOCK_DGRAM|SOCK_CLOEXEC"), program.Num(0)).Because(why)
	p.Ioctl(socket.Result(), unix.SIOCSIFFLAGS, "SIOCSIFFLAGS", program.Pointer(p, req, "{lo, IFF_UP}")).Because(why)
	p.Close(socket.Result())
}

// openNetwork lets every user of the pod listen on low ports and send echo
// requests: both are the pod's own, and no capability is needed for them.
func openNetwork(p *program.Program, host *contract.Host) {
	const dir = "/proc/sys/net/ipv4/"
	for _, s := range []struct{ file, value, why string }{
		{"ip_unprivileged_port_start", "0", "let apps listen on low ports"},
		{"ping_group_range", "0 " + strconv.FormatUint(lastGroup(host.IDs), 10), "let apps ping"},
	} {
		f := p.Openat(program.Cwd(), dir+s.file, unix.O_WRONLY).Because(s.why)
		p.Write(f.Result(), s.value).Because(s.why)
		p.Close(f.Result())
	}
}

// lastGroup is the highest group id of the pod that follows on 0 without a gap.
func lastGroup(ids []contract.IDMap) uint64 {
	if len(ids) == 0 {
		return 1<<31 - 1 // the highest that the kernel takes here
	}
	next := uint64(0)
	for range ids {
		for _, m := range ids {
			if uint64(m.Inside) <= next && next < uint64(m.Inside)+uint64(m.Count) {
				next = uint64(m.Inside) + uint64(m.Count)
			}
		}
	}
	return min(max(next, 1)-1, 1<<31-1)
}
