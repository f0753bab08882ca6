package quadlet

import (
	"errors"
	"fmt"
	"path"
	"strings"
)

// bind mounts a path of the host.
func (a *app) bind(source, target string, readOnly bool) error {
	if strings.Contains(source, ":") || strings.Contains(target, ":") {
		return fmt.Errorf("a colon in %q or %q cannot be told from a separator", source, target)
	}
	value := source + ":" + target
	if readOnly {
		value += ":ro"
	}
	if err := a.target(target); err != nil {
		return err
	}
	a.flag("volume", value)
	a.run.mountsFor(source)
	return nil
}

// target notes where something is mounted; twice is a mistake.
func (a *app) target(target string) error {
	if !strings.HasPrefix(target, "/") && !strings.HasPrefix(target, "%") {
		return fmt.Errorf("%q is not an absolute path in the app", target)
	}
	clean := path.Clean(target)
	if a.targets[clean] {
		return fmt.Errorf("two mounts have the target %q", clean)
	}
	a.targets[clean] = true
	return nil
}

// addVolume carries out Volume=[SOURCE:]TARGET[:OPTIONS].
func (a *app) addVolume(e Entry) error {
	f := strings.Split(e.Value, ":")
	switch {
	case len(f) == 1:
		return a.empty(f[0])
	case len(f) > 3:
		return fmt.Errorf("%q is not [SOURCE:]TARGET[:OPTIONS]", e.Value)
	}
	options := ""
	if len(f) == 3 {
		options = f[2]
	}
	readOnly, err := volumeOptions(e, options)
	if err != nil {
		return err
	}
	return a.mountFrom(e, f[0], f[1], readOnly)
}

// empty gives the app a volume that goes with the pod.
func (a *app) empty(target string) error {
	if err := a.target(target); err != nil {
		return err
	}
	name := fmt.Sprintf("anonymous-%d", len(a.run.flags))
	a.run.flag("volume", name+",kind=empty")
	a.flag("mount", "volume="+name+",target="+target)
	return nil
}

// mountFrom mounts what source means: a .volume file, a path or the name of a
// volume, which is made if it is not there.
func (a *app) mountFrom(e Entry, source, target string, readOnly bool) error {
	c := a.run.c
	if kind, ok := KindOf(source); ok && kind == kindVolume {
		s, err := c.needs(e, source, kindVolume)
		if err != nil {
			return err
		}
		name, err := volumeName(s)
		if err != nil {
			return err
		}
		a.run.want("Requires", unitOf(s))
		return a.bind(c.volumePath(name), target, readOnly)
	}
	if strings.HasPrefix(source, "/") || strings.HasPrefix(source, ".") || strings.HasPrefix(source, "%") {
		p, err := absolute(e.Path, source)
		if err != nil {
			return err
		}
		return a.bind(p, target, readOnly)
	}
	if err := c.volumeFor(a, source); err != nil {
		return err
	}
	return a.bind(c.volumePath(source), target, readOnly)
}

// volumeOptions reads the options of a mount. Those that say what rkt does
// anyway are accepted; SELinux labels, for which podman relabels files, are not
// given to apps, which can therefore read them.
func volumeOptions(e Entry, options string) (readOnly bool, err error) {
	for o := range strings.SplitSeq(options, ",") {
		switch o {
		case "ro":
			readOnly = true
		case "", "rw", "z", "Z", "private", "rprivate", "rbind", "nosuid", "nodev", "nocopy", "exec", "idmap":
		case "U":
			return false, e.fail("%s=: option U is not supported: nothing is chowned; who owns a file on disk owns it inside", e.Key)
		default:
			return false, e.fail("%s=: option %s is not supported", e.Key, o)
		}
	}
	return readOnly, nil
}

// addTmpfs carries out Tmpfs=TARGET[:OPTIONS].
func (a *app) addTmpfs(e Entry) error {
	target, options, _ := strings.Cut(e.Value, ":")
	return a.tmpfs(e, target, options)
}

func (a *app) tmpfs(e Entry, target, options string) error {
	if err := a.target(target); err != nil {
		return err
	}
	var kept []string
	for o := range strings.SplitSeq(options, ",") {
		key, _, _ := strings.Cut(o, "=")
		switch key {
		case "size", "mode", "uid", "gid", "nr_inodes", "ro", "exec", "noexec":
			kept = append(kept, o)
		case "", "rw", "nosuid", "nodev", "notmpcopyup":
		default:
			return e.fail("%s=: option %s is not supported", e.Key, o)
		}
	}
	if len(kept) > 0 {
		target += ":" + strings.Join(kept, ",")
	}
	a.flag("tmpfs", target)
	return nil
}

// addMount carries out Mount=type=TYPE,FIELD=VALUE,...
func (a *app) addMount(e Entry) error {
	kind, source, target := "volume", "", ""
	var options []string
	for field := range strings.SplitSeq(e.Value, ",") {
		key, value, has := strings.Cut(field, "=")
		switch key {
		case "type":
			kind = value
		case "source", "src":
			source = value
		case "destination", "dst", "target":
			target = value
		case "ro", "readonly":
			ro := true
			if has {
				var err error
				if ro, err = parseBool(value); err != nil {
					return err
				}
			}
			if ro {
				options = append(options, "ro")
			}
		case "tmpfs-size":
			options = append(options, "size="+value)
		case "tmpfs-mode":
			options = append(options, "mode="+value)
		case "bind-propagation":
			options = append(options, value)
		case "relabel": // see volumeOptions
		default:
			options = append(options, field)
		}
	}
	return a.mountOf(e, kind, source, target, strings.Join(options, ","))
}

func (a *app) mountOf(e Entry, kind, source, target, options string) error {
	if target == "" {
		return errors.New("there is no target=")
	}
	switch kind {
	case "tmpfs":
		return a.tmpfs(e, target, options)
	case "bind", "volume":
	default:
		return e.fail("%s=type=%s is not supported: known are bind, volume and tmpfs", e.Key, kind)
	}
	readOnly, err := volumeOptions(e, options)
	switch {
	case err != nil:
		return err
	case source == "" && kind == "volume":
		return a.empty(target)
	case source == "":
		return errors.New("there is no source=")
	}
	isPath := strings.ContainsAny(source[:1], "/.%")
	if isPath != (kind == "bind") {
		return fmt.Errorf("%q is not the source of a mount of type %s", source, kind)
	}
	return a.mountFrom(e, source, target, readOnly)
}
