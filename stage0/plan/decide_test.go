package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"rkt/image"
	"rkt/stage1/contract"
)

func TestResolveUsers(t *testing.T) {
	tests := []struct {
		user, group string
		uid, gid    uint32
		refused     string // a word of the error; "" = accepted
	}{
		{user: "", uid: 0, gid: 0},
		{user: "0", uid: 0, gid: 0},
		{user: "00", uid: 0, gid: 0},
		{user: "root", uid: 0, gid: 0},
		{user: "redis", uid: 999, gid: 999},
		{user: "999", uid: 999, gid: 999},
		{user: "1234", uid: 1234, gid: 1234}, // its own group, not root's
		{user: "0033", uid: 33, gid: 33},
		{user: "33:0", uid: 33, gid: 0},
		{user: "redis:www-data", uid: 999, gid: 33},
		{user: "redis:disk", uid: 999, gid: 6},
		{user: "redis", group: "www-data", uid: 999, gid: 33},
		{user: "redis:disk", group: "12", uid: 999, gid: 12},
		{user: "65535", uid: 65535, gid: 65535},
		{user: "nobody", uid: 0, gid: 0}, // the image says so; the uid is what counts
		{user: "+0", refused: "neither"},
		{user: "-1", refused: "neither"},
		{user: "0x0", refused: "decimal"},
		{user: "1e3", refused: "decimal"},
		{user: "1000_0", refused: "decimal"},
		{user: "65536", refused: "65535"},
		{user: "2147483648", refused: "65535"},
		{user: "4294967295", refused: "65535"},
		{user: "4294967296", refused: "65535"},
		{user: "18446744073709551616", refused: "out of range"},
		{user: "1000000000000", refused: "65535"}, // a name in passwd, with uid 0
		{user: "1000:", refused: "user:group"},
		{user: ":0", refused: "user:group"},
		{user: ":", refused: "user:group"},
		{user: "a:b:c", refused: `"a"`},
		{user: "0:b:c", refused: "neither"},
		{user: "1000:4294967296", refused: "65535"},
		{user: " 0", refused: "neither"},
		{user: "0 ", refused: "decimal"},
		{user: "root\n", refused: "neither"},
		{user: "ro\x00ot", refused: "neither"},
		{user: "１０００", refused: "neither"},
		{user: "../root", refused: "neither"},
		{user: "nosuch", refused: "not in the image's /etc/passwd"},
		{user: "redis:nosuch", refused: "not in the image's /etc/group"},
		{user: "redis:99999999999999999999", refused: "out of range"},
		{user: "huge", refused: "65535"},
		{user: "hugegroup", refused: "65535"},
		{user: strings.Repeat("a", 1000), refused: "neither"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%.20q,%q", tt.user, tt.group), func(t *testing.T) {
			who, err := Resolve(tt.user, tt.group, debian, MaxID(true))
			if tt.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tt.refused) {
					t.Errorf("Resolve() = %+v, %v, want an error with %q", who, err, tt.refused)
				}
				return
			}
			if err != nil || who.UID != tt.uid || who.GID != tt.gid {
				t.Errorf("Resolve() = %+v, %v, want %d:%d", who, err, tt.uid, tt.gid)
			}
		})
	}
}

func TestResolveWithTheHostsIDs(t *testing.T) {
	if who, err := Resolve("huge", "", debian, MaxID(false)); err != nil || who.UID != 100000 {
		t.Errorf("Resolve(huge) = %+v, %v, want 100000", who, err)
	}
	for _, user := range []string{"2147483648", "4294967295", "4294967296"} {
		if who, err := Resolve(user, "", debian, MaxID(false)); err == nil {
			t.Errorf("Resolve(%s) = %+v, want an error", user, who)
		}
	}
}

func TestResolveWithoutReadableAccounts(t *testing.T) {
	broken := accounts{err: errors.New("passwd is a fifo")}
	if who, err := Resolve("7", "", broken, MaxID(true)); err != nil || who.UID != 7 {
		t.Errorf("Resolve(7) = %+v, %v, want 7: a number needs no passwd", who, err)
	}
	if _, err := Resolve("redis", "", broken, MaxID(true)); err == nil || !strings.Contains(err.Error(), "fifo") {
		t.Errorf("Resolve(redis) = %v, want the reason", err)
	}
	if who, err := Resolve("root", "", accounts{}, MaxID(true)); err != nil || who.UID != 0 {
		t.Errorf("Resolve(root) of an empty image = %+v, %v, want 0", who, err)
	}
}

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

func FuzzResolve(f *testing.F) {
	for _, s := range []string{"", "0", "root", "a:b", "1:2", "-1", "0x1", "１", "99999999999"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, user, group string) {
		who, err := Resolve(user, group, debian, MaxID(true))
		if err == nil && (who.UID > MaxID(true) || who.GID > MaxID(true)) {
			t.Errorf("Resolve(%q, %q) = %+v, above the range", user, group, who)
		}
		if err == nil && user != "" && user[0] >= '0' && user[0] <= '9' && strings.Trim(user, "0:") != "" && who.UID == 0 && !strings.HasPrefix(strings.TrimLeft(user, "0"), ":") {
			t.Errorf("Resolve(%q, %q) is root", user, group)
		}
	})
}
