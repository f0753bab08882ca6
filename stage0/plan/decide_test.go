package plan

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"rkt/image"
	"rkt/stage1/contract"
)

func compileApp(t *testing.T, change func(*Spec, *App)) *AppFiles {
	t.Helper()
	files, err := Compile(spec(change), facts)
	if err != nil {
		t.Fatal(err)
	}
	return &files.Apps[0]
}

func TestSupplementaryGroupsAreOnlyThoseAskedFor(t *testing.T) {
	redis := func(_ *Spec, a *App) { a.User = "redis" }
	if got := compileApp(t, redis).Spec.Process.User.AdditionalGids; len(got) != 0 {
		t.Errorf("groups = %v, want none of the image's", got)
	}
	asked := func(_ *Spec, a *App) { a.User, a.Groups = "redis", []uint32{12, 7, 12} }
	if got := compileApp(t, asked).Spec.Process.User.AdditionalGids; !slices.Equal(got, []uint32{7, 12}) {
		t.Errorf("groups = %v, want 7 and 12", got)
	}
	for _, user := range []string{"redis", "999", "redis:www-data"} {
		merged := func(_ *Spec, a *App) { a.User, a.MergeGroups = user, true }
		if got := compileApp(t, merged).Spec.Process.User.AdditionalGids; !slices.Equal(got, []uint32{6, 101}) {
			t.Errorf("merged groups of %s = %v, want 6 and 101", user, got)
		}
	}
	refuse(t, spec(func(_ *Spec, a *App) { a.Groups = []uint32{70000} }), "70000")
}

func TestCommands(t *testing.T) {
	tests := []struct {
		name            string
		entrypoint, cmd []string
		exec            string
		args, want      []string
	}{
		{"cmd only", nil, []string{"sh"}, "", nil, []string{"sh"}},
		{"entrypoint and cmd", []string{"/e"}, []string{"d"}, "", nil, []string{"/e", "d"}},
		{"arguments replace cmd", []string{"/e"}, []string{"d"}, "", []string{"x"}, []string{"/e", "x"}},
		{"arguments are the command", nil, []string{"sh"}, "", []string{"ls", "-l"}, []string{"ls", "-l"}},
		{"exec replaces entrypoint and cmd", []string{"/e"}, []string{"d"}, "/bin/x", nil, []string{"/bin/x"}},
		{"exec with arguments", []string{"/e"}, []string{"d"}, "/bin/x", []string{"y"}, []string{"/bin/x", "y"}},
		{"empty arguments stay", nil, nil, "", []string{"echo", ""}, []string{"echo", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			app := compileApp(t, func(_ *Spec, a *App) {
				a.Image = busybox(func(c *image.Config) { c.Entrypoint, c.Cmd = tt.entrypoint, tt.cmd })
				a.Exec, a.Args = tt.exec, tt.args
			})
			if got := app.Spec.Process.Args; !slices.Equal(got, tt.want) {
				t.Errorf("args = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCandidates(t *testing.T) {
	tests := []struct {
		command string
		path    string
		want    []string
	}{
		{"/bin/x", "PATH=/a", []string{"/bin/x"}},
		{"./x", "PATH=/a", []string{"./x"}},
		{"a/x", "PATH=/a", []string{"a/x"}},
		{"x", "PATH=/a:/b/:/a", []string{"/a/x", "/b/x"}},
		{"x", "PATH=:.:bin:/a:", []string{"/a/x"}},
	}
	for _, tt := range tests {
		got, err := Candidates(tt.command, []string{tt.path})
		if err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("Candidates(%q, %q) = %q, %v, want %q", tt.command, tt.path, got, err, tt.want)
		}
	}
}

func TestEnvironmentPrecedence(t *testing.T) {
	app := compileApp(t, func(s *Spec, a *App) {
		a.Image = busybox(func(c *image.Config) { c.Env = []string{"A=1", "B=1", "C=1", "HOME=", "X=a=b\nc"} })
		s.Environment = []string{"B=2", "C=2"}
		a.Environment = []string{"C=3", "npm.config-x=y"}
		a.User = "redis"
	})
	want := []string{
		"A=1", "B=2", "C=3", "HOME=", "X=a=b\nc", "npm.config-x=y", "PATH=" + defaultPath, "container=oci", "HOSTNAME=rkt-3f2a9c01",
	}
	if got := app.Spec.Process.Env; !slices.Equal(got, want) {
		t.Errorf("env = %q, want %q", got, want)
	}
}

func TestStopSignals(t *testing.T) {
	for name, want := range map[string]int{ // 0 = refused
		"SIGTERM": 15, "TERM": 15, "term": 15, "9": 9, "SIGRTMIN": 34, "RTMIN+3": 37, "SIGRTMIN+3": 37, "SIGRTMAX-1": 63,
		"64": 64, "0": 0, "65": 0, "256": 0, "-9": 0, "SIG": 0, "SIGRTMIN-1": 0, "RTMAX+1": 0, "RTMIN3": 0, "SIGNOPE": 0, " 9": 0,
	} {
		got, err := parseSignal(name)
		if (err == nil) != (want != 0) || got != want {
			t.Errorf("parseSignal(%q) = %d, %v, want %d", name, got, err, want)
		}
	}
}

func TestCapabilities(t *testing.T) {
	tests := []struct {
		name      string
		change    func(*Spec, *App)
		bounding  []string
		effective bool // equals bounding; else empty
	}{
		{"root", func(*Spec, *App) {}, defaultCaps(), true},
		{"user", func(_ *Spec, a *App) { a.User = "redis" }, nil, false},
		{"root, removed", func(_ *Spec, a *App) { a.CapsRemove = []string{"CAP_CHOWN", "kill"} },
			[]string{"CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_SETGID", "CAP_SETUID"}, true},
		{"root, none", func(_ *Spec, a *App) { a.CapsRetain = []string{} }, nil, true},
		{"root, retained", func(_ *Spec, a *App) { a.CapsRetain = []string{"net_raw", "CHOWN", "chown"} }, []string{"CAP_CHOWN", "CAP_NET_RAW"}, true},
		{"user, retained", func(_ *Spec, a *App) { a.User, a.CapsRetain = "7", []string{"NET_RAW"} }, []string{"CAP_NET_RAW"}, false},
		{"user, escalation", func(_ *Spec, a *App) { a.User, a.AllowPrivilegeEscalation = "7", true }, defaultCaps(), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := compileApp(t, tt.change).Spec.Process.Capabilities
			want := []string{}
			if tt.effective {
				want = tt.bounding
			}
			if !slices.Equal(c.Bounding, tt.bounding) || !slices.Equal(c.Effective, want) || !slices.Equal(c.Permitted, want) {
				t.Errorf("capabilities = %+v, want bounding %q, effective %v", c, tt.bounding, tt.effective)
			}
			if len(c.Inheritable)+len(c.Ambient) != 0 {
				t.Errorf("inheritable and ambient are not empty: %+v", c)
			}
		})
	}
}

func TestWeakeningsAreRecorded(t *testing.T) {
	files, err := Compile(spec(func(s *Spec, a *App) {
		s.User, s.Net, s.Weakenings = contract.Shared, contract.NetHost, []string{"--insecure-options=image"}
		a.Seccomp, a.AllowPrivilegeEscalation, a.CapsRetain = SeccompUnconfined, true, []string{"SYS_ADMIN"}
	}), facts)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"--insecure-options=image", "--private-users=no", "--net=host", "busybox: --caps-retain=SYS_ADMIN",
		"busybox: --seccomp=unconfined", "busybox: --allow-privilege-escalation",
	}
	if got := files.Pod.Weakenings; !slices.Equal(got, want) {
		t.Errorf("weakenings = %q, want %q", got, want)
	}
	files, err = Compile(spec(func(_ *Spec, a *App) { a.CapsRetain = []string{"KILL"} }), facts)
	if err != nil || len(files.Pod.Weakenings) != 0 {
		t.Errorf("weakenings of a smaller set = %q, %v, want none", files.Pod.Weakenings, err)
	}
}

func TestLowPortsOnTheHostsNetwork(t *testing.T) {
	web := func(change func(*Spec, *App)) Spec {
		return spec(func(s *Spec, a *App) {
			s.Net = contract.NetHost
			a.Image = busybox(func(c *image.Config) {
				c.ExposedPorts = []image.Port{{First: 80, Last: 80, Protocol: "tcp"}, {First: 8080, Last: 8080, Protocol: "tcp"}}
			})
			if change != nil {
				change(s, a)
			}
		})
	}
	var low *LowPortError
	err := refuse(t, web(nil), "80")
	if !errors.As(err, &low) {
		t.Fatalf("error = %v, want a LowPortError", err)
	}
	for _, way := range []string{"ip_unprivileged_port_start=80", "--private-users=no", "NET_BIND_SERVICE"} {
		if !strings.Contains(low.Hint(), way) {
			t.Errorf("hint %q lacks %q", low.Hint(), way)
		}
	}
	refuse(t, web(func(s *Spec, _ *App) { s.User = contract.Shared }), "80") // root without the capability
	refuse(t, web(func(_ *Spec, a *App) { a.CapsRetain = []string{"NET_BIND_SERVICE"} }), "80")

	right := web(func(s *Spec, a *App) { s.User, a.CapsRetain = contract.Shared, []string{"default", "NET_BIND_SERVICE"} })
	if _, err := Compile(right, facts); err != nil {
		t.Errorf("Compile() with the capability on the host = %v", err)
	}
	open := facts
	open.LowestPort = 80
	if _, err := Compile(web(nil), open); err != nil {
		t.Errorf("Compile() with low ports open = %v", err)
	}
}

func TestExposedPortsWithoutANetworkAreNoted(t *testing.T) {
	expose := func(net contract.NetMode) Spec {
		return spec(func(s *Spec, a *App) {
			s.Net = net
			a.Image = busybox(func(c *image.Config) { c.ExposedPorts = []image.Port{{First: 80, Last: 80, Protocol: "tcp"}} })
		})
	}
	files, err := Compile(expose(""), facts)
	if err != nil || len(files.Notes) != 1 || !strings.Contains(files.Notes[0], "80/tcp") {
		t.Errorf("notes = %q, %v, want one about 80/tcp", files.Notes, err)
	}
	if files, err = Compile(expose(contract.NetNone), facts); err != nil || len(files.Notes) != 0 {
		t.Errorf("notes = %q, %v, want none: it was asked for", files.Notes, err)
	}
}

func TestNamesFromReferences(t *testing.T) {
	for ref, want := range map[string]string{
		"docker://docker.io/library/busybox:latest":    "busybox",
		"docker://quay.io/etcd-io/etcd@sha256:" + "00": "etcd",
		"docker://localhost:5000/My.App_1:v2":          "my.app_1",
		"oci:/srv/images/Busybox:1.36":                 "busybox",
		"oci-archive:/x/python.tar":                    "python",
		"docker-archive:/x/a b.tar.gz:tag":             "a-b",
		"oci:layout":                                   "layout",
		"docker://x/" + strings.Repeat("a", 100):       strings.Repeat("a", 48),
		"docker://x/---":                               "app",
		"":                                             "app",
		"/x/é":                                         "app",
	} {
		got := nameFrom(ref)
		if got != want {
			t.Errorf("nameFrom(%q) = %q, want %q", ref, got, want)
		}
		if err := checkAppName(got); err != nil {
			t.Error(err)
		}
	}
}

func TestAppsOfOneImageHaveNamesOfTheirOwn(t *testing.T) {
	files, err := Compile(spec(func(s *Spec, a *App) {
		named := *a
		named.Name = "busybox-2"
		s.Apps = append(s.Apps, *a, named)
	}), facts)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"busybox", "busybox-3", "busybox-2"}; !slices.Equal(files.Pod.Apps, want) {
		t.Errorf("apps = %q, want %q", files.Pod.Apps, want)
	}
}

func TestPidsLimitFallsBackToARlimit(t *testing.T) {
	without := facts
	without.PidsController = false
	files, err := Compile(spec(nil), without)
	if err != nil {
		t.Fatal(err)
	}
	app := files.Apps[0]
	if app.Limits.Pids != 0 {
		t.Errorf("limit of pids = %d without a controller, want none", app.Limits.Pids)
	}
	limits := app.Spec.Process.Rlimits
	if last := limits[len(limits)-1]; last.Type != "RLIMIT_NPROC" || last.Hard != defaultPids {
		t.Errorf("rlimits = %+v, want RLIMIT_NPROC", limits)
	}
}

func TestMountsThatAnAppReplaces(t *testing.T) {
	app := compileApp(t, func(_ *Spec, a *App) {
		a.Tmpfs = []Tmpfs{{Target: "/dev/shm", Options: []string{"size=1g"}}}
		a.Mounts = []Mount{{Source: "/srv/hosts", Target: "/etc/hosts"}}
	})
	count := map[string]int{}
	for _, m := range app.Spec.Mounts {
		count[m.Destination]++
	}
	for _, target := range []string{"/dev/shm", "/etc/hosts", "/etc/resolv.conf"} {
		if count[target] != 1 {
			t.Errorf("%d mounts at %s, want 1", count[target], target)
		}
	}
	whole := compileApp(t, func(_ *Spec, a *App) { a.Mounts = []Mount{{Source: "/srv/etc", Target: "/etc"}} })
	for _, m := range whole.Spec.Mounts {
		if strings.HasPrefix(m.Destination, "/etc/") {
			t.Errorf("mount at %s over the operator's /etc", m.Destination)
		}
	}
}

func TestVolumesAreNeverSetuidOrDevices(t *testing.T) {
	app := compileApp(t, func(s *Spec, a *App) {
		a.AllowPrivilegeEscalation = true
		a.Image = busybox(func(c *image.Config) { c.Volumes = []string{"/data"} })
		a.Mounts = []Mount{{Source: "/srv", Target: "/srv"}}
		a.Tmpfs = []Tmpfs{{Target: "/tmp", Options: []string{"exec"}}}
	})
	for _, m := range app.Spec.Mounts {
		if !slices.Contains(m.Options, "nosuid") || m.Destination != "/dev" && m.Type != "devpts" && !slices.Contains(m.Options, "nodev") {
			t.Errorf("mount at %s has options %q", m.Destination, m.Options)
		}
	}
}
