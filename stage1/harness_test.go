package main

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// These tests run pods that were made by hand, without any part of stage0,
// through the built program. They need root, cgroups and busybox-static.

// program is the built stage1.
var program string

func TestMain(m *testing.M) {
	if os.Getenv("RKT_TEST_SPEAKER") != "" {
		os.Exit(speaker(os.Args[1]))
	}
	os.Exit(func() int {
		// A machine without Go has the built programs.
		if bin := os.Getenv("RKT_BIN"); bin != "" {
			program = filepath.Join(bin, "stage1", "native", "stage1")
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "stage1-test")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		program = filepath.Join(dir, "stage1")
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build stage1: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// patience bounds every wait of these tests.
const patience = 20 * time.Second

const busybox = "/bin/busybox"

// firstID begins the id range of the pods of these tests, far from others.
const firstID = 1_900_000_000

// testPod is a pod directory made by hand.
type testPod struct {
	t     testing.TB
	pods  string // holds run, garbage
	dir   string
	pod   contract.Pod
	host  contract.Host
	apps  map[string]*contract.App
	specs map[string]*specs.Spec
	claim string
	lock  *os.File
}

// newPod makes a pod with one app for each of the commands, named a, b, ...
func newPod(t testing.TB, commands ...[]string) *testPod {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := os.Stat(busybox); err != nil {
		t.Skip("needs busybox-static")
	}
	p := &testPod{t: t, pods: t.TempDir(), apps: map[string]*contract.App{}, specs: map[string]*specs.Spec{}}
	uuid := newUUID()
	p.dir = filepath.Join(p.pods, "run", uuid)
	p.mkdir(filepath.Join(p.pods, contract.GarbageDir))
	p.mkdir(p.dir)
	p.pod = contract.Pod{
		Version: contract.Version, UUID: uuid, CreatedNanos: time.Now().UnixNano(), Hostname: "testpod",
		Stage1: contract.Stage1{Name: "native", Dir: filepath.Dir(program)},
		User:   contract.Private, IPC: contract.Private, UTS: contract.Private, Net: contract.Net{Mode: contract.NetNone},
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	p.must(err)
	p.claim = filepath.Join(p.pods, "claim."+uuid)
	p.must(os.WriteFile(p.claim, nil, 0o600))
	layer := strings.Repeat("a", 64)
	p.host = contract.Host{
		Version: contract.Version, BootID: strings.TrimSpace(string(boot)), RunDir: filepath.Join(p.pods, "sockets", uuid),
		IDs:     []contract.IDMap{{Inside: 0, Outside: firstID, Count: 65536}},
		Layers:  map[string]contract.Mounted{layer: {Path: filepath.Join(p.pods, "layer")}},
		Release: []string{p.claim},
	}
	p.mkdir(p.host.RunDir)
	p.makeLayer(filepath.Join(p.pods, "layer"))
	for i, command := range commands {
		p.addApp(string(rune('a'+i)), layer, command)
	}
	p.makeCgroups()
	t.Cleanup(p.cleanUp)
	return p
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

func (p *testPod) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *testPod) mkdir(dir string) {
	p.t.Helper()
	p.must(os.MkdirAll(dir, 0o700))
}

// makeLayer makes a root file system of busybox.
func (p *testPod) makeLayer(dir string) {
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp"} {
		p.must(os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	p.must(os.Chmod(dir, 0o755))
	p.must(os.Chmod(filepath.Join(dir, "tmp"), 0o777|os.ModeSticky))
	b, err := os.ReadFile(busybox)
	p.must(err)
	p.must(os.WriteFile(filepath.Join(dir, "bin/busybox"), b, 0o755))
	for _, name := range []string{"sh", "sleep", "true", "false", "cat", "id", "kill", "stty", "su", "ls", "dd", "tail", "echo", "ps", "head", "seq", "setsid", "readlink"} {
		p.must(os.Symlink("busybox", filepath.Join(dir, "bin", name)))
	}
	p.must(os.WriteFile(filepath.Join(dir, "bin/script"), []byte("#!/no/such\n"), 0o755))
	p.must(os.WriteFile(filepath.Join(dir, "bin/data"), []byte("data"), 0o644))
}

func (p *testPod) addApp(name, layer string, command []string) {
	inherit := contract.Stream{Kind: contract.StreamInherit}
	p.pod.Apps = append(p.pod.Apps, name)
	candidates := []string{command[0]}
	if !strings.Contains(command[0], "/") {
		candidates = []string{"/sbin/" + command[0], "/bin/" + command[0]}
	}
	p.apps[name] = &contract.App{
		Version: contract.Version, Name: name, Layers: []string{layer}, Candidates: candidates,
		PID: contract.PIDOwn, Restart: contract.Restart{Policy: contract.RestartNo},
		StopSignal: int(unix.SIGTERM), StopGraceMillis: 5000, Stdin: inherit, Stdout: inherit, Stderr: inherit,
	}
	caps := []string{"CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"}
	p.specs[name] = &specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{
			Args: command, Env: []string{"PATH=/bin"}, Cwd: "/", NoNewPrivileges: true,
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps},
		},
		Root: &specs.Root{Path: "rootfs"},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Options: []string{"nosuid", "mode=755", "size=64k"}},
			{Destination: "/dev/pts", Type: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}},
			{Destination: "/sys", Type: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		},
		Linux: &specs.Linux{
			MaskedPaths:   []string{"/proc/kcore", "/proc/keys", "/proc/acpi", "/proc/no-such", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/sys", "/proc/bus"},
		},
	}
	dir := filepath.Join(p.dir, contract.AppsDir, name)
	p.mkdir(filepath.Join(dir, contract.UpperDir))
	p.mkdir(filepath.Join(dir, contract.WorkDir))
	p.must(os.Chmod(filepath.Join(dir, contract.UpperDir), 0o755))
}

// makeCgroups makes folders for the pod in the unified hierarchy, if there is
// one, and in those of pids and memory.
func (p *testPod) makeCgroups() {
	p.t.Helper()
	own, err := os.ReadFile("/proc/self/cgroup")
	p.must(err)
	p.host.Cgroup.V1 = map[string]string{}
	for line := range strings.Lines(string(own)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		dir := filepath.Join("/sys/fs/cgroup", f[1], f[2])
		if f[1] == "" {
			dir = filepath.Join("/sys/fs/cgroup/unified", f[2])
			if _, err := os.Stat(dir); err != nil {
				dir = filepath.Join("/sys/fs/cgroup", f[2])
			}
		} else if f[1] != "memory" && f[1] != "pids" && f[1] != "freezer" {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
			continue
		}
		dir = filepath.Join(dir, "rkt-"+p.pod.UUID)
		for _, app := range p.pod.Apps {
			sub := filepath.Join(dir, "app."+app)
			if f[1] == "" {
				sub = filepath.Join(sub, "main")
			}
			p.must(os.MkdirAll(sub, 0o755))
		}
		if f[1] == "" {
			p.host.Cgroup.V2 = dir
		} else {
			p.host.Cgroup.V1[f[1]] = dir
		}
	}
}

// cgroupFolders are the pod's folders that exist.
func (p *testPod) cgroupFolders() []string {
	var dirs []string
	for _, dir := range append([]string{p.host.Cgroup.V2}, values(p.host.Cgroup.V1)...) {
		if _, err := os.Stat(dir); dir != "" && err == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func values(m map[string]string) []string {
	var v []string
	for _, s := range m {
		v = append(v, s)
	}
	return v
}

// cleanUp ends whatever a failed test has left, by the gc entrypoint.
func (p *testPod) cleanUp() {
	if p.lock != nil {
		p.lock.Close()
	}
	if _, err := os.Stat(p.dir); err == nil && len(p.cgroupFolders()) > 0 {
		if out, err := p.entry("gc").CombinedOutput(); err != nil {
			p.t.Errorf("gc after the test: %v: %s", err, out)
		}
	}
}

// write writes the contract.
func (p *testPod) write() {
	p.t.Helper()
	p.json(contract.PodFile, p.pod)
	p.json(contract.HostFile, p.host)
	for name := range p.apps {
		p.json(filepath.Join(contract.AppsDir, name, contract.AppFile), p.apps[name])
		p.json(filepath.Join(contract.AppsDir, name, contract.SpecFile), p.specs[name])
	}
}

func (p *testPod) json(name string, v any) {
	p.t.Helper()
	b, err := json.Marshal(v)
	p.must(err)
	p.must(os.WriteFile(filepath.Join(p.dir, name), b, 0o600))
}

// entry is the command of an entrypoint.
func (p *testPod) entry(args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Dir = p.dir
	return cmd
}

// running is a started pod.
type running struct {
	*testPod
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
	done           chan error
}

// start runs the pod. The lock goes with it.
func (p *testPod) start(prepare ...func(*exec.Cmd)) *running {
	p.t.Helper()
	p.write()
	lock, err := os.OpenFile(filepath.Join(p.dir, contract.LockFile), os.O_CREATE|os.O_RDWR, 0o600)
	p.must(err)
	p.must(unix.FcntlFlock(lock.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Len: 1}))
	r := &running{testPod: p, cmd: p.entry("run"), done: make(chan error, 1)}
	if p.pod.Stage1.Name == "fly" {
		r.cmd = p.entry("fly", "run")
	}
	r.cmd.ExtraFiles = []*os.File{lock}
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	r.cmd.WaitDelay = 200 * time.Millisecond // an orphan holds the pipes
	for _, f := range prepare {
		f(r.cmd)
	}
	p.must(r.cmd.Start())
	lock.Close()
	go func() { r.done <- r.cmd.Wait() }()
	p.t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	return r
}

// wait waits for the end of the pod and returns its exit code.
func (r *running) wait() int {
	r.t.Helper()
	select {
	case err := <-r.done:
		var exit *exec.ExitError
		if err != nil && !errors.Is(err, exec.ErrWaitDelay) && !errors.As(err, &exit) {
			r.t.Fatal(err)
		}
		if ws := r.cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
			return 128 + int(ws.Signal())
		}
		return r.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		r.t.Fatalf("the pod does not end; stdout %q, stderr %q", r.stdout.String(), r.stderr.String())
	}
	return -1
}

// run runs the pod to its end.
func (p *testPod) run(prepare ...func(*exec.Cmd)) (code int, stdout, stderr string) {
	p.t.Helper()
	r := p.start(prepare...)
	code = r.wait()
	return code, r.stdout.String(), r.stderr.String()
}

// await waits until the file exists, relative to the pod directory.
func (p *testPod) await(name string) {
	p.t.Helper()
	p.awaitThat(name+" to appear", func() bool {
		_, err := os.Stat(filepath.Join(p.dir, name))
		return err == nil
	})
}

// awaitThat looks until f is true. Files have no event that all hosts offer, so
// this yields between looks.
func (p *testPod) awaitThat(what string, f func() bool) {
	p.t.Helper()
	end := time.Now().Add(patience)
	for tick := time.NewTicker(2 * time.Millisecond); !f(); <-tick.C {
		if time.Now().After(end) {
			p.t.Fatalf("waited in vain for %s", what)
		}
	}
}

// exit reads the exit record of an app.
func (p *testPod) exit(app string) contract.Exit {
	p.t.Helper()
	e, err := contract.LoadExit(p.dir, app)
	p.must(err)
	return *e
}

// checkClean fails unless nothing of the pod is left outside of its directory.
func (p *testPod) checkClean() {
	p.t.Helper()
	if dirs := p.cgroupFolders(); len(dirs) > 0 {
		p.t.Errorf("cgroups are left: %v", dirs)
	}
	for _, path := range []string{p.host.RunDir, p.claim} {
		if _, err := os.Lstat(path); err == nil {
			p.t.Errorf("%s is left", path)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	p.must(err)
	if strings.Contains(string(mounts), p.pods) {
		p.t.Errorf("mounts are left on the host:\n%s", mounts)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func script(lines ...string) []string {
	return []string{"sh", "-c", strings.Join(lines, "\n")}
}
