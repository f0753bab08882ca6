package tests

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// probed is what tests/probe printed; see there.
type probed struct {
	Status     map[string]string
	Namespaces map[string]string
	UIDMap     string
	Mounts     []struct{ Target, FS, Options, Super string }
	FDs        map[string]string
	Cwd        string
	Args, Env  []string
	Umask      string
	Rlimits    map[string][2]uint64
	OOMScore   string
	Cgroup     string
	Hostname   string
	Attempts   map[string]string
	Open       map[string]string
	Modes      map[string]string
}

func parseProbe(t testing.TB, out string) probed {
	t.Helper()
	var p probed
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatalf("the probe printed %q: %v", out, err)
	}
	return p
}

// withProbe are app flags that put the probe at /probe.
func withProbe() []string {
	return []string{"-v", program("tests/probe") + ":/probe:ro"}
}

// probe runs the probe in a new pod.
func (h *host) probe(podFlags []string, ref string, appFlags ...string) probed {
	h.t.Helper()
	args := append([]string{"run", "--rm"}, podFlags...)
	args = append(append(append(args, ref), withProbe()...), appFlags...)
	return parseProbe(h.t, h.must(append(args, "--", "/probe")...))
}

func TestDefaultConfinement(t *testing.T) {
	h := newHost(t)
	p := h.probe(nil, h.image("busybox"))

	// Seven capabilities: CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID.
	const seven = "00000000000000fb"
	for set, want := range map[string]string{"CapInh": "0000000000000000", "CapAmb": "0000000000000000", "CapEff": seven, "CapPrm": seven, "CapBnd": seven} {
		if p.Status[set] != want {
			t.Errorf("%s is %s, want %s", set, p.Status[set], want)
		}
	}
	if p.Status["NoNewPrivs"] != "1" || p.Status["Seccomp"] != "2" {
		t.Errorf("no_new_privs %s, seccomp %s", p.Status["NoNewPrivs"], p.Status["Seccomp"])
	}
	if p.Status["SigBlk"] != "0000000000000000" || p.Status["SigIgn"] != "0000000000000000" {
		t.Errorf("signals are blocked (%s) or ignored (%s)", p.Status["SigBlk"], p.Status["SigIgn"])
	}
	for n, id := range p.Namespaces {
		if mine, _ := os.Readlink("/proc/self/ns/" + n); mine == id {
			t.Errorf("the %s namespace is the host's", n)
		}
	}
	if f := strings.Fields(p.UIDMap); len(f) != 3 || f[0] != "0" || f[1] == "0" || f[2] != "65536" {
		t.Errorf("uid map %q", p.UIDMap)
	}
	if len(p.FDs) > 0 {
		t.Errorf("file descriptors reached the app: %v", p.FDs)
	}
	if p.Umask != "0022" || p.Rlimits["core"] != [2]uint64{0, 0} {
		t.Errorf("umask %s, core limit %v", p.Umask, p.Rlimits["core"])
	}
	assertMounts(t, p)
	assertClosed(t, p)
}

func assertMounts(t *testing.T, p probed) {
	t.Helper()
	for _, m := range p.Mounts {
		options := strings.Split(m.Options, ",")
		if !slices.Contains(options, "nosuid") && m.FS != "devtmpfs" {
			t.Errorf("%s (%s) is not nosuid: %s", m.Target, m.FS, m.Options)
		}
		if !strings.HasPrefix(m.Target, "/dev") && !slices.Contains(options, "nodev") {
			t.Errorf("%s (%s) is not nodev: %s", m.Target, m.FS, m.Options)
		}
		if m.FS == "sysfs" && !slices.Contains(options, "ro") {
			t.Errorf("%s can be written: %s", m.Target, m.Options)
		}
	}
	if p.Modes["null"] != "20666 1:3" {
		t.Errorf("/dev/null is %q", p.Modes["null"])
	}
	for _, n := range []string{"mem", "kmsg", "vda", "loop0", "fuse"} {
		if m, there := p.Modes[n]; there {
			t.Errorf("/dev/%s is there: %s", n, m)
		}
	}
}

func assertClosed(t *testing.T, p probed) {
	t.Helper()
	for _, name := range []string{"vsock", "packet", "alg", "xdp", "rds"} {
		// EAFNOSUPPORT would be the kernel's answer without a filter.
		if got := p.Attempts["socket "+name]; got != "EPERM" {
			t.Errorf("socket %s: %s, want EPERM of the filter", name, got)
		}
	}
	for _, name := range []string{"unix", "inet", "inet6", "netlink"} {
		if got := p.Attempts["socket "+name]; got != "ok" {
			t.Errorf("socket %s: %s, want ok", name, got)
		}
	}
	for _, name := range []string{
		"unshare user", "unshare mnt", "mount", "fsopen", "mknod", "ptrace", "keyctl", "add_key", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup",
		"open_by_handle_at", "kexec_load", "init_module", "swapon", "reboot", "settimeofday", "chroot", "tiocsti", "tiocsti high bits",
		"process_vm_readv", "socket inet raw",
	} {
		if got := p.Attempts[name]; got != "EPERM" && got != "ENOSYS" {
			t.Errorf("%s: %s, want EPERM or ENOSYS", name, got)
		}
	}
	// The kernel has it, so this answer is the filter's.
	if got := p.Attempts["socket netlink xfrm"]; got != "EPROTONOSUPPORT" {
		t.Errorf("socket netlink xfrm: %s, want EPROTONOSUPPORT", got)
	}
	for _, name := range []string{"clone3", "unknown 1000"} {
		if got := p.Attempts[name]; got != "ENOSYS" {
			t.Errorf("%s: %s, want ENOSYS, on which libraries fall back", name, got)
		}
	}
	for path, got := range p.Open {
		if strings.Contains(got, "w=ok") && path != "/proc/timer_list" && path != "/proc/keys" && path != "/proc/kcore" {
			t.Errorf("%s can be opened for writing: %s", path, got)
		}
		if strings.HasPrefix(got, "entries=") && !strings.HasPrefix(got, "entries=0") {
			t.Errorf("%s is not masked: %s", path, got)
		}
	}
	for _, path := range []string{"/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/kallsyms"} {
		if strings.HasPrefix(p.Open[path], "r=ok") {
			t.Errorf("%s can be read", path)
		}
	}
}

func TestEnterIsConfinedLikeTheApp(t *testing.T) {
	for _, c := range []struct {
		name     string
		pod, app []string
	}{
		{"defaults", nil, nil},
		{"as a user", nil, []string{"--user=app"}},
		{"host users", []string{"--private-users=no"}, nil},
		{"read-only", nil, []string{"--readonly-rootfs"}},
		{"may escalate", nil, []string{"--allow-privilege-escalation"}},
		{"limited", nil, []string{"--memory=64M", "--pids=64"}},
		{"with init", nil, []string{"--init"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t)
			ref := h.image("busybox")
			args := append(append([]string{"run", "--name=target"}, c.pod...), ref)
			args = append(append(append(args, withProbe()...), c.app...), "--", "sh", "-c", "/probe; exec sleep 1000")
			pod := h.start(args...)
			ran := parseProbe(t, pod.line())
			entered := parseProbe(t, h.must("enter", "target", "--", "/probe"))

			// What differs by nature: the shell's own variables, and the leaf of the cgroup.
			for _, p := range []*probed{&ran, &entered} {
				p.Env = slices.DeleteFunc(p.Env, func(e string) bool {
					return strings.HasPrefix(e, "SHLVL=") || strings.HasPrefix(e, "PWD=") || strings.HasPrefix(e, "OLDPWD=") || strings.HasPrefix(e, "_=")
				})
				p.Cgroup = ""
			}
			a, b := reflect.ValueOf(ran), reflect.ValueOf(entered)
			for i := range a.NumField() {
				if !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
					t.Errorf("%s differs:\nrun   %v\nenter %v", a.Type().Field(i).Name, a.Field(i).Interface(), b.Field(i).Interface())
				}
			}
			pod.stop()
		})
	}
}

func TestWeakeningsAreNamedAndShown(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	p := h.probe([]string{"--private-users=no"}, ref, "--allow-privilege-escalation")
	if p.Status["NoNewPrivs"] != "0" {
		t.Errorf("--allow-privilege-escalation left no_new_privs at %s", p.Status["NoNewPrivs"])
	}
	if mine, _ := os.Readlink("/proc/self/ns/user"); p.Namespaces["user"] != mine {
		t.Errorf("--private-users=no made a user namespace")
	}
	h.must("run", "--private-users=no", ref, "--allow-privilege-escalation", "--", "true")
	status := h.must("status", h.firstPod())
	for _, w := range []string{"private-users=no", "allow-privilege-escalation"} {
		if !strings.Contains(status, w) {
			t.Errorf("status does not name %s:\n%s", w, status)
		}
	}
}

// A program that drops its user keeps working and gains nothing: gosu's way.
func TestSetuidBitsAndFileCapabilitiesGiveNothing(t *testing.T) {
	h := newHost(t)
	ref := h.image("layers")
	bin := filepath.Join(t.TempDir(), "probe")
	if out, err := exec.Command("cp", program("tests/probe"), bin).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	if err := os.Chmod(bin, 0o4755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("setcap", "cap_net_raw+ep", bin).CombinedOutput(); err != nil {
		t.Logf("no file capability: %s", out)
	}
	for _, flags := range [][]string{{"--user=1000"}, {"--user=1000", "--allow-privilege-escalation"}} {
		args := append([]string{"run", "--rm", ref, "-v", bin + ":/setuid:ro"}, flags...)
		p := parseProbe(t, h.must(append(args, "--", "/setuid")...))
		if p.Status["Uid"] != "1000 1000 1000 1000" || p.Status["CapEff"] != "0000000000000000" {
			t.Errorf("%v: a setuid file on a volume gave uid %s, capabilities %s", flags, p.Status["Uid"], p.Status["CapEff"])
		}
	}
}

// Every 32-bit way around the filter is closed too (RT-17).
func TestForeignABICallsAreRefused(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("gcc is missing: it assembles the 32-bit call")
	}
	h := newHost(t)
	ref := h.image("busybox")
	dir := t.TempDir()
	source := filepath.Join(dir, "int80.c")
	// socketcall(SYS_SOCKET, {AF_VSOCK, SOCK_DGRAM, 0}) by the i386 entry.
	write(t, source, `#include <stdio.h>
#include <sys/mman.h>
int main(void) {
	unsigned *a = mmap((void *)0x10000000, 4096, 3, 0x32, -1, 0);
	a[0] = 40; a[1] = 2; a[2] = 0;
	long r;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(102), "b"(1), "c"(a) : "memory", "r8", "r9", "r10", "r11");
	printf("%ld\n", r);
	return 0;
}
`)
	if out, err := exec.Command(gcc, "-static", "-o", filepath.Join(dir, "int80"), source).CombinedOutput(); err != nil {
		t.Fatalf("compile: %s", out)
	}
	got := h.must("run", "--rm", ref, "-v", dir+":/t:ro", "--", "/t/int80")
	if got != "-38" && got != "-1" {
		t.Errorf("socketcall for AF_VSOCK by the i386 entry answered %s, want -38 (ENOSYS) of the filter", got)
	}
}
