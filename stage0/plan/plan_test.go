package plan

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"rkt/cas"
	"rkt/image"
	"rkt/image/layer"
	"rkt/stage1/contract"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// accounts is what an image declares.
type accounts struct {
	users  []layer.User
	groups []layer.Group
	err    error
}

func (a accounts) User(name string) (layer.User, bool, error) {
	for _, u := range a.users {
		if u.Name == name {
			return u, true, nil
		}
	}
	return layer.User{}, false, a.err
}

func (a accounts) UID(uid uint32) (layer.User, bool, error) {
	for _, u := range a.users {
		if u.UID == uid {
			return u, true, nil
		}
	}
	return layer.User{}, false, a.err
}

func (a accounts) Group(name string) (layer.Group, bool, error) {
	for _, g := range a.groups {
		if g.Name == name {
			return g, true, nil
		}
	}
	return layer.Group{}, false, a.err
}

func (a accounts) GroupsOf(user string) ([]uint32, error) {
	var gids []uint32
	for _, g := range a.groups {
		if slices.Contains(g.Members, user) {
			gids = append(gids, g.GID)
		}
	}
	return gids, a.err
}

// debian are the accounts of the images in these tests.
var debian = accounts{
	users: []layer.User{
		{Name: "root", UID: 0, GID: 0, Home: "/root"},
		{Name: "www-data", UID: 33, GID: 33, Home: "/var/www"},
		{Name: "redis", UID: 999, GID: 999, Home: "/data"},
		{Name: "huge", UID: 100000, GID: 100000, Home: "/"},
		{Name: "hugegroup", UID: 5, GID: 100000, Home: "/"},
		{Name: "1000000000000", UID: 0, GID: 0, Home: "/"},
		{Name: "nobody", UID: 0, GID: 0, Home: "/"},
	},
	groups: []layer.Group{
		{Name: "root", GID: 0}, {Name: "disk", GID: 6, Members: []string{"redis", "root"}},
		{Name: "www-data", GID: 33}, {Name: "ssl-cert", GID: 101, Members: []string{"redis"}},
	},
}

// native are the features of the native stage1.
var native = []string{
	contract.FeaturePods, contract.FeatureUserNS, contract.FeatureNamespaces, contract.FeatureCgroups,
	contract.FeatureSeccomp, contract.FeatureCaps, contract.FeatureTerminal, contract.FeatureVolumes, contract.FeatureUnit,
}

// fly are those of a stage1 that only changes the root.
var fly = []string{contract.FeatureCgroups, contract.FeatureVolumes}

var facts = Facts{
	MaxOpenFiles: 20000, PidsController: true, LowestPort: 1024,
	ThermalThrottle: []string{"/sys/devices/system/cpu/cpu0/thermal_throttle"},
	Seccomp:         []byte("12345678"),
}

func busybox(change func(*image.Config)) *image.Image {
	cfg := &image.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin:/usr/bin"}}
	if change != nil {
		change(cfg)
	}
	return &image.Image{
		Record: image.Record{ID: cas.Of([]byte("config")), Manifest: cas.Of([]byte("manifest"))},
		Config: cfg,
	}
}

// spec is a pod of one app from busybox.
func spec(change func(*Spec, *App)) Spec {
	s := Spec{
		UUID: "3f2a9c01-0000-4000-8000-000000000001", CreatedNanos: 1700000000000000000,
		Stage1: contract.Stage1{Name: "native", Dir: "/usr/libexec/rkt/stage1/native"}, Features: native,
		Apps: []App{{
			Image: busybox(nil), Reference: "docker://docker.io/library/busybox:latest", Accounts: debian,
			Layers: []cas.Digest{cas.Of([]byte("top")), cas.Of([]byte("bottom"))},
		}},
	}
	if change != nil {
		change(&s, &s.Apps[0])
	}
	return s
}

func TestGolden(t *testing.T) {
	tests := map[string]Spec{
		"default": spec(nil),
		"options": spec(func(s *Spec, a *App) {
			grace := 3 * time.Second
			s.Name, s.Hostname, s.Remove = "web", "web.example", true
			s.Environment = []string{"A=pod", "B=pod"}
			s.Volumes = []Volume{
				{Name: "data", Mode: 0o1777, UID: 33, GID: 33},
				{Name: "conf", Source: "/srv/conf", ReadOnly: true, Flat: true},
			}
			a.Image = busybox(func(c *image.Config) {
				c.Entrypoint, c.Cmd = []string{"/entry"}, []string{"default"}
				c.Env = []string{"PATH=/opt/bin:/bin", "A=image", "C=image"}
				c.User, c.WorkingDir, c.StopSignal = "redis", "/data/", "SIGQUIT"
				c.Volumes = []string{"/data", "/var/lib/x"}
				c.Labels = map[string]string{"title": "x"}
			})
			a.Name, a.Args = "first", []string{"--flag", "x y"}
			a.Groups = []uint32{7, 5, 7}
			a.Environment = []string{"A=app"}
			a.Mounts = []Mount{
				{Volume: "data", Target: "/data"}, {Volume: "conf", Target: "/etc/conf"},
				{Source: "/srv/other", Target: "/a/b/c", ReadOnly: true},
			}
			a.Tmpfs = []Tmpfs{{Target: "/tmp", Options: []string{"size=64m", "exec"}}}
			a.ReadOnlyRoot, a.Init = true, true
			a.Limits = contract.Limits{MemoryBytes: 1 << 28, CPUMillis: 500, CPUShares: 512, Pids: 100}
			a.Restart = contract.Restart{Policy: contract.RestartOnFailure, Max: 3}
			a.StopTimeout = &grace
			a.Stdout = contract.Stream{Kind: contract.StreamFile, Path: "/var/log/x", Format: "cri", Max: 1 << 20}
		}),
		"weak": spec(func(s *Spec, a *App) {
			s.User, s.Net, s.Weakenings = contract.Shared, contract.NetHost, []string{"--insecure-options=image"}
			a.Seccomp, a.AllowPrivilegeEscalation = SeccompUnconfined, true
			a.CapsRetain = []string{"default", "net_bind_service"}
		}),
		"two": spec(func(s *Spec, a *App) {
			s.Apps = append(s.Apps, *a)
			s.Interactive = false
			s.Apps[1].Exec = "/bin/true"
		}),
		"interactive": spec(func(s *Spec, a *App) { s.Interactive = true }),
		"fly": spec(func(s *Spec, a *App) {
			s.Stage1, s.Features = contract.Stage1{Name: "fly", Dir: "/usr/libexec/rkt/stage1/fly"}, fly
		}),
	}
	for name, s := range tests {
		t.Run(name, func(t *testing.T) {
			files, err := Compile(s, facts)
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.MarshalIndent(files, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", name+".json")
			if *update {
				if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(append(got, '\n'), want) {
				t.Errorf("differs from %s; run go test -update and review the diff:\n%s", path, got)
			}
		})
	}
}

func TestCompileIsAFunctionOfItsInput(t *testing.T) {
	for _, s := range []Spec{spec(nil), spec(func(s *Spec, a *App) { s.Apps = append(s.Apps, *a, *a) })} {
		first, err := Compile(s, facts)
		if err != nil {
			t.Fatal(err)
		}
		second, err := Compile(s, facts)
		if err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(first)
		b, _ := json.Marshal(second)
		if !bytes.Equal(a, b) {
			t.Errorf("two plans of one spec differ:\n%s\n%s", a, b)
		}
	}
}

// What an image may say beyond the allow-list has no way into a plan: labels
// that other runtimes obey change nothing but the labels.
func TestLabelsOfTheImageSteerNothing(t *testing.T) {
	labels := map[string]string{}
	for _, prefix := range []string{
		"io.podman.annotations", "io.containerd", "containerd.io/restart", "io.kubernetes.cri-o", "run.oci",
		"com.docker", "org.systemd.property", "cdi.k8s.io", "appc.io", "rkt",
	} {
		for _, key := range []string{
			"privileged", "seccomp", "apparmor", "userns", "devices", "keep_original_groups", "handler", "mounts",
			"capabilities", "cgroup", "hooks", "net", "pid", "init", "autoremove", "volumes-from", "loguri", "policy",
		} {
			labels[prefix+"."+key] = "true"
			labels[prefix+"/"+key] = "/../../etc/shadow\n"
		}
	}
	plain, err := Compile(spec(nil), facts)
	if err != nil {
		t.Fatal(err)
	}
	labelled, err := Compile(spec(func(_ *Spec, a *App) {
		a.Image = busybox(func(c *image.Config) { c.Labels = labels })
	}), facts)
	if err != nil {
		t.Fatal(err)
	}
	if len(labelled.Apps[0].App.Image.Labels) != len(labels) {
		t.Error("labels are lost")
	}
	labelled.Apps[0].App.Image.Labels = nil
	a, _ := json.Marshal(plain)
	b, _ := json.Marshal(labelled)
	if !bytes.Equal(a, b) {
		t.Errorf("labels change the plan:\n%s\n%s", a, b)
	}
}
