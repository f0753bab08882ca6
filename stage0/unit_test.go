package stage0

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// handover is what this process takes with the environment, in which PID stands
// for its number.
func handover(t *testing.T, vars ...string) *Handover {
	t.Helper()
	for _, name := range []string{
		"NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
		"SYSTEMD_EXEC_PID", "INVOCATION_ID",
	} {
		t.Setenv(name, "") // and restores it
		os.Unsetenv(name)
	}
	for _, v := range vars {
		name, value, _ := strings.Cut(v, "=")
		os.Setenv(name, strings.ReplaceAll(value, "PID", strconv.Itoa(os.Getpid())))
	}
	return TakeHandover()
}

func TestTakeHandover(t *testing.T) {
	tests := []struct {
		name string
		vars []string
		want *contract.Unit
		err  string
	}{
		{"nothing", nil, nil, ""},
		{"main process", []string{"SYSTEMD_EXEC_PID=PID"}, &contract.Unit{Main: true}, ""},
		{"below the main process", []string{"SYSTEMD_EXEC_PID=1", "INVOCATION_ID=x"}, nil, ""},
		{"notify", []string{"NOTIFY_SOCKET=/run/x"}, &contract.Unit{NotifySocket: "/run/x"}, ""},
		{"watchdog", []string{"WATCHDOG_USEC=7", "WATCHDOG_PID=PID"}, &contract.Unit{WatchdogMicros: 7}, ""},
		{"watchdog of whoever", []string{"WATCHDOG_USEC=7"}, &contract.Unit{WatchdogMicros: 7}, ""},
		{"watchdog of another", []string{"WATCHDOG_USEC=7", "WATCHDOG_PID=1"}, nil, ""},
		{"no time", []string{"WATCHDOG_USEC=-7"}, nil, `WATCHDOG_USEC="-7" is not a time`},
		{"sockets of another", []string{"LISTEN_FDS=1", "LISTEN_PID=1"}, nil, ""},
		{"too many", []string{"LISTEN_FDS=100000", "LISTEN_PID=PID"}, nil, `LISTEN_FDS="100000"`},
		{"names", []string{"LISTEN_FDS=2", "LISTEN_PID=PID", "LISTEN_FDNAMES=a"}, nil, `LISTEN_FDNAMES="a" does not have`},
		{"hostile names", []string{"LISTEN_FDS=1", "LISTEN_PID=PID", "LISTEN_FDNAMES=a\n"}, nil, "a name that is none"},
		{"not passed", []string{"LISTEN_FDS=500", "LISTEN_PID=PID"}, nil, "was not passed"},
		{"credentials", []string{"CREDENTIALS_DIRECTORY=x"}, &contract.Unit{Credentials: "x"}, "not an absolute path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := handover(t, tt.vars...)
			if tt.err == "" && h.err != nil || tt.err != "" && (h.err == nil || !strings.Contains(h.err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", h.err, tt.err)
			}
			if tt.err == "" && ((h.unit == nil) != (tt.want == nil) || h.unit != nil && (h.unit.Main != tt.want.Main ||
				h.unit.NotifySocket != tt.want.NotifySocket || h.unit.WatchdogMicros != tt.want.WatchdogMicros)) {
				t.Errorf("unit %+v, want %+v", h.unit, tt.want)
			}
			for _, v := range tt.vars {
				name, _, _ := strings.Cut(v, "=")
				if _, there := os.LookupEnv(name); there && name != "SYSTEMD_EXEC_PID" && name != "INVOCATION_ID" {
					t.Errorf("%s is still set", name)
				}
			}
		})
	}
}

// prepared is a pod of the apps with a stage1 that has the features.
func preparedPod(notify contract.NotifyMode, features []string, apps ...contract.App) *Prepared {
	p := &Prepared{stage1: &stage1{manifest: &contract.Manifest{Features: features}}, sandbox: contract.Pod{Notify: notify}}
	for _, a := range apps {
		p.apps = append(p.apps, preparedApp{app: a})
		p.sandbox.Apps = append(p.sandbox.Apps, a.Name)
	}
	return p
}

func TestHandedMustHaveATaker(t *testing.T) {
	unit := []string{contract.FeatureUnit}
	every := []string{contract.Every}
	all := contract.App{Name: "all", Sockets: every, Credentials: every}
	none := contract.App{Name: "none"}
	web := contract.App{Name: "web", Sockets: []string{"http"}, Credentials: []string{"key"}}
	other := contract.App{Name: "other", Sockets: []string{"admin"}}
	sockets := func(names ...string) *contract.Unit {
		u := &contract.Unit{}
		for i, n := range names {
			u.Sockets = append(u.Sockets, contract.Socket{FD: 10 + i, Name: n})
		}
		return u
	}
	tests := []struct {
		name string
		pod  *Prepared
		unit *contract.Unit
		want string
	}{
		{"one app", preparedPod("", unit, all), sockets("a", "b"), ""},
		{"two apps", preparedPod("", unit, none, none), sockets("a"), `the socket "a", which no app`},
		{"two apps by name", preparedPod("", unit, web, other), sockets("http", "admin"), ""},
		{"one left", preparedPod("", unit, web, other), sockets("http", "admin", "x"), `the socket "x", which no app`},
		{"one missing", preparedPod("", unit, web, other), sockets("http"), `no socket "admin", it passes ["http"]`},
		{"none is passed", preparedPod("", unit, web, other), sockets(), ""},
		{"credentials", preparedPod("", unit, web, other), &contract.Unit{Credentials: "/x"}, ""},
		{"credentials for nobody", preparedPod("", unit, none, other), &contract.Unit{Credentials: "/x"}, "which no app of the pod takes"},
		{"credentials refused", preparedPod("", unit, none), &contract.Unit{Credentials: "/x"}, ""},
		{"no support", preparedPod("", nil, none), sockets("a"), `lacks the feature "unit"`},
		{"no support, notify", preparedPod("", nil, none), &contract.Unit{NotifySocket: "/x"}, `lacks the feature "unit"`},
		{"no support, no notify", preparedPod(contract.NotifyNo, nil, none), &contract.Unit{NotifySocket: "/x", Main: true}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := &Env{Handover: &Handover{unit: tt.unit}}
			_, err := env.handed(tt.pod)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
	bad := &Env{Handover: &Handover{err: errors.New("broken")}}
	if _, err := bad.handed(preparedPod("", unit, all)); err == nil {
		t.Error("a broken handover is accepted")
	}
}

func TestManagerIsToldWithoutWaiting(t *testing.T) {
	path := t.TempDir() + "/notify"
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err == nil {
		defer unix.Close(fd)
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err != nil {
		t.Fatal(err)
	}
	h := &Handover{unit: &contract.Unit{NotifySocket: path}}
	for range 1000 { // more than its queue takes
		h.Tell("fetching\n\x1bREADY=1", 60e9)
	}
	b := make([]byte, 4096)
	n, err := unix.Read(fd, b)
	if want := "STATUS=fetching\\x0a\\x1bREADY=1\nEXTEND_TIMEOUT_USEC=60000000"; err != nil || string(b[:n]) != want {
		t.Errorf("message %q, %v, want %q", b[:max(n, 0)], err, want)
	}
	(*Handover)(nil).Tell("x", 0)
	(&Handover{}).Tell("x", 0)
	if names, err := socketNames("", 2); err != nil || !slices.Equal(names, []string{"unknown", "unknown"}) {
		t.Errorf("socketNames() = %v, %v", names, err)
	}
}
