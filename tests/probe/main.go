// Command probe runs inside a pod and prints, as one JSON object, how it is
// confined: what the kernel says about the process, and what the kernel answers
// to things that a confined process must not do.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// report is what probe prints. The tests have a copy of the parts they read.
type report struct {
	Status     map[string]string // /proc/self/status, some lines
	Namespaces map[string]string
	UIDMap     string
	Mounts     []mount
	FDs        map[string]string // those above 2
	Cwd        string
	Args, Env  []string
	Umask      string
	Rlimits    map[string][2]uint64
	OOMScore   string
	Cgroup     string
	Hostname   string
	Attempts   map[string]string // name -> "ok" or the errno
	Open       map[string]string // masked and read-only paths: "r=errno w=errno"
	Modes      map[string]string // device nodes: mode and rdev
}

type mount struct {
	Target, FS, Options, Super string
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == "notify" {
		if err := notify(); err != nil {
			fmt.Fprintln(os.Stderr, "probe:", err)
			os.Exit(1)
		}
		return
	}
	r := report{
		Status: status(), Namespaces: namespaces(), UIDMap: read("/proc/self/uid_map"), Mounts: mounts(), FDs: fds(),
		Args: os.Args, Env: os.Environ(), Rlimits: rlimits(), OOMScore: read("/proc/self/oom_score_adj"), Cgroup: read("/proc/self/cgroup"),
		Attempts: attempts(), Open: opens(), Modes: modes(),
	}
	sort.Strings(r.Env)
	r.Cwd, _ = syscall.Getwd()
	r.Hostname, _ = os.Hostname()
	old := unix.Umask(0)
	unix.Umask(old)
	r.Umask = fmt.Sprintf("%04o", old)
	e := json.NewEncoder(os.Stdout)
	if err := e.Encode(r); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func read(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "error: " + err.Error()
	}
	return strings.Join(strings.Fields(string(b)), " ")
}

func status() map[string]string {
	m := map[string]string{}
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(line, ":")
		switch k {
		case "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "SigBlk", "SigIgn":
			m[k] = strings.Join(strings.Fields(v), " ")
		}
	}
	return m
}

func namespaces() map[string]string {
	m := map[string]string{}
	for _, n := range []string{"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"} {
		m[n], _ = os.Readlink("/proc/self/ns/" + n)
	}
	return m
}

func mounts() []mount {
	var all []mount
	b, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		for i := 6; i+3 < len(f)+1; i++ {
			if f[i] == "-" {
				all = append(all, mount{Target: f[4], FS: f[i+1], Options: f[5], Super: f[len(f)-1]})
				break
			}
		}
	}
	return all
}

func fds() map[string]string {
	m := map[string]string{}
	names, _ := filepath.Glob("/proc/self/fd/*")
	for _, n := range names {
		fd, _ := strconv.Atoi(filepath.Base(n))
		target, err := os.Readlink(n)
		// The runtime of this program opens epoll and event fds of its own.
		if fd > 2 && err == nil && !strings.HasPrefix(target, "anon_inode:") && !strings.HasPrefix(target, "/proc/") {
			m[filepath.Base(n)] = target
		}
	}
	return m
}

func rlimits() map[string][2]uint64 {
	m := map[string][2]uint64{}
	for name, which := range map[string]int{"nofile": unix.RLIMIT_NOFILE, "core": unix.RLIMIT_CORE, "nproc": unix.RLIMIT_NPROC, "memlock": unix.RLIMIT_MEMLOCK} {
		var l unix.Rlimit
		if unix.Getrlimit(which, &l) == nil {
			m[name] = [2]uint64{l.Cur, l.Max}
		}
	}
	// The Go runtime raises the soft limit of open files for itself.
	m["nofile"] = [2]uint64{0, m["nofile"][1]}
	return m
}

func opens() map[string]string {
	m := map[string]string{}
	for _, p := range []string{
		"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/kallsyms", "/proc/kmsg", "/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern",
		"/proc/sys/kernel/modprobe", "/proc/sys/vm/panic_on_oom", "/proc/irq/default_smp_affinity", "/proc/config.gz", "/proc/interrupts",
		"/sys/kernel/uevent_helper", "/sys/power/state", "/sys/kernel/mm/ksm/run", "/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/cgroup.procs",
	} {
		m[p] = "r=" + open(p, unix.O_RDONLY) + " w=" + open(p, unix.O_WRONLY)
	}
	for _, p := range []string{"/sys/firmware", "/proc/acpi", "/proc/scsi", "/sys/kernel/debug", "/sys/kernel/security", "/sys/module", "/sys/fs/bpf"} {
		names, err := os.ReadDir(p)
		m[p] = fmt.Sprintf("entries=%d %v", len(names), err != nil)
	}
	return m
}

func open(path string, flags int) string {
	fd, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return unix.ErrnoName(err.(syscall.Errno))
	}
	defer unix.Close(fd)
	if flags == unix.O_RDONLY {
		var b [1]byte
		if n, err := unix.Read(fd, b[:]); err != nil {
			return unix.ErrnoName(err.(syscall.Errno))
		} else if n == 0 {
			return "empty"
		}
	}
	return "ok"
}

func modes() map[string]string {
	m := map[string]string{}
	for _, n := range []string{"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console", "mem", "kmsg", "vda", "loop0", "fuse"} {
		var st unix.Stat_t
		if err := unix.Stat("/dev/"+n, &st); err == nil {
			m[n] = fmt.Sprintf("%o %d:%d", st.Mode, unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
	}
	return m
}

func attempts() map[string]string {
	m := map[string]string{}
	try := func(name string, nr uintptr, a ...uintptr) {
		var p [6]uintptr
		copy(p[:], a)
		r, _, e := syscall.Syscall6(nr, p[0], p[1], p[2], p[3], p[4], p[5])
		if e != 0 {
			m[name] = unix.ErrnoName(e)
			return
		}
		m[name] = "ok"
		if strings.HasPrefix(name, "socket ") {
			unix.Close(int(r))
		}
	}
	text := func(s string) uintptr { b := append([]byte(s), 0); return uintptr(unsafe.Pointer(&b[0])) }
	for name, family := range map[string]int{
		"unix": unix.AF_UNIX, "inet": unix.AF_INET, "inet6": unix.AF_INET6, "netlink": unix.AF_NETLINK, "vsock": unix.AF_VSOCK, "packet": unix.AF_PACKET,
		"alg": unix.AF_ALG, "xdp": unix.AF_XDP, "rds": unix.AF_RDS,
	} {
		try("socket "+name, unix.SYS_SOCKET, uintptr(family), unix.SOCK_DGRAM, 0)
	}
	try("socket inet raw", unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
	try("socket netlink xfrm", unix.SYS_SOCKET, unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_XFRM)
	try("unshare user", unix.SYS_UNSHARE, unix.CLONE_NEWUSER)
	try("unshare mnt", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
	try("mount", unix.SYS_MOUNT, text("none"), text("/tmp"), text("tmpfs"), 0, 0)
	try("fsopen", unix.SYS_FSOPEN, text("tmpfs"), 0)
	try("mknod", unix.SYS_MKNODAT, ^uintptr(99), text("/tmp/node"), unix.S_IFCHR|0o666, uintptr(unix.Mkdev(1, 3)))
	try("ptrace", unix.SYS_PTRACE, unix.PTRACE_TRACEME, 0, 0, 0)
	try("keyctl", unix.SYS_KEYCTL, unix.KEYCTL_GET_KEYRING_ID, ^uintptr(2), 0)
	try("add_key", unix.SYS_ADD_KEY, text("user"), text("k"), text("v"), 1, ^uintptr(2))
	try("bpf", unix.SYS_BPF, 0, 0, 0)
	try("perf_event_open", unix.SYS_PERF_EVENT_OPEN, 0, 0, 0, 0, 0)
	try("userfaultfd", unix.SYS_USERFAULTFD, 0)
	try("io_uring_setup", unix.SYS_IO_URING_SETUP, 1, 0)
	try("open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, 0, 0, 0)
	try("kexec_load", unix.SYS_KEXEC_LOAD, 0, 0, 0, 0)
	try("init_module", unix.SYS_INIT_MODULE, 0, 0, 0)
	try("swapon", unix.SYS_SWAPON, text("/tmp/none"), 0)
	try("reboot", unix.SYS_REBOOT, 0, 0, 0, 0)
	try("settimeofday", unix.SYS_SETTIMEOFDAY, 0, 0)
	try("chroot", unix.SYS_CHROOT, text("/"))
	try("tiocsti", unix.SYS_IOCTL, 0, unix.TIOCSTI, text("x"))
	try("tiocsti high bits", unix.SYS_IOCTL, 0, unix.TIOCSTI|1<<32, text("x"))
	try("clone3", unix.SYS_CLONE3, 0, 0)
	try("process_vm_readv", unix.SYS_PROCESS_VM_READV, 1, 0, 0, 0, 0, 0)
	try("unknown 1000", 1000)
	return m
}
