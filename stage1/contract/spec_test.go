package contract

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestSpecSurvivesItsFile(t *testing.T) {
	umask := uint32(0o22)
	want := &specs.Spec{
		Version: specs.Version,
		Process: &specs.Process{
			Args: []string{"a"}, Cwd: "/", Env: []string{"A=b"}, NoNewPrivileges: true,
			User:         specs.User{UID: 1, GID: 2, Umask: &umask, AdditionalGids: []uint32{3}},
			Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}},
			Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}},
		},
		Root:   &specs.Root{Path: "rootfs", Readonly: true},
		Mounts: []specs.Mount{{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid"}}},
		Linux: &specs.Linux{
			Namespaces:  []specs.LinuxNamespace{{Type: specs.PIDNamespace}},
			MaskedPaths: []string{"/proc/kcore"}, ReadonlyPaths: []string{"/proc/sys"},
		},
	}
	b, err := EncodeSpec(want)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	app := filepath.Join(dir, AppsDir, "x")
	if err := os.MkdirAll(app, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(app, SpecFile), b, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := LoadSpec(dir, "x")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("LoadSpec() = %+v, want %+v", got, want)
	}
}

func TestEncodeSpecLosesNothing(t *testing.T) {
	for name, s := range map[string]*specs.Spec{
		"hooks":       {Hooks: &specs.Hooks{}},
		"annotations": {Annotations: map[string]string{"a": "b"}},
		"domain":      {Domainname: "x"},
		"vm":          {VM: &specs.VM{}},
		"seccomp":     {Linux: &specs.Linux{Seccomp: &specs.LinuxSeccomp{}}},
		"cgroup":      {Linux: &specs.Linux{CgroupsPath: "/x"}},
		"sysctl":      {Linux: &specs.Linux{Sysctl: map[string]string{"a": "b"}}},
		"propagation": {Linux: &specs.Linux{RootfsPropagation: "shared"}},
	} {
		if b, err := EncodeSpec(s); err == nil {
			t.Errorf("%s: EncodeSpec() = %s, want an error", name, b)
		}
	}
}
