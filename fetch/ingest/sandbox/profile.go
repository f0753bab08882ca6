package sandbox

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
	"rkt/internal/callfilter"
)

// runtimeCalls are what the Go runtime needs, and reading and writing of what is
// open. Nothing of it opens a file, a socket or a process.
func runtimeCalls() []string {
	return strings.Fields(`
		read write pread64 pwrite64 readv writev lseek fstat ftruncate fsync fdatasync close
		munmap madvise mremap brk mincore
		futex set_robust_list get_robust_list rseq membarrier restart_syscall
		rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack tgkill
		gettid getpid getppid getuid geteuid getgid getegid uname sysinfo getrandom umask
		exit exit_group sched_yield sched_getaffinity
		nanosleep clock_nanosleep clock_gettime clock_getres gettimeofday getrusage getrlimit
		epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd2 poll ppoll pipe2
		recvmsg
	`)
}

// folderCalls work in a folder that is open, by what Landlock lets through.
func folderCalls() []string {
	return strings.Fields(`openat openat2 newfstatat statx getdents64 unlinkat renameat2 readlinkat fstatfs`)
}

// networkCalls are for sockets that socketRule lets through.
func networkCalls() []string {
	return strings.Fields(`
		connect bind getsockname getpeername setsockopt getsockopt shutdown
		sendto recvfrom sendmsg sendmmsg recvmmsg
	`)
}

// unpackCalls make files of any owner.
func unpackCalls() []string {
	return strings.Fields(`
		mkdirat linkat symlinkat mknodat fchown fchownat fchmod fchmodat fsetxattr utimensat
		copy_file_range fallocate
	`)
}

// profileOf says what each system call gets in a process of the role. What is in
// no list is as if the kernel did not have it.
func profileOf(role wire.Role) callfilter.Profile {
	p := callfilter.Profile{Allow: runtimeCalls(), Rules: rules()}
	switch role {
	case wire.AskRegistries:
		p.Allow = slices.Concat(p.Allow, folderCalls(), networkCalls())
		p.Rules = append(p.Rules, socketRule())
	case wire.ReadImage:
		p.Allow = slices.Concat(p.Allow, folderCalls())
	case wire.UnpackLayer:
		p.Allow = slices.Concat(p.Allow, folderCalls(), unpackCalls())
	}
	for _, call := range deniedCalls() {
		named := func(r callfilter.Rule) bool { return r.Call == call }
		if !slices.Contains(p.Allow, call) && !slices.ContainsFunc(p.Rules, named) {
			p.Deny = append(p.Deny, call)
		}
	}
	return p
}

// deniedCalls are known, and told no rather than that they do not exist: a
// program that finds no execve does something worse than one that may not.
func deniedCalls() []string {
	return slices.Concat(folderCalls(), networkCalls(), unpackCalls(), strings.Fields(`
		open creat execve execveat fork vfork kill tkill ptrace process_vm_readv process_vm_writev pidfd_open pidfd_getfd
		socket socketpair accept accept4 listen mount umount2 pivot_root chroot move_mount open_tree fsopen fsmount unshare setns
		setuid setgid setresuid setresgid setgroups capset bpf perf_event_open userfaultfd keyctl add_key request_key
		io_uring_setup io_uring_enter io_uring_register open_by_handle_at name_to_handle_at mknod memfd_create
		prlimit64 setrlimit ioctl splice vmsplice tee sendfile shmget shmat msgget semget mq_open
	`))
}

// rules are the calls of the runtime of which only some uses are its own.
func rules() []callfilter.Rule {
	noExec := func(call string) callfilter.Rule {
		return callfilter.Rule{Call: call, Else: callfilter.Allow, When: []callfilter.When{
			{Arg: 2, Op: callfilter.AnyBit, Vals: []uint32{unix.PROT_EXEC}, Then: callfilter.NotPermitted},
		}}
	}
	return []callfilter.Rule{
		noExec("mmap"),
		noExec("mprotect"),
		// Threads, and neither processes nor namespaces.
		{Call: "clone", Else: callfilter.NotPermitted, When: []callfilter.When{
			{Arg: 0, Op: callfilter.AnyBit, Vals: []uint32{newNamespaces}, Then: callfilter.NotPermitted},
			{Arg: 0, Op: callfilter.AnyBit, Vals: []uint32{unix.CLONE_THREAD}, Then: callfilter.Allow},
		}},
		{Call: "clone3", Else: callfilter.NotThere},
		{Call: "prctl", Else: callfilter.NotPermitted, When: []callfilter.When{
			{Arg: 0, Op: callfilter.OneOf, Vals: []uint32{unix.PR_SET_VMA}, Then: callfilter.Allow}, // names of mappings
		}},
		// Not F_SETOWN, F_NOTIFY and the like, which send signals.
		{Call: "fcntl", Else: callfilter.NotPermitted, When: []callfilter.When{
			{Arg: 1, Op: callfilter.OneOf, Vals: []uint32{
				unix.F_GETFD, unix.F_SETFD, unix.F_GETFL, unix.F_SETFL, unix.F_DUPFD_CLOEXEC,
			}, Then: callfilter.Allow},
		}},
	}
}

// newNamespaces are the flags of clone that make a namespace.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// socketRule lets sockets of TCP and UDP through: registries and name servers.
func socketRule() callfilter.Rule {
	stream, datagram := uint32(unix.SOCK_STREAM), uint32(unix.SOCK_DGRAM)
	const flags = unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	types := []uint32{stream, datagram, stream | flags, datagram | flags, stream | unix.SOCK_CLOEXEC, datagram | unix.SOCK_CLOEXEC}
	return callfilter.Rule{Call: "socket", Else: callfilter.NotPermitted, When: []callfilter.When{
		{Arg: 0, Op: callfilter.OneOf, Vals: []uint32{unix.AF_INET, unix.AF_INET6}, And: &callfilter.Rule{
			Else: callfilter.NotPermitted,
			When: []callfilter.When{{Arg: 1, Op: callfilter.OneOf, Vals: types, Then: callfilter.Allow}},
		}},
	}}
}
