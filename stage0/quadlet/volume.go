package quadlet

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// volumeFile is a .volume file that is being read.
type volumeFile struct {
	name  Entry
	flags []string
}

// volumePath is where the volume is. `rkt volume` makes it there.
func (c *compiler) volumePath(name string) string {
	return filepath.Join(literal(c.host.DataDir), VolumesDir, name)
}

// VolumesDir is the folder of the volumes in the data folder.
const VolumesDir = "volumes"

// volumeName is the name of the volume of a .volume file: the author's or that
// of the file. For those who depend on a template it has %i in it.
func volumeName(s *source) (string, error) {
	base := strings.TrimSuffix(s.Name, "."+kindVolume)
	prefix, instance, template := strings.Cut(base, "@")
	if e, ok := s.File.value("Volume", "VolumeName"); ok {
		name := e.Value
		if instance != "" {
			name = strings.NewReplacer("%%", "%%", "%i", instance, "%I", instance, "%p", prefix).Replace(name)
		}
		for _, spec := range []string{"%n", "%N", "%p", "%P", "%j", "%J"} {
			if strings.Contains(strings.ReplaceAll(name, "%%", ""), spec) {
				return "", e.fail("VolumeName=%s: %s is another name in the units that use the volume", e.Value, spec)
			}
		}
		return name, located(e, checkVolumeName(name))
	}
	switch {
	case !template:
		return base, checkVolumeName(base)
	case instance == "":
		return prefix + "-%i", checkVolumeName(prefix)
	}
	return prefix + "-" + instance, checkVolumeName(prefix + "-" + instance)
}

// checkVolumeName is the grammar of names of volumes, with specifiers.
func checkVolumeName(name string) error {
	for i, c := range []byte(name) {
		if !isAlphanumeric(c) && c != '%' && (i == 0 || strings.IndexByte("._-", c) < 0) {
			return fmt.Errorf("%q is not the name of a volume: want letters, digits, dots, dashes and underscores", name)
		}
	}
	return nil
}

// volumeFor makes the unit that makes a volume which no file describes.
func (c *compiler) volumeFor(a *app, name string) error {
	if err := checkVolumeName(name); err != nil || hasSpecifier(name) {
		return fmt.Errorf("%q is neither a path nor the name of a volume", name)
	}
	unit, made := c.volumes[name]
	if !made {
		unit = "rkt-volume-" + name
		u := c.newService(a.src, unit)
		u.unit = append(u.unit, "Description=Volume "+name)
		u.makeVolume(name, nil)
		if err := u.alone(); err != nil {
			return err
		}
		c.volumes[name] = unit
	}
	a.run.want("Requires", unit+".service")
	return nil
}

// makeVolume adds the service that makes a volume, or finds it made.
func (u *service) makeVolume(name string, flags []string) {
	u.set("Type", "oneshot")
	u.set("SyslogIdentifier", "%N")
	words := append([]string{"volume", "create"}, flags...)
	u.exec("ExecStart", nil, append(words, name)...)
}

// volume makes the unit of a .volume file.
func (c *compiler) volume(s *source) error {
	var f volumeFile
	if err := apply(&f, s.File, "Volume", volumeRules()); err != nil {
		return err
	}
	name, err := volumeName(s)
	if err != nil {
		return err
	}
	u := c.newService(s, s.service)
	u.makeVolume(name, f.flags)
	return u.finish()
}

// volumeRules are the keys of [Volume].
func volumeRules() []rule[*volumeFile] {
	rules := []rule[*volumeFile]{
		{key: "VolumeName", do: func(f *volumeFile, e Entry) error { f.name = e; return nil }},
		{key: "ServiceName", do: nothing[*volumeFile]},
		{key: "User", do: owner("uid")},
		{key: "Group", do: owner("gid")},
		{key: "Label", lists: true, do: func(f *volumeFile, e Entry) error {
			words, err := assignments(e)
			for _, w := range words {
				f.flags = append(f.flags, "--label="+w)
			}
			return err
		}},
		{key: "Copy", do: only[*volumeFile]("what the image has at the place of a volume is not copied into it", "false", "no", "0")},
		{key: "Driver", do: only[*volumeFile]("volumes are folders below rkt's data folder", "local")},
	}
	rules = append(rules, refused[*volumeFile]("a volume is a folder; mount a device with a unit of systemd and name its path", "Device", "Type", "Options")...)
	rules = append(rules, refused[*volumeFile]("a volume is a folder", "Image")...)
	rules = append(rules, refused[*volumeFile](noModules, "ContainersConfModule")...)
	return append(rules, refused[*volumeFile](noArguments, "PodmanArgs", "GlobalArgs")...)
}

// owner passes on who owns a volume: a number or "root". Other names are not
// known before the start.
func owner(flag string) func(*volumeFile, Entry) error {
	return func(f *volumeFile, e Entry) error {
		id := e.Value
		if id == "root" {
			id = "0"
		}
		if _, err := strconv.ParseUint(id, 10, 31); err != nil {
			return e.fail("%s=%s is not supported: want a number", e.Key, e.Value)
		}
		f.flags = append(f.flags, "--"+flag+"="+id)
		return nil
	}
}
