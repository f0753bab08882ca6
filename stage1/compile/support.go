package compile

import (
	"errors"
	"fmt"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// checkSupported refuses what config.json asks for and nothing here performs:
// a setting that is not understood must not be dropped.
func checkSupported(s *specs.Spec) error {
	if s.Process == nil {
		return errors.New("config.json has no process")
	}
	p := s.Process
	linux := s.Linux
	if linux == nil {
		linux = &specs.Linux{}
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"hooks", s.Hooks != nil},
		{"process.apparmorProfile", p.ApparmorProfile != ""},
		{"process.selinuxLabel", p.SelinuxLabel != ""},
		{"process.scheduler", p.Scheduler != nil},
		{"process.ioPriority", p.IOPriority != nil},
		{"process.execCPUAffinity", p.ExecCPUAffinity != nil},
		{"linux.sysctl", len(linux.Sysctl) > 0},
		{"linux.devices", len(linux.Devices) > 0},
		{"linux.netDevices", len(linux.NetDevices) > 0},
		{"linux.seccomp", linux.Seccomp != nil},
		{"linux.rootfsPropagation", linux.RootfsPropagation != ""},
		{"linux.mountLabel", linux.MountLabel != ""},
		{"linux.intelRdt", linux.IntelRdt != nil},
		{"linux.memoryPolicy", linux.MemoryPolicy != nil},
		{"linux.personality", linux.Personality != nil},
		{"linux.timeOffsets", len(linux.TimeOffsets) > 0},
	} {
		if f.set {
			return fmt.Errorf("%s in config.json is not supported", f.name)
		}
	}
	for _, m := range s.Mounts {
		if len(m.UIDMappings) > 0 || len(m.GIDMappings) > 0 {
			return fmt.Errorf("mount %q: id mappings of a mount are not supported", m.Destination)
		}
	}
	return checkStrings(p.Args, p.Env, []string{p.Cwd})
}
