package plan

import (
	"fmt"
	"path"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/contract"
)

// maxImageVolumes bounds the volumes that an image can ask for.
const maxImageVolumes = 64

// Volume is a volume of the pod.
type Volume struct {
	Name     string
	Source   string // absolute, on the host; "" = an empty volume
	ReadOnly bool
	// Flat leaves out what is mounted below the source.
	Flat bool
	// For an empty volume.
	Mode     uint32 // 0 = 0755
	UID, GID uint32
}

// Mount puts a volume, or a path of the host, into an app.
type Mount struct {
	Volume   string // name, or
	Source   string // absolute, on the host
	Target   string
	ReadOnly bool
}

// Tmpfs is a file system in memory, gone with the app.
type Tmpfs struct {
	Target  string
	Options []string // as of mount(8): size=, mode=, uid=, gid=, ro, exec
}

// EmptyVolume is a folder to make below contract.VolumesDir.
type EmptyVolume struct {
	Name     string
	Mode     uint32
	UID, GID uint32
}

// declareVolumes checks the volumes of the pod. One that no app mounts is a
// mistake that would otherwise be found out by the missing data.
func (c *compiler) declareVolumes() error {
	declared := make(map[string]bool, len(c.spec.Volumes))
	for _, v := range c.spec.Volumes {
		declared[v.Name] = true
	}
	used := make(map[string]bool)
	for _, a := range c.spec.Apps {
		for _, m := range a.Mounts {
			used[m.Volume] = true
			if m.Volume != "" && !declared[m.Volume] {
				return fmt.Errorf("mount: there is no volume %q; declare it with --volume=%s,kind=empty or kind=host", m.Volume, m.Volume)
			}
		}
	}
	c.volumes = make(map[string]Volume, len(c.spec.Volumes))
	for _, v := range c.spec.Volumes {
		if !ValidName(v.Name) {
			return fmt.Errorf("volume name %q: want lower-case letters, digits, dots, dashes and underscores", v.Name)
		}
		if _, twice := c.volumes[v.Name]; twice {
			return fmt.Errorf("two volumes have the name %q", v.Name)
		}
		if !used[v.Name] {
			return fmt.Errorf("volume %q is mounted nowhere; use --mount=volume=%s,target=PATH", v.Name, v.Name)
		}
		c.volumes[v.Name] = v
		if v.Source == "" {
			mode := v.Mode
			if mode == 0 {
				mode = 0o755
			}
			c.files.Volumes = append(c.files.Volumes, EmptyVolume{Name: v.Name, Mode: mode, UID: v.UID, GID: v.GID})
		}
	}
	return nil
}

// mounts are the mounts of an app in their order: what every app has, then what
// was asked for, parents before children.
func (c *compiler) mounts(a *App, name string) ([]specs.Mount, error) {
	wanted, err := c.wantedMounts(a)
	if err != nil {
		return nil, err
	}
	taken := make(map[string]bool, len(wanted))
	for _, m := range wanted {
		if taken[m.Destination] {
			return nil, fmt.Errorf("two mounts have the target %q", m.Destination)
		}
		taken[m.Destination] = true
	}
	wanted = append(append(wanted, c.etcFiles(a, taken)...), c.notifyMount(name)...)
	fromImage, err := c.imageVolumes(a, name, taken)
	if err != nil {
		return nil, err
	}
	wanted = append(wanted, fromImage...)
	slices.SortStableFunc(wanted, func(x, y specs.Mount) int {
		return strings.Count(x.Destination, "/") - strings.Count(y.Destination, "/")
	})
	system := slices.DeleteFunc(c.systemMounts(a), func(m specs.Mount) bool { return taken[m.Destination] })
	return append(system, wanted...), nil
}

// systemMounts are what programs expect to find. A sysfs shows the network
// namespace it was mounted in, so a pod on the host's network gets none.
func (c *compiler) systemMounts(a *App) []specs.Mount {
	if !c.has[contract.FeatureNamespaces] {
		return nil
	}
	shm := "size=65536k"
	if a.ShmBytes > 0 {
		shm = fmt.Sprintf("size=%d", a.ShmBytes)
	}
	mounts := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", shm}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
	}
	if c.files.Pod.Net.Mode == contract.NetHost {
		return mounts
	}
	return append(mounts,
		specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
		specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
	)
}

// wantedMounts are what the operator asked for.
func (c *compiler) wantedMounts(a *App) ([]specs.Mount, error) {
	var mounts []specs.Mount
	for _, m := range a.Mounts {
		target, err := checkTarget(m.Target)
		if err != nil {
			return nil, fmt.Errorf("mount: %w", err)
		}
		v := Volume{Source: m.Source}
		if m.Volume != "" {
			v = c.volumes[m.Volume]
		}
		v.ReadOnly = v.ReadOnly || m.ReadOnly
		mounts = append(mounts, c.bind(v, target))
	}
	for _, t := range a.Tmpfs {
		target, err := checkTarget(t.Target)
		if err != nil {
			return nil, fmt.Errorf("tmpfs: %w", err)
		}
		options, err := tmpfsOptions(t.Options)
		if err != nil {
			return nil, fmt.Errorf("tmpfs %q: %w", target, err)
		}
		mounts = append(mounts, specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs", Options: options})
	}
	return mounts, nil
}

// bind is the mount of a volume. Sources without a leading slash are relative to
// the pod's directory. With a user namespace the owners are mapped: who owns a
// file on disk owns it inside, and nothing is chowned.
func (c *compiler) bind(v Volume, target string) specs.Mount {
	source, kind, idmap := v.Source, "rbind", "ridmap"
	if source == "" {
		source, v.Flat = contract.VolumesDir+"/"+v.Name, true
	}
	if v.Flat {
		kind, idmap = "bind", "idmap"
	}
	options := []string{kind, "nosuid", "nodev"}
	if c.private() {
		options = append(options, idmap)
	}
	if v.ReadOnly {
		options = append(options, "ro")
	}
	return specs.Mount{Destination: target, Type: "bind", Source: source, Options: options}
}

// imageVolumes makes a volume of each path that the image wants one at and the
// operator has put nothing. It holds what the image has there, by its owners. A
// path that an app cannot have a mount at is left out.
func (c *compiler) imageVolumes(a *App, name string, taken map[string]bool) ([]specs.Mount, error) {
	paths := a.Image.Config.Volumes
	if len(paths) > maxImageVolumes {
		return nil, fmt.Errorf("the image declares %d volumes, limit is %d", len(paths), maxImageVolumes)
	}
	if !c.has[contract.FeatureVolumes] {
		return nil, nil
	}
	var mounts []specs.Mount
	for _, p := range paths {
		target, err := checkTarget(p)
		if err != nil {
			c.files.Notes = append(c.files.Notes, fmt.Sprintf("app %q: volume of the image is left out: %v", name, err))
			continue
		}
		if covered(target, taken) || within(target, "/dev") {
			continue
		}
		taken[target] = true
		mounts = append(mounts, specs.Mount{Destination: target, Type: contract.MountOwn, Source: contract.MountOwn, Options: []string{"nosuid", "nodev"}})
	}
	return mounts, nil
}

// covered says whether a mount is at the target or above it.
func covered(target string, taken map[string]bool) bool {
	for ; target != "/"; target = path.Dir(target) {
		if taken[target] {
			return true
		}
	}
	return false
}

// etcFiles are the files that rkt makes for the pod. Whoever mounts over one, or
// over all of /etc, has other plans.
func (c *compiler) etcFiles(a *App, taken map[string]bool) []specs.Mount {
	if taken["/etc"] {
		return nil
	}
	var mounts []specs.Mount
	for _, file := range []string{"hosts", "hostname", "resolv.conf"} {
		target := "/etc/" + file
		if taken[target] {
			continue
		}
		taken[target] = true
		m := c.bind(Volume{Source: contract.EtcDir + "/" + file, Flat: true, ReadOnly: a.ReadOnlyRoot}, target)
		m.Options = append(m.Options, "noexec")
		mounts = append(mounts, m)
	}
	return mounts
}

// checkTarget returns the clean form of a mount point. The file systems of the
// kernel and the device nodes are not for covering: what is read there, by the
// app and by rkt, must be the kernel's word.
func checkTarget(target string) (string, error) {
	clean := path.Clean(target)
	switch {
	case !path.IsAbs(target):
		return "", fmt.Errorf("target %q is not an absolute path", target)
	case len(target) > maxPath:
		return "", fmt.Errorf("target %.32q... has %d characters, limit is %d", target, len(target), maxPath)
	case strings.ContainsFunc(target, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", fmt.Errorf("target %q has a control character", target)
	case clean == "/":
		return "", fmt.Errorf("target %q is the root", target)
	case within(clean, "/proc"), within(clean, "/sys"), within(clean, "/dev/pts"), within(clean, "/dev/mqueue"), clean == "/dev":
		return "", fmt.Errorf("target %q belongs to the kernel", target)
	case within(clean, contract.NotifyPath), within(clean, contract.CredentialsPath):
		return "", fmt.Errorf("target %q is where the service manager is heard", target)
	}
	return clean, nil
}

// tmpfsOptions are the defaults of a tmpfs with the operator's changes.
func tmpfsOptions(options []string) ([]string, error) {
	out := []string{"nosuid", "nodev"}
	exec, mode := "noexec", "mode=1777"
	for _, o := range options {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "exec", "noexec":
			exec = key
		case "mode":
			mode = o
		case "size", "nr_inodes", "uid", "gid":
			out = append(out, o)
		case "ro":
			out = append(out, o)
		case "rw", "nosuid", "nodev":
		default:
			return nil, fmt.Errorf("unknown option %q, known are size, mode, uid, gid, nr_inodes, ro, exec", o)
		}
		switch key {
		case "mode", "size", "nr_inodes", "uid", "gid":
			if !isQuantity(value) {
				return nil, fmt.Errorf("option %q needs a number", o)
			}
		}
	}
	return append(out, exec, mode), nil
}

// isQuantity accepts digits with one of the units or the percent of tmpfs(5).
func isQuantity(s string) bool {
	s = strings.TrimRight(s, "kKmMgG%")
	return s != "" && strings.Trim(s, "0123456789") == ""
}
