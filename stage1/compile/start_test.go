package compile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/contract"
)

func TestAppIsConfined(t *testing.T) {
	tr := newTrial(t, "cat /proc/self/status /proc/self/uid_map; id; pwd; ls /proc/self/fd; cat /proc/sys/kernel/hostname")
	umask := uint32(0o027)
	tr.spec.Process.User = specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5}, Umask: &umask}
	// Allow everything: what counts is that there is a filter.
	tr.seccomp = binary.NativeEndian.AppendUint64(nil, 0x7fff0000<<32|0x06)
	out := tr.output()
	for _, want := range []string{
		"CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapAmb:\t0000000000000000",
		"CapBnd:\t00000000000000eb", "NoNewPrivs:\t1", "Seccomp:\t2", "Umask:\t0027", "SigBlk:\t0000000000000000",
		"SigIgn:\t0000000000000000", "NSpid:\t", "Uid:\t1000\t1000\t1000\t1000", "Gid:\t1001\t1001\t1001\t1001", "Groups:\t5 \n",
		fmt.Sprintf("0 %d      65536", firstID), "uid=1000 gid=1001 groups=5", "\n/srv/data\n", "0\n1\n2\n3\n", "\npod\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
}

func TestRootOfThePodIsNotRootOfTheHost(t *testing.T) {
	tr := newTrial(t,
		"id -u; grep CapEff /proc/self/status; touch /new; stat -c %u /new /bin/busybox; cat /proc/1/comm; set -- /proc/[0-9]*; echo $#",
		"mount -t tmpfs x /tmp 2>/dev/null && echo mounted",
		"echo x 2>/dev/null > /proc/sys/kernel/hostname && echo written",
		"cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range", "cat /proc/net/dev | grep -c lo:")
	out := tr.output()
	want := "0\nCapEff:\t00000000000000eb\n0\n0\nsh\n1\n0\n0\t65535\n1\n"
	if out != want {
		t.Errorf("output %q, want %q", out, want)
	}
	var st unix.Stat_t
	tr.must(unix.Stat(filepath.Join(tr.dir, "fs/upper/new"), &st))
	if st.Uid != 0 {
		t.Errorf("on disk the new file belongs to %d, want 0: owners on disk are owners inside", st.Uid)
	}
}

func TestMounts(t *testing.T) {
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "file"), []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tr := newTrial(t,
		"cat /vol/deep/er/file /etc/hosts", "echo new > /vol/deep/er/new", "stat -c %u /vol/deep/er/new",
		"echo x 2>/dev/null > /ro/x && echo written", "touch /root-is-writable 2>/dev/null && echo writable",
		"cat /proc/self/mounts", "echo x > /dev/null; head -c 3 /dev/zero | cat -A; stat -c '%F %t:%T' /dev/null /dev/tty; readlink /dev/ptmx; readlink /dev/fd",
		"cat /etc/secret; ls /sys/firmware", "grep -c . /proc/self/mountinfo",
		"cat /own/file; echo mine > /own/file; cat /own/file; touch /own-made/x && echo made", "grep ' /own' /proc/self/mounts")
	tr.write("etc/secret", "secret", 0o644)
	if err := os.Mkdir(filepath.Join(tr.image, "own"), 0o755); err != nil {
		t.Fatal(err)
	}
	tr.write("own/file", "of the image\n", 0o644)
	for _, dest := range []string{"/own", "/own-made"} {
		tr.spec.Mounts = append(tr.spec.Mounts, specs.Mount{Destination: dest, Type: contract.MountOwn, Options: []string{"nosuid", "nodev"}})
	}
	tr.bind(data, "/vol/deep/er")
	tr.bind(data, "/ro", "ro", "noexec")
	tr.bind(filepath.Join(tr.dir, "etc/hosts"), "/etc/hosts", "ro")
	tr.spec.Mounts = append(tr.spec.Mounts, specs.Mount{Destination: "/run/tmp", Type: "tmpfs", Options: []string{"size=1m", "mode=1777"}})
	tr.spec.Linux.MaskedPaths = []string{"/proc/keys", "/proc/acpi", "/proc/no/such", "/sys/firmware", "/etc/secret"}
	tr.spec.Root = &specs.Root{Readonly: true}
	out, _, err := tr.run()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"hello\n127.0.0.1 localhost\n0\n", "overlay / overlay ro,nosuid,nodev,relatime,lowerdir=0,",
		"proc /proc proc rw,nosuid,nodev,noexec,relatime", "/dev/pts devpts rw,nosuid,noexec", "sysfs /sys sysfs ro,nosuid,nodev,noexec",
		" /vol/deep/er ", " /ro ", "/run/tmp tmpfs rw,nosuid,nodev,relatime,size=1024k", "mask /proc/keys tmpfs ro,nosuid,nodev,noexec",
		"mask /sys/firmware tmpfs ro", "mask /etc/secret tmpfs ro", "proc /proc/sys proc ro,nosuid,nodev,noexec",
		"of the image\nmine\nmade\noverlay /own overlay rw,nosuid,nodev,relatime", "overlay /own-made overlay rw,nosuid,nodev",
		"character special file 1:3\ncharacter special file 5:0\npts/ptmx\n/proc/self/fd\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	for _, bad := range []string{"written", "writable", tr.dir, tr.image} {
		if strings.Contains(out, bad) {
			t.Errorf("output has %q:\n%s", bad, out)
		}
	}
	if b, err := os.ReadFile(filepath.Join(data, "new")); err != nil || string(b) != "new\n" {
		t.Errorf("the volume holds %q, %v", b, err)
	}
}

func TestManyLayers(t *testing.T) {
	tr := newTrial(t, "for i in $(busybox seq 0 125); do cat /l$i || exit 1; done; cat /same")
	for i := range 126 {
		dir := t.TempDir()
		tr.must(os.Chmod(dir, 0o755))
		tr.must(os.WriteFile(filepath.Join(dir, "l"+strconv.Itoa(i)), []byte{'.'}, 0o644))
		tr.must(os.WriteFile(filepath.Join(dir, "same"), []byte(strconv.Itoa(i)), 0o644))
		tr.extra = append(tr.extra, dir)
	}
	if out, want := tr.output(), strings.Repeat(".", 126)+"0"; out != want {
		t.Errorf("output %q, want %q", out, want)
	}
}

func TestExecFailures(t *testing.T) {
	for _, test := range []struct {
		name       string
		args       []string
		candidates []string
		code       int
		want       string
	}{
		{"not found", []string{"nothing"}, []string{"/sbin/nothing", "/bin/nothing"}, 127, `execute "nothing": not found in any folder of PATH in the image`},
		{"not a folder", []string{"/etc/hosts/x"}, []string{"/etc/hosts/x"}, 127, `execute "/etc/hosts/x": not found in the image`},
		{"not executable", []string{"data"}, []string{"/sbin/data", "/bin/data"}, 126, `execute "/bin/data": not executable (permission denied)`},
		{"folder", []string{"/bin"}, []string{"/bin"}, 126, `execute "/bin": not executable (permission denied)`},
		{"no interpreter", []string{"script"}, []string{"/sbin/script", "/bin/script"}, 126,
			`execute "/bin/script": the interpreter that it names (#! line or ELF header) is not in the image`},
		{"no program", []string{"/bin/text"}, []string{"/bin/text"}, 126, `execute "/bin/text": not a program for this machine and without a #! line`},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr := newTrial(t)
			tr.write("etc/hosts", "", 0o644)
			tr.write("bin/data", "data", 0o644)
			tr.write("bin/script", "#!/no/such\n", 0o755)
			tr.write("bin/text", "text", 0o755)
			tr.spec.Process.Args, tr.app.Candidates = test.args, test.candidates
			_, _, err := tr.run()
			var e *ExecError
			if !errors.As(err, &e) || e.Code != test.code || e.Message != test.want {
				t.Errorf("error %v, want %d %s", err, test.code, test.want)
			}
		})
	}
	t.Run("later candidate", func(t *testing.T) {
		tr := newTrial(t, "echo ran")
		tr.write("sbin/sh", "no program", 0o644)
		tr.app.Candidates = []string{"/no/sh", "/sbin/sh", "/bin/sh"}
		if out := tr.output(); out != "ran\n" {
			t.Errorf("output %q", out)
		}
	})
}

func TestPrivilegeEscalationIsAnOption(t *testing.T) {
	tr := newTrial(t, "grep -E 'NoNewPrivs|Seccomp:|CapEff' /proc/self/status; grep ' / ' /proc/self/mounts")
	tr.spec.Process.NoNewPrivileges = false
	tr.spec.Process.User.UID = 1000
	tr.seccomp = binary.NativeEndian.AppendUint64(nil, 0x7fff0000<<32|0x06)
	out := tr.output()
	if !strings.Contains(out, "NoNewPrivs:\t0") || !strings.Contains(out, "Seccomp:\t2") || strings.Contains(out, "nosuid") ||
		!strings.Contains(out, "CapEff:\t0000000000000000") || !strings.Contains(out, "nodev") {
		t.Errorf("output:\n%s", out)
	}
}

func TestInitReapsAndPassesTheExitCodeOn(t *testing.T) {
	tr := newTrial(t, "cat /proc/1/comm; echo $$ ; readlink /proc/1/exe; ls /proc/1/fd 2>/dev/null; (sleep 0 &) ; exit 5")
	tr.app.Init = true
	out, code, err := tr.run()
	if err != nil || code != 5 || strings.HasPrefix(out, "sh\n") || !strings.Contains(out, "\n2\n") || strings.Contains(out, "/exe") {
		t.Errorf("error %v, exit code %d, output %q", err, code, out)
	}
}

func TestSharedPIDNamespace(t *testing.T) {
	tr := newTrial(t, "cat /proc/1/comm; cat /proc/1/exe > /dev/null 2>&1 && echo readable; ls /proc/1/fd 2> /dev/null; (busybox setsid sh -c 'sleep 0; exit 0' &); echo done")
	tr.app.PID = contract.PIDPod
	if out := tr.output(); out != "rkt-init\ndone\n" {
		t.Errorf("output %q", out)
	}
}

func TestTerminalIsThePodsOwn(t *testing.T) {
	tr := newTrial(t, "busybox tty; readlink /proc/self/fd/0; readlink /proc/self/fd/2; stat -c '%u %t' /dev/console",
		"echo hi > /dev/console; echo x > /dev/tty; cat /proc/self/stat | busybox cut -d' ' -f6-8; ls -1 /proc/self/fd")
	tr.spec.Process.User.UID = 1000
	tr.terminal = true
	want := "/dev/pts/0\r\n/dev/pts/0\r\n/dev/pts/0\r\n1000 88\r\nhi\r\nx\r\n1 34816 1\r\n0\r\n1\r\n2\r\n3\r\n"
	if out := tr.output(); out != want {
		t.Errorf("output %q, want %q", out, want)
	}
}
