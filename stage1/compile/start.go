package compile

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/contract"
	"rkt/stage1/program"
)

// start is what the steps of Start share.
type start struct {
	*program.Program
	app  *contract.App
	spec *specs.Spec
	pod  *contract.Pod
	host *contract.Host
	res  *Resources

	root *program.Op // the app's root, an O_PATH fd
}

// Start is the program that starts an app, for a child in its cgroup of the
// unified hierarchy and in the pod directory. The parent waits for WaitExec,
// looks, releases it, and reads the rest with program.Child.Done; ExecFailure
// explains a child that ended without executing the app. Whatever config.json asks for that is not
// supported is an error.
func Start(app *contract.App, spec *specs.Spec, pod *contract.Pod, host *contract.Host, res *Resources) (*program.Program, error) {
	if err := checkSupported(spec); err != nil {
		return nil, err
	}
	s := &start{Program: &program.Program{}, app: app, spec: spec, pod: pod, host: host, res: res}

	hide(s.Program)
	setOOMScore(s.Program, spec.Process)
	s.joinSandbox()
	s.leaveHost()

	s.makeStaging()
	s.makeRoot()
	if err := s.makeMounts(); err != nil {
		return nil, err
	}
	if err := s.makeWorkingDir(); err != nil {
		return nil, err
	}
	if err := s.leaveHostCgroups(); err != nil {
		return nil, err
	}
	if err := s.protectPaths(); err != nil {
		return nil, err
	}
	s.enterRoot()

	return s.Program, confine(s.Program, confinement{
		process: spec.Process,
		user:    spec.Process.User,
		args:    spec.Process.Args,
		env:     spec.Process.Env,
		cwd:     spec.Process.Cwd,
		command: app.Candidates,
		init:    app.Init,
		console: true,
		common:  &res.Common,
	})
}

// setOOMScore makes the process and all that come from it a likelier victim
// when memory runs out. It is done first: the file is the host's.
func setOOMScore(p *program.Program, process *specs.Process) {
	if process.OOMScoreAdj == nil {
		return
	}
	why := "set the OOM score adjustment"
	f := p.Openat(program.Cwd(), "/proc/self/oom_score_adj", unix.O_WRONLY).Because(why)
	p.Write(f.Result(), strconv.Itoa(*process.OOMScoreAdj)).Because(why)
	p.Close(f.Result())
}

// joinSandbox joins the namespaces that the apps of the pod share, the user
// namespace first: it gives the right to join the others.
func (s *start) joinSandbox() {
	ns := s.res.Namespaces
	for _, n := range []struct {
		fd    int
		flag  uintptr
		name  string
		joins string
	}{
		{ns.User, unix.CLONE_NEWUSER, "user", "join the pod's user namespace"},
		{ns.Net, unix.CLONE_NEWNET, "net", "join the pod's network namespace"},
		{ns.IPC, unix.CLONE_NEWIPC, "ipc", "join the pod's ipc namespace"},
		{ns.UTS, unix.CLONE_NEWUTS, "uts", "join the pod's uts namespace"},
		{ns.PID, unix.CLONE_NEWPID, "pid", "join the pod's pid namespace"},
	} {
		if n.fd != None {
			s.Setns(s.FD(n.fd, n.name), n.flag).Because(n.joins)
		}
	}
}

// leaveHost makes the app's own namespaces. A pid namespace holds only what is
// forked later; CLONE_PARENT makes that a child of the supervisor.
func (s *start) leaveHost() {
	flags, why := uintptr(unix.CLONE_NEWNS), "leave the host's mounts"
	if s.app.PID == contract.PIDOwn {
		flags, why = flags|unix.CLONE_NEWPID, "leave the host's mounts and processes"
	}
	s.Unshare(flags).Because(why)
	if s.app.PID != contract.PIDHost {
		s.Fork(unix.CLONE_PARENT | uintptr(unix.SIGCHLD)).Because("go on in the pid namespace")
	}
	moveIntoCgroups(s.Program, s.res.Tasks) // after the fork: a pids limit may be 1
	if s.res.Namespaces.User != None {
		becomeRoot(s.Program)
	}
	s.Umask(0).Because("make files with the modes that are asked for")
	s.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "").Because("keep mounts apart from the host's")
}

// Names in the staging filesystem. The layers are 0, 1, 2, ...
const (
	stagingUpper = "upper"
	stagingRoot  = "root"
	stagingDev   = "dev"
	stagingMasks = "masks"
)

// makeStaging mounts a filesystem of our own over the working directory and
// makes it the working directory: what is not yet below the app's root is put
// there, where only we made the names.
func (s *start) makeStaging() {
	const why = "make a place for mounts"
	staging := s.Filesystem("tmpfs", "rkt", []string{"mode=700"}, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, why)
	s.MoveMount(staging.Result(), program.Cwd()).Because(why)
	s.Fchdir(staging.Result()).Because(why)
}

// makeRoot mounts the layers and the writable layer as the app's root. The
// overlay must be made here, inside the user namespace and from attached
// mounts. mount(2) takes the long list of layers at once; names are short, so
// that as many as the kernel allows fit into its page. Options are explicit,
// as their defaults are the host's choice.
func (s *start) makeRoot() {
	lower := make([]string, max(len(s.res.Layers), 1))
	for i := range lower {
		lower[i] = strconv.Itoa(i)
		why := "attach layer " + lower[i]
		s.Mkdirat(program.Cwd(), lower[i], 0o755).Because(why)
		if i < len(s.res.Layers) {
			s.MoveMountTo(s.FD(s.res.Layers[i], "layer "+lower[i]), program.Cwd(), lower[i]).Because(why)
		}
	}
	s.Mkdirat(program.Cwd(), stagingUpper, 0o755).Because("attach the writable layer")
	s.MoveMountTo(s.FD(s.res.Upper, "upper"), program.Cwd(), stagingUpper).Because("attach the writable layer")

	options := "userxattr,redirect_dir=nofollow,metacopy=off,index=off,xino=off"
	if s.app.Volatile {
		options += ",volatile"
	}
	options += ",upperdir=" + stagingUpper + "/" + path.Base(contract.UpperDir) +
		",workdir=" + stagingUpper + "/" + path.Base(contract.WorkDir) +
		",lowerdir=" + strings.Join(lower, ":")
	flags := uintptr(unix.MS_NODEV)
	if s.spec.Process.NoNewPrivileges {
		flags |= unix.MS_NOSUID
	}
	s.Mkdirat(program.Cwd(), stagingRoot, 0o755).Because("mount the app's root")
	s.Mount("overlay", stagingRoot, "overlay", flags, options).Because("mount the app's root")
	s.root = s.Openat(program.Cwd(), stagingRoot, unix.O_PATH|unix.O_DIRECTORY).Because("open the app's root")
}

// makeWorkingDir makes the working directory where the image lacks it.
func (s *start) makeWorkingDir() error {
	cwd := s.spec.Process.Cwd
	if !path.IsAbs(cwd) {
		return fmt.Errorf("working directory %q is not absolute", cwd)
	}
	if cwd = path.Clean(cwd); cwd == "/proc" || strings.HasPrefix(cwd, "/proc/") {
		return fmt.Errorf("working directory %q is in /proc", cwd)
	}
	if cwd != "/" {
		s.mountPoint(cwd, true, fmt.Sprintf("make the working directory %q", cwd))
	}
	return nil
}

// enterRoot makes the app's root the root and leaves nothing of the host's
// mounts and of the staging filesystem.
func (s *start) enterRoot() {
	if s.spec.Root != nil && s.spec.Root.Readonly {
		s.MountSetattr(s.root.Result(), unix.MOUNT_ATTR_RDONLY, false).Because("make the root read-only")
	}
	s.Fchdir(s.root.Result()).Because("enter the app's root")
	s.PivotRoot().Because("enter the app's root")
	s.UmountDetach(".").Because("leave the host's root")
	s.Chdir("/").Because("enter the app's root")
}
