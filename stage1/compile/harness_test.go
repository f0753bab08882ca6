package compile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/contract"
	"rkt/stage1/program"
)

const busybox = "/bin/busybox"

// firstID begins the id range of the pods of these tests, far from others.
const firstID = 1_800_000_000

// trial is one start of an app in a sandbox of its own.
type trial struct {
	t     *testing.T
	image string // a folder that is the only layer
	dir   string // the pod directory
	pod   *contract.Pod
	host  *contract.Host
	app   *contract.App
	spec  *specs.Spec
	// extra are more layers, on top, the topmost first.
	extra    []string
	seccomp  []byte
	terminal bool
}

// newTrial makes a trial that runs a shell script.
func newTrial(t *testing.T, script ...string) *trial {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := os.Stat(busybox); err != nil {
		t.Skip("needs busybox-static")
	}
	tr := &trial{t: t, image: t.TempDir(), dir: t.TempDir(), pod: privatePod(), host: testHost(), app: testApp(), spec: testSpec()}
	tr.host.IDs[0].Outside, tr.host.Cgroup = firstID, contract.Cgroup{}
	for _, d := range []string{"bin", "etc", "proc", "sys", "dev", "tmp", "srv/data"} {
		tr.must(os.MkdirAll(filepath.Join(tr.image, d), 0o755))
	}
	tr.must(os.Chmod(tr.image, 0o755))
	b, err := os.ReadFile(busybox)
	tr.must(err)
	tr.write("bin/busybox", string(b), 0o755)
	for _, name := range []string{"sh", "cat", "ls", "id", "readlink", "stat", "grep", "echo", "mkdir", "touch", "rm", "mount", "ps", "sleep", "kill", "head", "sync", "unshare"} {
		tr.must(os.Symlink("busybox", filepath.Join(tr.image, "bin", name)))
	}
	for _, d := range []string{"fs/upper", "fs/work", "etc"} {
		tr.must(os.MkdirAll(filepath.Join(tr.dir, d), 0o755))
	}
	tr.must(os.WriteFile(filepath.Join(tr.dir, "etc/hosts"), []byte("127.0.0.1 localhost\n"), 0o644))
	tr.app.Candidates = []string{"/bin/sh"}
	tr.spec.Process.Args = []string{"sh", "-c", strings.Join(script, "\n")}
	tr.spec.Process.Env = []string{"PATH=/bin"}
	tr.spec.Process.User = specs.User{}
	caps := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_SETGID", "CAP_SETUID", "CAP_KILL"}
	tr.spec.Process.Capabilities = &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps}
	tr.spec.Mounts = tr.spec.Mounts[:4]
	return tr
}

func (tr *trial) must(err error) {
	tr.t.Helper()
	if err != nil {
		tr.t.Fatal(err)
	}
}

// write makes a file of the image.
func (tr *trial) write(name, content string, mode os.FileMode) {
	tr.t.Helper()
	file := filepath.Join(tr.image, name)
	tr.must(os.MkdirAll(filepath.Dir(file), 0o755))
	tr.must(os.WriteFile(file, []byte(content), mode))
	tr.must(os.Chmod(file, mode))
}

// link replaces what the image has at name by a symbolic link.
func (tr *trial) link(target, name string) {
	tr.t.Helper()
	file := filepath.Join(tr.image, name)
	tr.must(os.RemoveAll(file))
	tr.must(os.MkdirAll(filepath.Dir(file), 0o755))
	tr.must(os.Symlink(target, file))
}

// bind adds a bind mount.
func (tr *trial) bind(source, dest string, options ...string) {
	tr.spec.Mounts = append(tr.spec.Mounts, specs.Mount{
		Destination: dest, Type: "bind", Source: source, Options: append([]string{"rbind", "ridmap"}, options...),
	})
}

// clone opens a detached mount of path.
func (tr *trial) clone(path string, userns int, attrs uint64, recursive uint) int {
	tr.t.Helper()
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|recursive)
	tr.must(err)
	a := &unix.MountAttr{Attr_set: attrs}
	if userns != None {
		a.Attr_set |= unix.MOUNT_ATTR_IDMAP
		a.Userns_fd = uint64(userns)
	}
	tr.must(unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|recursive, a))
	return fd
}

// sandbox makes the namespaces of the pod.
func (tr *trial) sandbox() (ns Namespaces, reaper *program.Child) {
	tr.t.Helper()
	ns = Namespaces{User: None, Net: None, IPC: None, UTS: None, PID: None}
	podPID := tr.app.PID == contract.PIDPod
	p, clone, all := Sandbox(tr.pod, tr.host, podPID)
	if all == 0 {
		return ns, nil
	}
	c, err := p.Start(program.Clone{Flags: clone})
	tr.must(err)
	proc := fmt.Sprintf("/proc/%d/", c.PID)
	if tr.pod.User == contract.Private {
		tr.must(c.Until(WaitMaps))
		for _, name := range []string{"uid_map", "gid_map"} {
			m := tr.host.IDs[0]
			tr.must(os.WriteFile(proc+name, fmt.Appendf(nil, "%d %d %d", m.Inside, m.Outside, m.Count), 0))
		}
		tr.must(c.Release())
	}
	tr.must(c.Until(WaitPinned))
	for _, n := range []struct {
		flag uint64
		name string
		fd   *int
	}{{unix.CLONE_NEWUSER, "user", &ns.User}, {unix.CLONE_NEWNET, "net", &ns.Net}, {unix.CLONE_NEWIPC, "ipc", &ns.IPC},
		{unix.CLONE_NEWUTS, "uts", &ns.UTS}, {unix.CLONE_NEWPID, "pid", &ns.PID}} {
		if all&n.flag != 0 {
			*n.fd, err = unix.Open(proc+"ns/"+n.name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			tr.must(err)
		}
	}
	if podPID {
		tr.must(c.Release())
		return ns, c
	}
	c.Kill()
	c.Close()
	unix.Close(c.Pidfd)
	return ns, nil
}

// errExec is an app that could not be executed.
var errExec = errors.New("not executed")

// started is an app that runs.
type started struct {
	*program.Child
	out  *os.File // what it writes
	ns   Namespaces
	ends func()
}

// start starts the app. The error is that of the program, or an *ExecError.
func (tr *trial) start() (*started, error) {
	tr.t.Helper()
	ns, reaper := tr.sandbox()
	r, w, err := os.Pipe()
	tr.must(err)
	null, err := os.Open("/dev/null")
	tr.must(err)
	res := &Resources{Namespaces: ns, Common: Common{Stdio: [3]int{int(null.Fd()), int(w.Fd()), int(w.Fd())}, Seccomp: tr.seccomp, Terminal: tr.terminal}}
	res.Rlimits, err = Rlimits()
	tr.must(err)
	const layer = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	for _, l := range append(tr.extra, tr.image) {
		res.Layers = append(res.Layers, tr.clone(l, ns.User, layer, 0))
	}
	res.Upper = tr.clone(filepath.Join(tr.dir, "fs"), ns.User, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, 0)
	res.Binds = map[int]Bind{}
	for i, m := range tr.spec.Mounts {
		if !IsBind(m) {
			continue
		}
		o, err := ParseBind(m)
		tr.must(err)
		st, err := os.Stat(m.Source)
		tr.must(err)
		res.Binds[i] = Bind{FD: tr.clone(m.Source, ns.User, o.Attrs, unix.AT_RECURSIVE), Dir: st.IsDir()}
	}
	p, err := Start(tr.app, tr.spec, tr.pod, tr.host, res)
	tr.must(err)
	cwd, err := os.Getwd()
	tr.must(err)
	tr.must(os.Chdir(tr.dir))
	c, err := p.Start(program.Clone{})
	tr.must(os.Chdir(cwd))
	tr.must(err)
	for _, fd := range append([]int{res.Upper}, res.Layers...) {
		unix.Close(fd)
	}
	for _, b := range res.Binds {
		unix.Close(b.FD)
	}
	w.Close()
	null.Close()
	s := &started{Child: c, out: r, ns: ns}
	s.ends = func() {
		c.Kill()
		c.Close()
		unix.Close(c.Pidfd)
		s.out.Close()
		for _, fd := range []int{ns.User, ns.Net, ns.IPC, ns.UTS, ns.PID} {
			if fd != None {
				unix.Close(fd)
			}
		}
		if reaper != nil {
			reaper.Kill()
			reaper.Close()
			unix.Close(reaper.Pidfd)
		}
	}
	if err := tr.meet(s); err != nil {
		s.ends()
		return nil, err
	}
	return s, nil
}

func (tr *trial) meet(c *started) error {
	if err := c.Until(WaitExec); err != nil {
		return err
	}
	if tr.terminal {
		e, _ := c.Reported(ReportTerminal)
		master, err := unix.PidfdGetfd(c.Pidfd, int(e.Value), 0)
		tr.must(err)
		c.out.Close()
		c.out = os.NewFile(uintptr(master), "terminal")
	}
	tr.must(c.Release())
	executed, err := c.Done()
	if err != nil {
		return err
	}
	if !executed {
		return errors.Join(errExec, ExecFailure(tr.spec.Process.Args[0], c.Events))
	}
	return nil
}

// run runs the app to its end.
func (tr *trial) run() (output string, code int, err error) {
	tr.t.Helper()
	s, err := tr.start()
	if err != nil {
		return "", 0, err
	}
	var b bytes.Buffer
	if _, err = io.Copy(&b, s.out); !tr.terminal || !errors.Is(err, unix.EIO) { // nobody holds the terminal any more
		tr.must(err)
	}
	var ws unix.WaitStatus
	_, err = unix.Wait4(s.PID, &ws, 0, nil)
	tr.must(err)
	s.ends()
	code = ws.ExitStatus()
	if ws.Signaled() {
		code = 128 + int(ws.Signal())
	}
	return b.String(), code, nil
}

// output runs the app, which must succeed.
func (tr *trial) output() string {
	tr.t.Helper()
	out, code, err := tr.run()
	if err != nil || code != 0 {
		tr.t.Fatalf("error %v, exit code %d, output:\n%s", err, code, out)
	}
	return out
}
