package seccomp

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"rkt/internal/callfilter"
)

var update = flag.Bool("update", false, "rewrite the compiled profiles and the golden files")

var arches = []callfilter.Arch{callfilter.AMD64, callfilter.ARM64}

// i386 is the machine of 32-bit calls on amd64 (AUDIT_ARCH_I386).
const i386 = 0x40000003

// call is a struct seccomp_data.
type call struct {
	nr   uint32
	arch uint32
	args [6]uint64
}

// run interprets the filter. The interpreter reads big-endian words, so each
// word is put down that way, the low half of an argument first as on the machine.
func run(t testing.TB, vm *bpf.VM, c call) callfilter.Answer {
	t.Helper()
	b := binary.BigEndian.AppendUint32(nil, c.nr)
	b = binary.BigEndian.AppendUint32(b, c.arch)
	b = binary.BigEndian.AppendUint64(b, 0) // instruction pointer
	for _, a := range c.args {
		b = binary.BigEndian.AppendUint32(b, uint32(a))
		b = binary.BigEndian.AppendUint32(b, uint32(a>>32))
	}
	n, err := vm.Run(b)
	if err != nil {
		t.Fatalf("run filter: %v", err)
	}
	return callfilter.Answer(n)
}

func defaultVM(t testing.TB, arch callfilter.Arch) *bpf.VM {
	t.Helper()
	prog, err := callfilter.Assemble(Default(), arch)
	if err != nil {
		t.Fatal(err)
	}
	vm, err := bpf.NewVM(prog)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func name(a callfilter.Answer) string {
	switch a {
	case callfilter.Allow:
		return "allow"
	case callfilter.NotPermitted:
		return "EPERM"
	case callfilter.NotThere:
		return "ENOSYS"
	case callfilter.NotSupported:
		return "EPROTONOSUPPORT"
	}
	return fmt.Sprintf("%#x", uint32(a))
}

func TestEmbeddedFilterIsTheCompiledDefaultProfile(t *testing.T) {
	for _, arch := range arches {
		want, err := callfilter.Compile(Default(), arch)
		if err != nil {
			t.Fatal(err)
		}
		file := fmt.Sprintf("default_%s.bpf", arch)
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs from the compiled profile; run go test -update", file)
		}
	}
}

// The sweep passes every number with zero arguments through the native and the
// foreign ABI and compares with a table made by hand once and reviewed in diffs.
func TestSweepOfAllNumbers(t *testing.T) {
	for _, arch := range arches {
		vm := defaultVM(t, arch)
		audit, _ := arch.Audit()
		names := map[int]string{}
		nrs, err := arch.Numbers()
		if err != nil {
			t.Fatal(err)
		}
		for name, nr := range nrs {
			names[nr] = name
		}
		var got strings.Builder
		for nr := range 480 {
			fmt.Fprintf(&got, "%d %s %v\n", nr, names[nr], name(run(t, vm, call{nr: uint32(nr), arch: audit})))
			for _, foreign := range []call{
				{nr: uint32(nr), arch: i386},
				{nr: uint32(nr), arch: 0x40000028}, // 32-bit ARM
				{nr: uint32(nr) | 0x40000000, arch: audit},
				{nr: uint32(nr) | 0x80000000, arch: audit},
			} {
				if a := run(t, vm, foreign); a != callfilter.NotThere {
					t.Errorf("%s: foreign call %#x of %#x = %v, want ENOSYS", arch, foreign.nr, foreign.arch, a)
				}
			}
		}
		golden(t, fmt.Sprintf("sweep_%s.golden", arch), got.String())
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		gl, wl := strings.Split(got, "\n"), strings.Split(string(want), "\n")
		for i := range min(len(gl), len(wl)) {
			if gl[i] != wl[i] {
				t.Errorf("%s: line %d: got %q, want %q", name, i+1, gl[i], wl[i])
			}
		}
		t.Errorf("%s differs; run go test -update and review the diff", name)
	}
}

func TestArgumentsThatDecide(t *testing.T) {
	const high = 1 << 32
	tests := []struct {
		name string
		call string
		args [6]uint64
		want callfilter.Answer
	}{
		{"unix socket", "socket", [6]uint64{unix.AF_UNIX, 1, 0}, callfilter.Allow},
		{"inet socket", "socket", [6]uint64{unix.AF_INET, 1, 0}, callfilter.Allow},
		{"inet6 socket", "socket", [6]uint64{unix.AF_INET6, 1, 0}, callfilter.Allow},
		{"unspecified family", "socket", [6]uint64{0, 1, 0}, callfilter.NotPermitted},
		{"vsock", "socket", [6]uint64{unix.AF_VSOCK, 1, 0}, callfilter.NotPermitted},
		{"vsock with a high bit", "socket", [6]uint64{high | unix.AF_VSOCK, 1, 0}, callfilter.NotPermitted},
		{"inet with a high bit is inet", "socket", [6]uint64{high | unix.AF_INET, 1, 0}, callfilter.Allow},
		{"alg", "socket", [6]uint64{unix.AF_ALG, 5, 0}, callfilter.NotPermitted},
		{"packet", "socket", [6]uint64{unix.AF_PACKET, 3, 0}, callfilter.NotPermitted},
		{"family -1", "socket", [6]uint64{1<<64 - 1, 1, 0}, callfilter.NotPermitted},
		{"netlink route", "socket", [6]uint64{unix.AF_NETLINK, 3, unix.NETLINK_ROUTE}, callfilter.Allow},
		{"netlink sock_diag", "socket", [6]uint64{unix.AF_NETLINK, 3, unix.NETLINK_SOCK_DIAG}, callfilter.Allow},
		{"netlink netfilter", "socket", [6]uint64{unix.AF_NETLINK, 3, unix.NETLINK_NETFILTER}, callfilter.NotSupported},
		{"netlink audit", "socket", [6]uint64{unix.AF_NETLINK, 3, unix.NETLINK_AUDIT}, callfilter.NotSupported},
		{"socketpair unix", "socketpair", [6]uint64{unix.AF_UNIX, 1, 0}, callfilter.Allow},
		{"socketpair tipc", "socketpair", [6]uint64{unix.AF_TIPC, 1, 0}, callfilter.NotPermitted},
		{"fork-like clone", "clone", [6]uint64{uint64(unix.SIGCHLD)}, callfilter.Allow},
		{"thread-like clone", "clone", [6]uint64{unix.CLONE_VM | unix.CLONE_THREAD | unix.CLONE_SIGHAND}, callfilter.Allow},
		{"clone user", "clone", [6]uint64{unix.CLONE_NEWUSER}, callfilter.NotPermitted},
		{"clone net", "clone", [6]uint64{unix.CLONE_NEWNET | uint64(unix.SIGCHLD)}, callfilter.NotPermitted},
		{"clone cgroup", "clone", [6]uint64{unix.CLONE_NEWCGROUP}, callfilter.NotPermitted},
		{"clone user with high bits", "clone", [6]uint64{0xffffffff<<32 | unix.CLONE_NEWUSER}, callfilter.NotPermitted},
		{"clone3", "clone3", [6]uint64{}, callfilter.NotThere},
		{"unshare files", "unshare", [6]uint64{unix.CLONE_FILES}, callfilter.Allow},
		{"unshare user", "unshare", [6]uint64{unix.CLONE_NEWUSER}, callfilter.NotPermitted},
		{"unshare time", "unshare", [6]uint64{unix.CLONE_NEWTIME}, callfilter.NotPermitted},
		{"tiocsti", "ioctl", [6]uint64{0, unix.TIOCSTI}, callfilter.NotPermitted},
		{"tiocsti with a high bit", "ioctl", [6]uint64{0, high | unix.TIOCSTI}, callfilter.NotPermitted},
		{"tioclinux", "ioctl", [6]uint64{0, tiocLinux}, callfilter.NotPermitted},
		{"tcgets", "ioctl", [6]uint64{0, unix.TCGETS}, callfilter.Allow},
		{"personality query", "personality", [6]uint64{0xffffffff}, callfilter.Allow},
		{"personality linux32", "personality", [6]uint64{8}, callfilter.Allow},
		{"personality without randomisation", "personality", [6]uint64{0x0040000}, callfilter.NotPermitted},
	}
	for _, arch := range arches {
		vm := defaultVM(t, arch)
		audit, _ := arch.Audit()
		nrs, err := arch.Numbers()
		if err != nil {
			t.Fatal(err)
		}
		for _, tt := range tests {
			t.Run(string(arch)+"/"+tt.name, func(t *testing.T) {
				got := run(t, vm, call{nr: uint32(nrs[tt.call]), arch: audit, args: tt.args})
				if got != tt.want {
					t.Errorf("%s(%#x) = %v, want %v", tt.call, tt.args, got, tt.want)
				}
			})
		}
	}
}

func TestProfileIsSmall(t *testing.T) {
	if n := len(allowed()) + len(rules()); n > 315 {
		t.Errorf("%d calls can pass, want at most 315", n)
	}
	for _, arch := range arches {
		b, err := callfilter.Compile(Default(), arch)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d instructions", arch, len(b)/8)
	}
}

func TestCompileRefusesProfilesWithMistakes(t *testing.T) {
	for name, p := range map[string]callfilter.Profile{
		"unknown call": {Allow: []string{"frobnicate"}},
		"call twice":   {Allow: []string{"read"}, Deny: []string{"read"}},
	} {
		if _, err := callfilter.Compile(p, callfilter.AMD64); err == nil {
			t.Errorf("%s: Compile() succeeded", name)
		}
	}
	if _, err := callfilter.Compile(Default(), "s390x"); err == nil {
		t.Error("Compile() for an unknown machine succeeded")
	}
}

// The table of numbers is compared with the one of x/sys, which is made from
// the kernel's headers.
func TestNumbersAreTheKernels(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Skipf("needs the go command: %v", err)
	}
	line := regexp.MustCompile(`(?m)^\s+SYS_([A-Z0-9_]+)\s+= (\d+)$`)
	for _, arch := range arches {
		src, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "unix", fmt.Sprintf("zsysnum_linux_%s.go", arch)))
		if err != nil {
			t.Fatal(err)
		}
		nrs, err := arch.Numbers()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range line.FindAllStringSubmatch(string(src), -1) {
			name := strings.ToLower(m[1])
			want, _ := strconv.Atoi(m[2])
			if got, ok := nrs[name]; name != "arch_specific_syscall" && (!ok || got != want) {
				t.Errorf("%s: number of %s = %d, want %d", arch, name, got, want)
			}
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		if _, err := callfilter.Compile(Default(), callfilter.AMD64); err != nil {
			b.Fatal(err)
		}
	}
}
