package program

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Setns joins namespaces by the fd of one or of a process.
func (p *Program) Setns(fd Arg, flags uintptr) *Op {
	return p.Add("setns", unix.SYS_SETNS, fd, flagsArg(flags, &cloneFlags))
}

// Unshare leaves namespaces for new ones.
func (p *Program) Unshare(flags uintptr) *Op {
	return p.Add("unshare", unix.SYS_UNSHARE, flagsArg(flags, &cloneFlags))
}

// Prctl changes an attribute of the process.
func (p *Program) Prctl(option uintptr, name string, args ...Arg) *Op {
	all := []Arg{Named(option, name)}
	all = append(all, args...)
	for len(all) < 5 {
		all = append(all, Num(0))
	}
	return p.Add("prctl", unix.SYS_PRCTL, all...)
}

// Setresuid sets all user ids.
func (p *Program) Setresuid(uid uint32) *Op {
	return p.Add("setresuid", unix.SYS_SETRESUID, Num(int(uid)), Num(int(uid)), Num(int(uid)))
}

// Setresgid sets all group ids.
func (p *Program) Setresgid(gid uint32) *Op {
	return p.Add("setresgid", unix.SYS_SETRESGID, Num(int(gid)), Num(int(gid)), Num(int(gid)))
}

// Setgroups sets the supplementary groups, without the duplicates' order being changed.
func (p *Program) Setgroups(groups []uint32) *Op {
	list := Null()
	if len(groups) > 0 {
		g := append([]uint32(nil), groups...)
		p.keep = append(p.keep, g)
		list = Arg{style: styleFlags, value: uintptr(unsafe.Pointer(&g[0])), shown: g}
	}
	return p.Add("setgroups", unix.SYS_SETGROUPS, Num(len(groups)), list)
}

// Capset sets the process's capabilities, each set a mask of 1<<CAP_X.
func (p *Program) Capset(effective, permitted, inheritable uint64) *Op {
	head := &unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := &[2]unix.CapUserData{}
	for i := range data {
		data[i] = unix.CapUserData{
			Effective:   uint32(effective >> (32 * i)),
			Permitted:   uint32(permitted >> (32 * i)),
			Inheritable: uint32(inheritable >> (32 * i)),
		}
	}
	return p.Add("capset", unix.SYS_CAPSET, Pointer(p, head, "v3"),
		Pointer(p, data, "{effective="+hex(effective)+", permitted="+hex(permitted)+", inheritable="+hex(inheritable)+"}"))
}

// Setrlimit sets a resource limit of the process.
func (p *Program) Setrlimit(resource int, name string, soft, hard uint64) *Op {
	l := &unix.Rlimit{Cur: soft, Max: hard}
	return p.Add("prlimit64", unix.SYS_PRLIMIT64, Num(0), Named(uintptr(resource), name),
		Pointer(p, l, "{"+limit(soft)+", "+limit(hard)+"}"), Null())
}

// PidfdSendSignal sends a signal to the process of a pidfd.
func (p *Program) PidfdSendSignal(pidfd Arg, sig unix.Signal) *Op {
	return p.Add("pidfd_send_signal", unix.SYS_PIDFD_SEND_SIGNAL, pidfd, Named(uintptr(sig), unix.SignalName(sig)), Null(), Num(0))
}

// AwaitReadable waits until there is something to read from fd, or until the time
// left has passed, which several waits may share.
func (p *Program) AwaitReadable(fd Arg, left *unix.Timespec) *Op {
	fds := &[1]unix.PollFd{{Fd: int32(fd.value), Events: unix.POLLIN}}
	return p.Add("ppoll", unix.SYS_PPOLL, Pointer(p, fds, fd.String()), Num(1), Pointer(p, left, "left"), Null(), Num(0))
}

// Setsid makes the process the leader of a new session.
func (p *Program) Setsid() *Op { return p.Add("setsid", unix.SYS_SETSID) }

// Umask sets the file mode creation mask.
func (p *Program) Umask(mask uint32) *Op { return p.Add("umask", unix.SYS_UMASK, Mode(mask)) }

// Sethostname names the host of the uts namespace.
func (p *Program) Sethostname(name string) *Op {
	return p.Add("sethostname", unix.SYS_SETHOSTNAME, p.Text(name), Num(len(name)))
}

// JoinSessionKeyring gives the process an anonymous session keyring.
func (p *Program) JoinSessionKeyring() *Op {
	return p.Add("keyctl", unix.SYS_KEYCTL, Named(unix.KEYCTL_JOIN_SESSION_KEYRING, "KEYCTL_JOIN_SESSION_KEYRING"), Null())
}

// Seccomp installs a filter: struct sock_filter[].
func (p *Program) Seccomp(filter []byte) *Op {
	insns := len(filter) / int(unsafe.Sizeof(unix.SockFilter{}))
	code := make([]unix.SockFilter, max(insns, 1))
	for i := range insns {
		code[i] = *(*unix.SockFilter)(unsafe.Pointer(&filter[i*int(unsafe.Sizeof(unix.SockFilter{}))]))
	}
	prog := &unix.SockFprog{Len: uint16(insns), Filter: &code[0]}
	return p.Add("seccomp", unix.SYS_SECCOMP, Named(seccompSetModeFilter, "SECCOMP_SET_MODE_FILTER"), Num(0),
		Pointer(p, prog, "filter"))
}

const seccompSetModeFilter = 1 // include/uapi/linux/seccomp.h

// Execve executes path. As it may be tried again with another path, every
// error is allowed and reported with the label.
func (p *Program) Execve(path string, argv, envp Arg, label string) *Op {
	return p.Add("execve", unix.SYS_EXECVE, p.Text(path), argv, envp).Allow().Report(label)
}

// Strings is a pointer to a null-terminated array of pointers to strings, with
// those behind the pointers more at its end.
func (p *Program) Strings(list []string, name string, more ...Arg) Arg {
	pointers := make([]uintptr, len(list)+len(more)+1)
	for i, s := range list {
		pointers[i] = p.Text(s).value
	}
	for i, a := range more {
		pointers[len(list)+i] = a.value
	}
	p.keep = append(p.keep, pointers)
	return Arg{style: styleName, value: uintptr(unsafe.Pointer(&pointers[0])), name: name}
}
