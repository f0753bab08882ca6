package confined

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
)

// restricted is what a process in a container like many others tells: root there,
// but the kernel refuses what the list says.
func restricted(refuse string) error {
	for what := range strings.SplitSeq(refuse, ",") {
		var err error
		switch what {
		case "user namespaces":
			err = os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0)
		case "namespaces":
			err = withoutSysAdmin()
		case "landlock":
			err = withoutCalls(unix.SYS_LANDLOCK_CREATE_RULESET)
		case "seccomp":
			err = withoutCalls(unix.SYS_SECCOMP)
		}
		if err != nil {
			return fmt.Errorf("refuse %s: %w", what, err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	lines, why, err := Check(context.Background(), self, wire.ReadLayer)
	if err != nil {
		return err
	}
	var lacking []string
	for _, l := range lines {
		if !l.Granted {
			lacking = append(lacking, l.Name)
		}
	}
	fmt.Printf("lacking: %s\nwhy: %s\n", strings.Join(lacking, ", "), why)
	for _, demand := range []bool{false, true} {
		t, err := StartJob(context.Background(), Options{Program: self, Demand: demand}, Job{Role: wire.ReadLayer, Request: wire.Request{
			Version: wire.Version, Mode: wire.Inflate, Budget: 1,
		}})
		if err != nil {
			fmt.Printf("demand %v: %v %v\n", demand, errors.Is(err, ErrWeak), err)
			continue
		}
		m, err := t.Receive(time.Minute)
		fmt.Printf("demand %v: %v %s\n", demand, err, m.Text)
		t.Close()
	}
	return nil
}

// withoutSysAdmin gives up CAP_SYS_ADMIN for this process and its children.
func withoutSysAdmin() error {
	runtime.LockOSThread()
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0); errno != 0 {
		return errno
	}
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return err
	}
	data[0].Effective &^= 1 << unix.CAP_SYS_ADMIN
	data[0].Permitted &^= 1 << unix.CAP_SYS_ADMIN
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&head)), uintptr(unsafe.Pointer(&data[0])), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// withoutCalls makes a kernel without the system call, for this process and its
// children.
func withoutCalls(nr uint32) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: nr, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x00050000 | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0x7fff0000},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return errno
	}
	return nil
}

// What a kernel or a container refuses is told by name, and refused on demand.
func TestRestrictedHosts(t *testing.T) {
	namespaces := "own root, pid namespace, ipc namespace, uts namespace, cgroup namespace, no network"
	for refuse, want := range map[string]struct{ lacking, why string }{
		"nothing":                    {"", ""},
		"user namespaces":            {"user namespace", "user namespace: "},
		"user namespaces,namespaces": {"user namespace, " + namespaces, "namespaces: "},
		"landlock":                   {"landlock", "landlock: function not implemented"},
		"seccomp":                    {"system call filter", "function not implemented"},
	} {
		t.Run(refuse, func(t *testing.T) {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), "CONFINED_TEST_REFUSE="+refuse)
			ids := []syscall.SysProcIDMap{{Size: 65536}}
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags: unix.CLONE_NEWUSER, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
				Credential: &syscall.Credential{},
			}
			b, err := cmd.CombinedOutput()
			out := string(b)
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if !strings.Contains(out, "lacking: "+want.lacking+"\n") || !strings.Contains(out, want.why) {
				t.Errorf("got %s", out)
			}
			if want.lacking == "" {
				return
			}
			if !strings.Contains(out, "demand false: <nil> the layer part of rkt-fetch is not confined by: "+want.lacking) {
				t.Errorf("it is not told: %s", out)
			}
			if !strings.Contains(out, "demand true: true ") {
				t.Errorf("it is not refused on demand: %s", out)
			}
		})
	}
}
