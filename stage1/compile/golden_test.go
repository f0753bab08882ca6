package compile

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/contract"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares text with the file of that name in testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("program %s:\n%s\nwant:\n%s\n(-update writes it)", name, text, want)
	}
}

func privatePod() *contract.Pod {
	return &contract.Pod{
		Hostname: "pod", User: contract.Private, IPC: contract.Private, UTS: contract.Private,
		Net: contract.Net{Mode: contract.NetNone},
	}
}

func testHost() *contract.Host {
	return &contract.Host{
		IDs: []contract.IDMap{{Inside: 0, Outside: 524288, Count: 65536}},
		Cgroup: contract.Cgroup{V2: "/sys/fs/cgroup/unified/rkt-1", V1: map[string]string{
			"memory": "/sys/fs/cgroup/memory/rkt-1", "cpu": "/sys/fs/cgroup/cpu,cpuacct/rkt-1", "cpuacct": "/sys/fs/cgroup/cpu,cpuacct/rkt-1",
		}},
	}
}

func testApp() *contract.App {
	return &contract.App{PID: contract.PIDOwn, Candidates: []string{"/usr/bin/app", "/bin/app"}}
}

// testSpec has one of everything that a start does.
func testSpec() *specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_KILL"}
	return &specs.Spec{
		Process: &specs.Process{
			User: specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{5, 6}},
			Args: []string{"app", "-v"}, Env: []string{"PATH=/usr/bin:/bin"}, Cwd: "/srv/data",
			NoNewPrivileges: true,
			Capabilities:    &specs.LinuxCapabilities{Bounding: caps},
			Rlimits:         []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: 0, Hard: 0}},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=64k"}},
			{Destination: "/dev/pts", Type: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/sys", Type: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Options: []string{"ro"}},
			{Destination: "/var/lib/data", Type: "bind", Source: "/srv/x", Options: []string{"rbind", "ridmap"}},
			{Destination: "/etc/hosts", Type: "bind", Source: "etc/hosts", Options: []string{"bind", "idmap", "ro"}},
		},
		Linux: &specs.Linux{MaskedPaths: []string{"/proc/kcore"}, ReadonlyPaths: []string{"/proc/sys"}},
	}
}

func testResources() *Resources {
	r := &Resources{
		Common:     Common{Stdio: [3]int{0, 1, 2}, Tasks: []Tasks{{FD: 5, Name: "memory"}}, Seccomp: make([]byte, 16)},
		Namespaces: Namespaces{User: 20, Net: 21, IPC: 22, UTS: 23, PID: None},
		Layers:     []int{30, 31},
		Upper:      32,
		Binds:      map[int]Bind{5: {FD: 33, Dir: true}, 6: {FD: 34}},
	}
	for i := range r.Rlimits {
		r.Rlimits[i] = unix.Rlimit{Cur: 100, Max: 4096}
	}
	return r
}

func TestSandboxPrograms(t *testing.T) {
	hostNet := privatePod()
	hostNet.Net.Mode = contract.NetHost
	allHost := &contract.Pod{User: contract.Shared, IPC: contract.Shared, UTS: contract.Shared, Net: contract.Net{Mode: contract.NetHost}}
	for _, test := range []struct {
		name       string
		pod        *contract.Pod
		podPID     bool
		clone, all uint64
	}{
		{"sandbox", privatePod(), false, unix.CLONE_NEWUSER,
			unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS},
		{"sandbox-podpid-hostnet", hostNet, true, unix.CLONE_NEWUSER | unix.CLONE_NEWPID,
			unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS},
		{"sandbox-nothing", allHost, false, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, clone, all := Sandbox(test.pod, testHost(), test.podPID)
			golden(t, test.name, p.String())
			if clone != test.clone || all != test.all {
				t.Errorf("flags %#x, %#x, want %#x, %#x", clone, all, test.clone, test.all)
			}
		})
	}
}

func TestStartPrograms(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*contract.App, *specs.Spec, *contract.Pod, *contract.Host, *Resources)
	}{
		{"start", func(*contract.App, *specs.Spec, *contract.Pod, *contract.Host, *Resources) {}},
		{"start-terminal-init-readonly", func(a *contract.App, s *specs.Spec, _ *contract.Pod, h *contract.Host, r *Resources) {
			a.Init, a.Volatile = true, true
			s.Root = &specs.Root{Readonly: true}
			h.Cgroup = contract.Cgroup{V2: "/sys/fs/cgroup/rkt-1"}
			r.Terminal, r.Stdio = true, [3]int{None, None, None}
		}},
		{"start-weak", func(a *contract.App, s *specs.Spec, p *contract.Pod, h *contract.Host, r *Resources) {
			*p = contract.Pod{User: contract.Shared, IPC: contract.Private, UTS: contract.Private, Net: contract.Net{Mode: contract.NetHost}}
			*h = contract.Host{}
			a.PID = contract.PIDHost
			score := 100
			s.Process.OOMScoreAdj = &score
			s.Process.NoNewPrivileges = false
			s.Process.User = specs.User{}
			s.Process.Capabilities.Permitted = s.Process.Capabilities.Bounding
			s.Process.Capabilities.Effective = s.Process.Capabilities.Bounding
			r.Namespaces = Namespaces{User: None, Net: None, IPC: 22, UTS: 23, PID: None}
			r.Stdio = [3]int{2, 40, 1}
		}},
		{"start-unit", func(a *contract.App, _ *specs.Spec, _ *contract.Pod, _ *contract.Host, r *Resources) {
			a.Init = true
			r.Files = []int{40, 4, 41}
			r.PIDVariables = []string{"LISTEN_PID", "WATCHDOG_PID"}
		}},
		{"start-pod-pid", func(a *contract.App, _ *specs.Spec, _ *contract.Pod, _ *contract.Host, r *Resources) {
			a.PID = contract.PIDPod
			r.Namespaces.PID = 24
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			app, spec, pod, host, res := testApp(), testSpec(), privatePod(), testHost(), testResources()
			test.change(app, spec, pod, host, res)
			p, err := Start(app, spec, pod, host, res)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, test.name, p.String())
		})
	}
}

func TestEnterProgram(t *testing.T) {
	req := &contract.EnterRequest{
		App: "a", Args: []string{"sh"}, Candidates: []string{"/bin/sh"}, Env: []string{"A=b"}, Cwd: "/", UID: 7, GID: 8,
	}
	p, err := Enter(req, testSpec(), privatePod(), &EnterResources{Common: testResources().Common, Process: 9})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "enter", p.String())
}

func TestStartRefuses(t *testing.T) {
	for _, test := range []struct {
		name, want string
		change     func(*specs.Spec)
	}{
		{"hooks", "hooks in config.json is not supported", func(s *specs.Spec) { s.Hooks = &specs.Hooks{} }},
		{"sysctl", "linux.sysctl in config.json is not supported", func(s *specs.Spec) { s.Linux.Sysctl = map[string]string{"kernel.core_pattern": "|/x"} }},
		{"devices", "linux.devices in config.json is not supported", func(s *specs.Spec) { s.Linux.Devices = []specs.LinuxDevice{{}} }},
		{"inheritable capability", "inheritable and ambient capabilities are not supported", func(s *specs.Spec) {
			s.Process.Capabilities.Inheritable = []string{"CAP_KILL"}
		}},
		{"unknown capability", `capability "CAP_ALL" is not known`, func(s *specs.Spec) { s.Process.Capabilities.Bounding = []string{"CAP_ALL"} }},
		{"unknown limit", `resource limit "RLIMIT_X" is not known`, func(s *specs.Spec) { s.Process.Rlimits[0].Type = "RLIMIT_X" }},
		{"working directory in procfs", `working directory "/proc/self/fd/7" is in /proc`, func(s *specs.Spec) { s.Process.Cwd = "/proc/self/fd/7" }},
		{"relative working directory", `working directory "x" is not absolute`, func(s *specs.Spec) { s.Process.Cwd = "x" }},
		{"volume on procfs", `only procfs can be mounted on "/proc"`, func(s *specs.Spec) { s.Mounts[5].Destination = "/proc" }},
		{"volume in procfs", `mount point "/srv/../proc/sys" is in /proc`, func(s *specs.Spec) { s.Mounts[5].Destination = "/srv/../proc/sys" }},
		{"volume on /dev", `only a new tmpfs can be mounted on "/dev"`, func(s *specs.Spec) { s.Mounts[5].Destination = "/dev/" }},
		{"no /dev", `config.json does not mount "/proc" and "/dev"`, func(s *specs.Spec) { s.Mounts = s.Mounts[:1] }},
		{"filesystem", `mount "/x": filesystem "ext4" is not supported`, func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "ext4"})
		}},
		{"shared propagation", `mount "/sys": option "shared" is not supported`, func(s *specs.Spec) { s.Mounts[3].Options = []string{"shared"} }},
		{"zero byte", `"a\x00b" holds a zero byte`, func(s *specs.Spec) { s.Process.Args = []string{"a\x00b"} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := testSpec()
			test.change(spec)
			_, err := Start(testApp(), spec, privatePod(), testHost(), testResources())
			if err == nil || err.Error() != test.want {
				t.Errorf("error %v, want %s", err, test.want)
			}
		})
	}
}
