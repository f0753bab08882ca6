package compile

import (
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/contract"
	"rkt/stage1/program"
)

// hostTrees are what an app of Fly sees of the host beside its volumes.
var hostTrees = []string{"/proc", "/sys", "/dev"}

// Fly is the program that starts an app in the host's namespaces but for the
// mounts: its root is made of the image, with the host's /proc, /sys and /dev in
// it. The parent does the same as for Start. Mounts of the host that come later
// appear in the app's trees; no mount of the app appears on the host.
func Fly(app *contract.App, spec *specs.Spec, pod *contract.Pod, host *contract.Host, res *Resources) (*program.Program, error) {
	if err := checkSupported(spec); err != nil {
		return nil, err
	}
	if err := checkFly(app, spec, pod); err != nil {
		return nil, err
	}
	s := &start{Program: &program.Program{}, app: app, spec: spec, pod: pod, host: host, res: res}

	setOOMScore(s.Program, spec.Process)
	s.Unshare(unix.CLONE_NEWNS).Because("leave the host's mounts")
	moveIntoCgroups(s.Program, s.res.Tasks)
	s.Umask(0).Because("make files with the modes that are asked for")
	s.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "").Because("keep mounts from getting to the host")

	s.makeStaging()
	s.makeRoot()
	for _, dir := range hostTrees {
		why := fmt.Sprintf("bind the host's %q", dir)
		tree := s.OpenTree(program.Cwd(), dir, true).Because(why)
		s.MoveMount(tree.Result(), s.mountPoint(dir, true, why).Result()).Because(why)
	}
	if err := s.makeFlyMounts(); err != nil {
		return nil, err
	}
	if err := s.makeWorkingDir(); err != nil {
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
		common:  &res.Common,
	})
}

// checkFly refuses what a program of Fly does not do.
func checkFly(app *contract.App, spec *specs.Spec, pod *contract.Pod) error {
	linux := spec.Linux
	if linux == nil {
		linux = &specs.Linux{}
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"a user namespace", pod.User == contract.Private},
		{"a network of its own", pod.Net.Mode != contract.NetHost},
		{"an ipc namespace", pod.IPC == contract.Private},
		{"a uts namespace", pod.UTS == contract.Private},
		{"several apps", len(pod.Apps) > 1},
		{"a pid namespace", app.PID != contract.PIDHost},
		{"an init", app.Init},
		{"a terminal", app.Stdin.Kind == contract.StreamPTY},
		{"masked paths", len(linux.MaskedPaths) > 0},
		{"read-only paths", len(linux.ReadonlyPaths) > 0},
	} {
		if f.set {
			return fmt.Errorf("this stage1 has no support for %s", f.name)
		}
	}
	return nil
}

// makeFlyMounts mounts volumes and file systems in memory.
func (s *start) makeFlyMounts() error {
	for i, m := range s.spec.Mounts {
		dest := path.Clean(m.Destination)
		if !path.IsAbs(dest) || dest == "/" {
			return fmt.Errorf("mount point %q is not an absolute path below the root", m.Destination)
		}
		why := fmt.Sprintf("mount %s on %q", mountName(m), dest)
		if b, ok := s.res.Binds[i]; ok {
			target := s.mountPoint(dest, b.Dir, why)
			s.MoveMount(s.FD(b.FD, "source of "+dest), target.Result()).Because(why)
			continue
		}
		if m.Type != "tmpfs" && m.Type != contract.MountOwn {
			return fmt.Errorf("mount %q: this stage1 has no support for filesystem %q", dest, m.Type)
		}
		attrs, options, err := parseOptions(m.Options)
		if err != nil {
			return fmt.Errorf("mount %q: %w", dest, err)
		}
		if m.Type == contract.MountOwn {
			s.mountOwn(dest, attrs, why)
			continue
		}
		s.attachNew(m, dest, attrs|noSuid, options, why)
	}
	return nil
}
