package plan

import (
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/contract"
)

func TestCapabilitiesAreAddedAndDropped(t *testing.T) {
	for _, tt := range []struct {
		name      string
		add, drop []string
		want      string
		weak      bool
	}{
		{"drop all, add one", []string{"net_bind_service"}, []string{"all"}, "CAP_NET_BIND_SERVICE", true},
		{"drop all", nil, []string{"ALL"}, "", false},
		{"drop one", nil, []string{"CAP_CHOWN"}, "CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID", false},
		{"drop what is not there", nil, []string{"NET_RAW"}, strings.Join(defaultCaps(), " "), false},
		{"add what is there", []string{"CHOWN"}, nil, strings.Join(defaultCaps(), " "), false},
		{"add all", []string{"all"}, nil, strings.Join(knownCaps(), " "), true},
	} {
		files, err := Compile(spec(func(_ *Spec, a *App) { a.CapsAdd, a.CapsDrop = tt.add, tt.drop }), facts)
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		caps := files.Apps[0].Spec.Process.Capabilities
		if got := strings.Join(caps.Bounding, " "); got != tt.want || !slices.Equal(caps.Bounding, caps.Effective) {
			t.Errorf("%s: capabilities %s, want %s", tt.name, got, tt.want)
		}
		if weak := len(files.Pod.Weakenings) > 0; weak != tt.weak {
			t.Errorf("%s: weakenings %q", tt.name, files.Pod.Weakenings)
		}
	}
}

func TestUlimitsReplaceWhatRktSets(t *testing.T) {
	files, err := Compile(spec(func(_ *Spec, a *App) {
		a.Ulimits = []Ulimit{{"core", Unlimited, Unlimited}, {"nproc", 5, 6}}
		mask := uint32(0o077)
		a.Umask, a.ShmBytes = &mask, 1<<20
	}), facts)
	if err != nil {
		t.Fatal(err)
	}
	s := files.Apps[0].Spec
	for _, want := range []specs.POSIXRlimit{{Type: "RLIMIT_CORE", Soft: Unlimited, Hard: Unlimited}, {Type: "RLIMIT_NPROC", Soft: 5, Hard: 6}} {
		if n := len(slices.DeleteFunc(slices.Clone(s.Process.Rlimits), func(l specs.POSIXRlimit) bool { return l.Type != want.Type })); n != 1 || !slices.Contains(s.Process.Rlimits, want) {
			t.Errorf("limits are %v, want %v once", s.Process.Rlimits, want)
		}
	}
	if *s.Process.User.Umask != 0o077 {
		t.Errorf("umask is %o", *s.Process.User.Umask)
	}
	if !slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool {
		return m.Destination == "/dev/shm" && slices.Contains(m.Options, "size=1048576")
	}) {
		t.Error("/dev/shm has another size")
	}
}

func TestSysctlsAreThoseOfThePodsNamespaces(t *testing.T) {
	files, err := Compile(spec(func(s *Spec, _ *App) {
		s.Sysctls = []Sysctl{{"net.ipv4.ip_forward", "1"}, {"kernel/shmmax", "1000"}, {"fs.mqueue.msg_max", "5"}}
	}), facts)
	if err != nil {
		t.Fatal(err)
	}
	want := []contract.Sysctl{{Path: "net/ipv4/ip_forward", Value: "1"}, {Path: "kernel/shmmax", Value: "1000"}, {Path: "fs/mqueue/msg_max", Value: "5"}}
	if !slices.Equal(files.Pod.Sysctls, want) {
		t.Errorf("sysctls are %v, want %v", files.Pod.Sysctls, want)
	}
}

func TestSettingsThatAreRefused(t *testing.T) {
	for want, change := range map[string]func(*Spec, *App){
		"exclude":               func(_ *Spec, a *App) { a.CapsAdd, a.CapsRetain = []string{"KILL"}, []string{} },
		"--cap-drop: unknown":   func(_ *Spec, a *App) { a.CapsDrop = []string{"NOPE"} },
		"it is the host's":      func(s *Spec, _ *App) { s.Sysctls = []Sysctl{{"kernel.core_pattern", "|/bin/sh"}} },
		"it would be the host":  func(s *Spec, _ *App) { s.Net, s.Sysctls = contract.NetHost, []Sysctl{{"net.ipv4.ip_forward", "1"}} },
		"not the name of":       func(s *Spec, _ *App) { s.Sysctls = []Sysctl{{"net.ipv4...kernel.core_pattern", "x"}} },
		"no parameter's":        func(s *Spec, _ *App) { s.Sysctls = []Sysctl{{"net.ipv4.ip_forward", "1\n2"}} },
		"given twice":           func(s *Spec, _ *App) { s.Sysctls = []Sysctl{{"net.a", "1"}, {"net/a", "1"}} },
		"unknown resource":      func(_ *Spec, a *App) { a.Ulimits = []Ulimit{{"files", 1, 1}} },
		"above the hard limit":  func(_ *Spec, a *App) { a.Ulimits = []Ulimit{{"nofile", 2, 1}} },
		"--umask":               func(_ *Spec, a *App) { mask := uint32(0o1000); a.Umask = &mask },
		"is not a name":         func(_ *Spec, a *App) { a.Labels = map[string]string{"a b": ""} },
		"limit is 65536":        func(s *Spec, _ *App) { s.Annotations = map[string]string{"a": strings.Repeat("x", maxLabelSize)} },
		"it lacks the feature":  func(s *Spec, _ *App) { s.Features, s.Sysctls = fly, []Sysctl{{"net.a", "1"}} },
		"--shm-size: it lacks ": func(s *Spec, a *App) { s.Features, a.ShmBytes = fly, 1<<20 },
	} {
		_, err := Compile(spec(change), facts)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}
