package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	contract.FeatureSeccomp, contract.FeatureCaps, contract.FeatureTerminal, contract.FeatureVolumes,
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

// refuse compiles a spec and wants an error with all the words in it.
func refuse(t *testing.T, s Spec, words ...string) error {
	t.Helper()
	_, err := Compile(s, facts)
	if err == nil {
		t.Errorf("Compile() succeeded, want an error with %q", words)
		return nil
	}
	if text := err.Error(); strings.ContainsAny(text, "\n\r\x00\x1b") {
		t.Errorf("error has control characters: %q", text)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not mention %q", err, w)
		}
	}
	return err
}

func TestBadSpecsAreRefused(t *testing.T) {
	second := time.Second
	negative := -second
	tests := []struct {
		name  string
		spec  func(*Spec, *App)
		words []string
	}{
		{"no apps", func(s *Spec, _ *App) { s.Apps = nil }, []string{"at least one"}},
		{"interactive with two", func(s *Spec, a *App) { s.Interactive = true; s.Apps = append(s.Apps, *a) }, []string{"--interactive"}},
		{"two names", func(s *Spec, a *App) { a.Name = "x"; s.Apps = append(s.Apps, *a) }, []string{"two apps", `"x"`}},
		{"upper-case name", func(_ *Spec, a *App) { a.Name = "Web" }, []string{`"Web"`}},
		{"name with a slash", func(_ *Spec, a *App) { a.Name = "../x" }, []string{`"../x"`}},
		{"long name", func(_ *Spec, a *App) { a.Name = strings.Repeat("a", 65) }, []string{"app name"}},
		{"hostname with a newline", func(s *Spec, _ *App) { s.Hostname = "a\nb" }, []string{"hostname"}},
		{"hostname too long", func(s *Spec, _ *App) { s.Hostname = strings.Repeat("a.", 33) }, []string{"limit is 64"}},
		{"hostname with a dash", func(s *Spec, _ *App) { s.Hostname = "-a" }, []string{"hostname"}},
		{"no command", func(_ *Spec, a *App) { a.Image = busybox(func(c *image.Config) { c.Cmd = nil }) }, []string{"no command"}},
		{"empty command", func(_ *Spec, a *App) { a.Args = []string{""} }, []string{"empty"}},
		{"NUL in an argument", func(_ *Spec, a *App) { a.Args = []string{"a", "b\x00"} }, []string{"NUL"}},
		{"relative PATH", func(_ *Spec, a *App) { a.Environment = []string{"PATH=bin:"} }, []string{"PATH"}},
		{"long PATH", func(_ *Spec, a *App) {
			a.Environment = []string{"PATH=" + manyDirs(100)}
		}, []string{"limit is 64"}},
		{"variable without =", func(_ *Spec, a *App) { a.Environment = []string{"X"} }, []string{"environment", `"X"`}},
		{"variable without a name", func(_ *Spec, a *App) { a.Environment = []string{"=x"} }, []string{"environment"}},
		{"newline in a name", func(_ *Spec, a *App) { a.Environment = []string{"A\nB=x"} }, []string{"variable name"}},
		{"NUL in a value", func(_ *Spec, a *App) { a.Environment = []string{"A=\x00"} }, []string{"NUL"}},
		{"latin-1 value", func(_ *Spec, a *App) { a.Environment = []string{"A=\xe9"} }, []string{"UTF-8"}},
		{"latin-1 argument", func(_ *Spec, a *App) { a.Args = []string{"\xe9"} }, []string{"UTF-8"}},
		{"image variable", func(_ *Spec, a *App) {
			a.Image = busybox(func(c *image.Config) { c.Env = []string{"\x1b[31m"} })
		}, []string{"environment of the image"}},
		{"relative working dir", func(_ *Spec, a *App) { a.WorkingDir = "x" }, []string{"absolute"}},
		{"stop signal", func(_ *Spec, a *App) { a.StopSignal = "SIGFOO" }, []string{`"SIGFOO"`}},
		{"negative timeout", func(_ *Spec, a *App) { a.StopTimeout = &negative }, []string{"negative"}},
		{"seccomp profile", func(_ *Spec, a *App) { a.Seccomp = "../x" }, []string{"seccomp", `"../x"`}},
		{"capability", func(_ *Spec, a *App) { a.CapsRetain = []string{"CAP_FLY"} }, []string{`"CAP_FLY"`}},
		{"both capability lists", func(_ *Spec, a *App) { a.CapsRetain, a.CapsRemove = []string{"kill"}, []string{"kill"} }, []string{"exclude"}},
		{"little memory", func(_ *Spec, a *App) { a.Limits.MemoryBytes = 16 }, []string{"--memory", "4096"}},
		{"little cpu", func(_ *Spec, a *App) { a.Limits.CPUMillis = 1 }, []string{"--cpu"}},
		{"many shares", func(_ *Spec, a *App) { a.Limits.CPUShares = 1 << 20 }, []string{"--cpu-shares"}},
		{"negative pids", func(_ *Spec, a *App) { a.Limits.Pids = -1 }, []string{"negative"}},
		{"stdin from a file", func(_ *Spec, a *App) { a.Stdin = contract.Stream{Kind: contract.StreamFile, Path: "/x"} }, []string{"--stdin"}},
		{"relative stream", func(_ *Spec, a *App) { a.Stdout = contract.Stream{Kind: contract.StreamFile, Path: "x"} }, []string{"absolute"}},
		{"volume twice", func(s *Spec, a *App) {
			s.Volumes = []Volume{{Name: "v"}, {Name: "v"}}
			a.Mounts = []Mount{{Volume: "v", Target: "/x"}}
		}, []string{"two volumes"}},
		{"volume mounted nowhere", func(s *Spec, _ *App) { s.Volumes = []Volume{{Name: "v"}} }, []string{`"v"`, "nowhere"}},
		{"mount of no volume", func(_ *Spec, a *App) { a.Mounts = []Mount{{Volume: "v", Target: "/x"}} }, []string{`no volume "v"`}},
		{"volume name", func(s *Spec, a *App) {
			s.Volumes = []Volume{{Name: "../v"}}
			a.Mounts = []Mount{{Volume: "../v", Target: "/x"}}
		}, []string{"volume name"}},
		{"two mounts of a target", func(_ *Spec, a *App) {
			a.Mounts = []Mount{{Source: "/a", Target: "/x"}, {Source: "/b", Target: "/x/../x/"}}
		}, []string{"two mounts", `"/x"`}},
		{"tmpfs option", func(_ *Spec, a *App) { a.Tmpfs = []Tmpfs{{Target: "/x", Options: []string{"dev"}}} }, []string{`"dev"`}},
		{"tmpfs size", func(_ *Spec, a *App) { a.Tmpfs = []Tmpfs{{Target: "/x", Options: []string{"size=1,mode=0"}}} }, []string{"number"}},
		{"many image volumes", func(_ *Spec, a *App) {
			a.Image = busybox(func(c *image.Config) { c.Volumes = strings.Split(manyDirs(10000), ":") })
		}, []string{"10000 volumes"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { refuse(t, spec(tt.spec), tt.words...) })
	}
}

func manyDirs(n int) string {
	var dirs []string
	for i := range n {
		dirs = append(dirs, fmt.Sprintf("/d%d", i))
	}
	return strings.Join(dirs, ":")
}

func TestTargetsOfMounts(t *testing.T) {
	for target, want := range map[string]string{ // "" = refused
		"/x": "/x", "/x/": "/x", "/a/../b": "/b", "/../../canary": "/canary", "/dev/shm": "/dev/shm", "/dev/log": "/dev/log",
		"": "", "x": "", "/": "", "/..": "", "/proc": "", "/proc/self/attr": "", "/x/../proc/1": "", "/sys": "",
		"/sys/fs/cgroup": "", "/dev": "", "/dev/pts/0": "", "/dev/mqueue": "", "/a\nb": "", "/a\x00": "", "/a\x1b[m": "",
		"/procedure": "/procedure", "/system": "/system",
		"/" + strings.Repeat("a", 5000): "",
	} {
		got, err := checkTarget(target)
		if (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("checkTarget(%.40q) = %q, %v, want %q", target, got, err, want)
		}
	}
}

func TestWorkingDirectories(t *testing.T) {
	for dir, want := range map[string]string{ // "" = refused
		"/": "/", "/srv/": "/srv", "/a/../b": "/b", "/processes": "/processes",
		"/proc": "", "/proc/": "", "//proc/self/fd/7": "", "/proc/self/fd/9": "", "/proc/1/fd/3": "",
		"/proc/thread-self/fd/4": "", "/x/../proc/self/cwd": "", "/./proc/self/root": "", "relative": "", "../x": "",
		"/a\x00b": "", "/" + strings.Repeat("a", 5000): "",
	} {
		got, err := CheckDir(dir)
		if (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("CheckDir(%.40q) = %q, %v, want %q", dir, got, err, want)
		}
	}
}

// The hint of each refusal for want of a feature is worth nothing without it.
func TestFlyRefusesWhatItCannotDo(t *testing.T) {
	for name, change := range map[string]func(*Spec, *App){
		"two apps":      func(s *Spec, a *App) { s.Apps = append(s.Apps, *a) },
		"private users": func(s *Spec, _ *App) { s.User = contract.Private },
		"no network":    func(s *Spec, _ *App) { s.Net = contract.NetNone },
		"hostname":      func(s *Spec, _ *App) { s.Hostname = "x" },
		"interactive":   func(s *Spec, _ *App) { s.Interactive = true },
		"capabilities":  func(_ *Spec, a *App) { a.CapsRemove = []string{"kill"} },
		"seccomp":       func(_ *Spec, a *App) { a.Seccomp = SeccompDefault },
		"init":          func(_ *Spec, a *App) { a.Init = true },
		"readonly root": func(_ *Spec, a *App) { a.ReadOnlyRoot = true },
	} {
		t.Run(name, func(t *testing.T) {
			s := spec(change)
			s.Stage1.Name, s.Features = "fly", fly
			var unsupported *UnsupportedError
			if err := refuse(t, s, "fly"); !errors.As(err, &unsupported) || unsupported.Hint() == "" {
				t.Errorf("error = %v, want an UnsupportedError with a hint", err)
			}
		})
	}
}
