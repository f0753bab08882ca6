package confined

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
)

// attempt is something that a process of rkt-fetch may try once somebody else
// is in charge of it. It is denied when it returns an error.
type attempt struct {
	name string
	try  func() error
}

// call makes a system call that has no other effect than the one it is tried for.
func call(nr uintptr, args ...uintptr) func() error {
	return func() error {
		var a [6]uintptr
		copy(a[:], args)
		_, _, errno := unix.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
		if errno != 0 {
			return errno
		}
		return nil
	}
}

func open(dir int, path string, flags int) func() error {
	return func() error {
		fd, err := unix.Openat(dir, path, flags|unix.O_CLOEXEC, 0o600)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

func socket(family, kind, protocol int) func() error {
	return func() error {
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
}

// throughPath opens a folder as a mere path, which Landlock lets pass, and a file
// by it.
func throughPath() error {
	above, err := unix.Openat(wire.SpoolFD, "..", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(above)
	return open(above, "beside", unix.O_RDONLY)()
}

// connect tries to reach the port on the loopback that the test listens on.
func connect(port int) func() error {
	return func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
	}
}

// cpath is a path for a raw system call.
func cpath(s string) uintptr {
	p, err := unix.BytePtrFromString(s)
	if err != nil {
		panic(err)
	}
	return uintptr(unsafe.Pointer(p))
}

// attempts are what every role tries. The port is that of a listener of the test.
func attempts(port int) []attempt {
	const here = unix.AT_FDCWD
	list := []attempt{
		{"open /etc/shadow", open(here, "/etc/shadow", unix.O_RDONLY)},
		{"open /var/lib", open(here, "/var/lib", unix.O_RDONLY|unix.O_DIRECTORY)},
		{"open /proc/self/environ", open(here, "/proc/self/environ", unix.O_RDONLY)},
		{"open /proc/1/mem", open(here, "/proc/1/mem", unix.O_RDONLY)},
		{"open /dev/null", open(here, "/dev/null", unix.O_RDONLY)},
		{"open what is above", open(here, "../../var/lib", unix.O_PATH)},
		{"open /", open(here, "/", unix.O_RDONLY|unix.O_DIRECTORY)},
		{"write to /", open(here, "/x", unix.O_WRONLY|unix.O_CREAT)},
		{"write to /tmp", open(here, "/tmp/x", unix.O_WRONLY|unix.O_CREAT)},
		{"write to the spool", open(wire.SpoolFD, "new", unix.O_WRONLY|unix.O_CREAT)},
		{"open above the spool", open(wire.SpoolFD, "..", unix.O_RDONLY|unix.O_DIRECTORY)},
		{"open beside the spool", open(wire.SpoolFD, "../beside", unix.O_RDONLY)},
		{"read through a path above the spool", throughPath},
		{"write beside the spool", open(wire.SpoolFD, "../beside", unix.O_WRONLY)},
		{"open above the source", open(wire.SourceFD, "..", unix.O_RDONLY|unix.O_DIRECTORY)},
		{"make a folder", func() error { return unix.Mkdirat(wire.SpoolFD, "folder", 0o700) }},
		{"make a device", func() error { return unix.Mknodat(wire.SpoolFD, "device", unix.S_IFBLK|0o600, int(unix.Mkdev(7, 0))) }},
		{"make a link", func() error { return unix.Linkat(wire.SpoolFD, "new", wire.SpoolFD, "link", 0) }},
		{"change the mode", func() error { return unix.Fchmod(wire.SourceFD, 0o6777) }},

		{"connect to the loopback", connect(port)},
		{"tcp", socket(unix.AF_INET, unix.SOCK_STREAM, 0)},
		{"udp6", socket(unix.AF_INET6, unix.SOCK_DGRAM, 0)},
		{"raw socket", socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)},
		{"unix socket", socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)},
		{"netlink", socket(unix.AF_NETLINK, unix.SOCK_RAW, 0)},
		{"vsock", socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0)},
		{"packet", socket(unix.AF_PACKET, unix.SOCK_RAW, 0)},
		{"listen", func() error { return unix.Listen(wire.OrderFD, 1) }},

		{"kill all", func() error { return unix.Kill(-1, 0) }},
		{"kill the parent", func() error { return unix.Kill(os.Getppid(), 0) }},
		{"ptrace", call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, 2, 0, 0)},
		{"read memory", call(unix.SYS_PROCESS_VM_READV, 1, 0, 0, 0, 0, 0)},
		{"pidfd_open", call(unix.SYS_PIDFD_OPEN, 1, 0)},
		{"pidfd_getfd", call(unix.SYS_PIDFD_GETFD, 0, 0, 0)},
		{"fork", fork},
		{"execve", func() error { return unix.Exec("/bin/true", []string{"true"}, nil) }},
		{"execveat", call(unix.SYS_EXECVEAT, wire.SourceFD, cpath(""), 0, 0, unix.AT_EMPTY_PATH)},

		{"mount", func() error { return unix.Mount("none", "/", "tmpfs", 0, "") }},
		{"umount", func() error { return unix.Unmount("/", unix.MNT_DETACH) }},
		{"fsopen", call(unix.SYS_FSOPEN, cpath("tmpfs"), 0)},
		{"open_tree", call(unix.SYS_OPEN_TREE, wire.SpoolFD, cpath(""), unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE)},
		{"pivot_root", func() error { return unix.PivotRoot("/", "/") }},
		{"chroot", func() error { return unix.Chroot("/") }},
		{"new user namespace", call(unix.SYS_UNSHARE, unix.CLONE_NEWUSER)},
		{"new network namespace", call(unix.SYS_UNSHARE, unix.CLONE_NEWNET)},
		{"setns", call(unix.SYS_SETNS, wire.SourceFD, 0)},
		{"setuid", call(unix.SYS_SETUID, 0)},
		{"setresuid", call(unix.SYS_SETRESUID, 0, 0, 0)},
		{"setgroups", call(unix.SYS_SETGROUPS, 0, 0)},
		{"regain capabilities", raiseCapabilities},
		{"dumpable again", func() error { return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0) }},
		{"raise limits", call(unix.SYS_PRLIMIT64, 0, unix.RLIMIT_CORE, uintptr(unsafe.Pointer(&unix.Rlimit{Cur: 1, Max: 1})), 0)},

		{"bpf", call(unix.SYS_BPF, 0, 0, 0)},
		{"io_uring", call(unix.SYS_IO_URING_SETUP, 1, 0)},
		{"keyctl", call(unix.SYS_KEYCTL, 0, 0)},
		{"add_key", call(unix.SYS_ADD_KEY, 0, 0, 0, 0, 0)},
		{"perf_event_open", call(unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0)},
		{"userfaultfd", call(unix.SYS_USERFAULTFD, 0)},
		{"open_by_handle_at", call(unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0)},
		{"memfd_create", call(unix.SYS_MEMFD_CREATE, cpath("x"), 0)},
		{"ioctl", call(unix.SYS_IOCTL, wire.SourceFD, unix.TIOCSTI, 0)},
		{"executable memory", call(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON, ^uintptr(0), 0)},
		{"shmget", call(unix.SYS_SHMGET, 0, 4096, 0o1600)},
		{"mq_open", call(unix.SYS_MQ_OPEN, cpath("x"), unix.O_CREAT|unix.O_RDWR, 0o600, 0)},
		{"syslog", call(unix.SYS_SYSLOG, 10, 0, 0)},
		{"signal on a file", func() error {
			_, err := unix.FcntlInt(wire.SourceFD, unix.F_SETOWN, 1)
			return err
		}},
	}
	return list
}

// fork makes a process, if it may, which ends at once.
func fork() error {
	pid, _, errno := unix.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		unix.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return nil
}

func raiseCapabilities() error {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{{Effective: 1 << unix.CAP_CHOWN, Permitted: 1 << unix.CAP_CHOWN}}
	return call(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&data[0])))()
}

// probe tries everything and reports what was not denied.
func probe(port int, report func(wire.Message) error) error {
	var done []string
	tried := 0
	for _, a := range attempts(port) {
		tried++
		err := a.try()
		var errno syscall.Errno
		switch {
		case err == nil:
			done = append(done, a.name)
		case !errors.As(err, &errno):
			return fmt.Errorf("%s: %w", a.name, err)
		case errno == unix.EFAULT || errno == unix.EBADF || errno == unix.EINVAL:
			// The kernel has looked at the arguments: nobody has denied the call.
			done = append(done, fmt.Sprintf("%s (%v)", a.name, err))
		}
	}
	return report(wire.Message{Type: wire.Note, Text: fmt.Sprintf("%d tried; done: %s", tried, strings.Join(done, ", "))})
}
