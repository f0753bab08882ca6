package seccomp

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// childEnv makes the test binary load the filter and probe it.
const childEnv = "RKT_SECCOMP_PROBE"

func TestMain(m *testing.M) {
	if arg := os.Getenv(childEnv); arg != "" {
		if err := probe(arg); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// probe loads the filter for all threads of this process and, with the argument
// "calls", tries some calls; any other argument is a program to execute.
func probe(arg string) error {
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	b := Filter()
	prog := unix.SockFprog{Len: uint16(len(b) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&b[0]))}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); e != 0 {
		return fmt.Errorf("load filter: %w", e)
	}
	if arg != "calls" {
		return unix.Exec(arg, []string{arg}, nil)
	}
	for _, c := range []struct {
		name string
		nr   uintptr
		args [3]uintptr
		want syscall.Errno
	}{
		{"getpid", unix.SYS_GETPID, [3]uintptr{}, 0},
		{"keyctl", unix.SYS_KEYCTL, [3]uintptr{}, unix.EPERM},
		{"bpf", unix.SYS_BPF, [3]uintptr{}, unix.EPERM},
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, [3]uintptr{}, unix.EPERM},
		{"clone3", unix.SYS_CLONE3, [3]uintptr{}, unix.ENOSYS},
		{"unshare user", unix.SYS_UNSHARE, [3]uintptr{unix.CLONE_NEWUSER}, unix.EPERM},
		{"vsock", unix.SYS_SOCKET, [3]uintptr{unix.AF_VSOCK, unix.SOCK_STREAM}, unix.EPERM},
		{"vsock, high bit", unix.SYS_SOCKET, [3]uintptr{1<<32 | unix.AF_VSOCK, unix.SOCK_STREAM}, unix.EPERM},
		{"netlink audit", unix.SYS_SOCKET, [3]uintptr{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_AUDIT}, unix.EPROTONOSUPPORT},
		{"tiocsti, high bit", unix.SYS_IOCTL, [3]uintptr{0, 1<<32 | unix.TIOCSTI}, unix.EPERM},
		{"number 999", 999, [3]uintptr{}, unix.ENOSYS},
	} {
		if _, _, e := unix.Syscall(c.nr, c.args[0], c.args[1], c.args[2]); e != c.want {
			return fmt.Errorf("%s: errno %v, want %v", c.name, e, c.want)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	l.Close()
	return exec.Command("/bin/true").Run()
}

func TestLoadedFilterAnswers(t *testing.T) {
	runProbe(t, "calls")
}

// elf32 is a 32-bit program: getpid through int 0x80; it stops itself by an
// illegal instruction (SIGILL) when the answer is ENOSYS and by a privileged one
// (SIGSEGV) when it is anything else, because under the filter it cannot exit.
var elf32 = []byte{
	0x7f, 'E', 'L', 'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	2, 0, 3, 0, 1, 0, 0, 0, 0x54, 0x80, 0x04, 0x08, 0x34, 0, 0, 0,
	0, 0, 0, 0, 0, 0, 0, 0, 0x34, 0, 0x20, 0, 1, 0, 0, 0, 0, 0, 0, 0,
	// program header: load all of it, read and execute
	1, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x80, 0x04, 0x08, 0x00, 0x80, 0x04, 0x08,
	0x62, 0, 0, 0, 0x62, 0, 0, 0, 5, 0, 0, 0, 0, 0x10, 0, 0,
	0xb8, 20, 0, 0, 0, // mov eax, getpid
	0xcd, 0x80, // int 0x80
	0x83, 0xf8, 0xda, // cmp eax, -ENOSYS
	0x75, 0x02, // jne +2
	0x0f, 0x0b, // ud2
	0xf4, // hlt
}

func TestCallsOfThe32BitABIAreNotThere(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("needs amd64")
	}
	file := filepath.Join(t.TempDir(), "prog")
	if err := os.WriteFile(file, elf32, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(file).Run(); signalOf(err) != unix.SIGSEGV {
		t.Skipf("needs 32-bit emulation: without the filter the program ended with %v", err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{childEnv + "=" + file}
	if out, err := cmd.CombinedOutput(); signalOf(err) != unix.SIGILL {
		t.Errorf("32-bit program under the filter ended with %v, want SIGILL: %s", err, out)
	}
}

func signalOf(err error) syscall.Signal {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return 0
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return 0
	}
	return status.Signal()
}

func runProbe(t *testing.T, arg string) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{childEnv + "=" + arg}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("probe: %v: %s", err, strings.TrimSpace(string(out)))
	}
}
