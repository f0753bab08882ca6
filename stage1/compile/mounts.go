package compile

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/contract"
	"rkt/stage1/program"
)

// makeMounts mounts what config.json lists, in its order, on mount points that
// are resolved in the app's root. Cgroups are left to joinCgroup.
func (s *start) makeMounts() error {
	if err := checkMounts(s.spec.Mounts); err != nil {
		return err
	}
	for i, m := range s.spec.Mounts {
		dest := path.Clean(m.Destination)
		why := fmt.Sprintf("mount %s on %q", mountName(m), dest)
		if IsBind(m) {
			b, ok := s.res.Binds[i]
			if !ok {
				return fmt.Errorf("internal error: no source for mount %q", dest)
			}
			target := s.mountPoint(dest, b.Dir, why)
			s.MoveMount(s.FD(b.FD, "source of "+dest), target.Result()).Because(why)
			continue
		}
		attrs, options, err := parseOptions(m.Options)
		if err != nil {
			return fmt.Errorf("mount %q: %w", dest, err)
		}
		switch {
		case m.Type == "cgroup":
		case m.Type == contract.MountOwn:
			s.mountOwn(dest, attrs, why)
		case m.Type == "sysfs" && s.pod.Net.Mode == contract.NetHost:
			// sysfs shows a network namespace, and this one is the host's.
		case m.Type == "proc" && s.app.PID == contract.PIDHost && s.res.Namespaces.User != None:
			// Only the owner of a pid namespace may make a procfs of it.
			tree := s.OpenTree(program.Cwd(), "/proc", true).Because(why)
			s.MountSetattr(tree.Result(), attrs|noSuid, true).Because(why)
			s.MoveMount(tree.Result(), s.mountPoint(dest, true, why).Result()).Because(why)
		case dest == "/dev":
			s.makeDev(attrs, options, why)
		case m.Type == "devpts":
			s.attachNew(m, dest, attrs|unix.MOUNT_ATTR_NOSUID, options, why)
		default:
			s.attachNew(m, dest, attrs|noSuid, options, why)
		}
	}
	return nil
}

// mountOwn makes a mount of a folder of the app's root. It is not part of the
// root's mount when that becomes read-only.
func (s *start) mountOwn(dest string, attrs uint64, why string) {
	target := s.mountPoint(dest, true, why)
	tree := s.OpenTree(target.Result(), "", true).Because(why)
	s.MountSetattr(tree.Result(), attrs|noSuid, true).Because(why)
	s.MoveMount(tree.Result(), target.Result()).Because(why)
}

// noSuid is what every mount has that needs no device nodes.
const noSuid = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV

// attachNew mounts a new instance of a filesystem.
func (s *start) attachNew(m specs.Mount, dest string, attrs uint64, options []string, why string) {
	mount := s.Filesystem(m.Type, mountName(m), options, uintptr(attrs), why)
	s.MoveMount(mount.Result(), s.mountPoint(dest, true, why).Result()).Because(why)
}

func mountName(m specs.Mount) string {
	if IsBind(m) {
		return "volume"
	}
	if m.Type == contract.MountOwn {
		return "a folder of the root"
	}
	return m.Type
}

// checkMounts refuses a list of mounts that the rest of a start could not trust.
func checkMounts(mounts []specs.Mount) error {
	var proc, dev bool
	for _, m := range mounts {
		dest := path.Clean(m.Destination)
		switch {
		case !path.IsAbs(dest) || dest == "/" || strings.ContainsRune(dest, 0):
			return fmt.Errorf("mount point %q is not an absolute path below the root", m.Destination)
		case dest == "/proc":
			proc = m.Type == "proc"
			if !proc {
				return errors.New(`only procfs can be mounted on "/proc"`)
			}
		case strings.HasPrefix(dest, "/proc/"):
			return fmt.Errorf("mount point %q is in /proc", m.Destination)
		case dest == "/dev":
			dev = m.Type == "tmpfs"
			if !dev {
				return errors.New(`only a new tmpfs can be mounted on "/dev"`)
			}
		case m.Type == "proc":
			return errors.New(`procfs can only be mounted on "/proc"`)
		}
		if !IsBind(m) && !slices.Contains(filesystems, m.Type) {
			return fmt.Errorf("mount %q: filesystem %q is not supported", dest, m.Type)
		}
	}
	if !proc || !dev {
		return errors.New(`config.json does not mount "/proc" and "/dev"`)
	}
	return nil
}

// filesystems are the types of mounts that are not bind mounts.
var filesystems = []string{"proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", contract.MountOwn}

// parseOptions splits the options of a mount that is made anew into attributes
// of the mount and options of the filesystem.
func parseOptions(list []string) (attrs uint64, options []string, err error) {
	for _, o := range list {
		switch o {
		case "ro":
			attrs |= unix.MOUNT_ATTR_RDONLY
		case "nosuid":
			attrs |= unix.MOUNT_ATTR_NOSUID
		case "nodev":
			attrs |= unix.MOUNT_ATTR_NODEV
		case "noexec":
			attrs |= unix.MOUNT_ATTR_NOEXEC
		case "noatime":
			attrs |= unix.MOUNT_ATTR_NOATIME
		case "strictatime":
			attrs |= unix.MOUNT_ATTR_STRICTATIME
		case "rw", "exec", "relatime", "private", "rprivate":
		case "suid", "dev", "bind", "rbind", "remount", "shared", "rshared", "slave", "rslave", "tmpcopyup":
			return 0, nil, fmt.Errorf("option %q is not supported", o)
		default:
			options = append(options, o)
		}
	}
	return attrs, options, nil
}

// devices are the nodes of /dev: clones of the host's, as nobody can make nodes
// in a user namespace.
var devices = []string{"null", "zero", "full", "random", "urandom", "tty"}

// devLinks are the symbolic links of /dev.
var devLinks = []struct{ name, target string }{
	{"fd", "/proc/self/fd"},
	{"stdin", "/proc/self/fd/0"},
	{"stdout", "/proc/self/fd/1"},
	{"stderr", "/proc/self/fd/2"},
	{"ptmx", "pts/ptmx"},
}

// makeDev fills a new tmpfs and then attaches it as /dev. Nothing that the
// image has there is ever seen or followed.
func (s *start) makeDev(attrs uint64, options []string, why string) {
	dev := s.Filesystem("tmpfs", "dev", options, uintptr(attrs|unix.MOUNT_ATTR_NOSUID), why)
	s.Mkdirat(program.Cwd(), stagingDev, 0o755).Because(why)
	s.MoveMountTo(dev.Result(), program.Cwd(), stagingDev).Because(why)
	for _, name := range devices {
		why := fmt.Sprintf("make the device %q", "/dev/"+name)
		s.Mkfileat(dev.Result(), name, 0o666).Because(why)
		node := s.OpenTree(program.Cwd(), "/dev/"+name, false).Because(why)
		s.MoveMountTo(node.Result(), dev.Result(), name).Because(why)
	}
	for _, l := range devLinks {
		s.Symlinkat(l.target, dev.Result(), l.name).Because(fmt.Sprintf("make the link %q", "/dev/"+l.name))
	}
	for _, name := range []string{"pts", "shm", "mqueue"} {
		s.Mkdirat(dev.Result(), name, 0o755).Because(fmt.Sprintf("make the folder %q", "/dev/"+name))
	}
	if s.res.Terminal {
		s.Mkfileat(dev.Result(), "console", 0o600).Because(`make "/dev/console"`)
	}
	s.MountSetattr(dev.Result(), unix.MOUNT_ATTR_NOSUID, true).Because("rule out set-user-id programs in /dev")
	s.MoveMount(dev.Result(), s.mountPoint("/dev", true, why).Result()).Because(why)
}
