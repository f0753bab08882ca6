package plan

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"rkt/image"
	"rkt/stage1/contract"
)

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
