package systemd

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// connect connects to the fake on a bus, where systemd has no socket of its own.
func connect(t *testing.T, socket string) *Manager {
	t.Helper()
	m, err := Connect(t.Context(), Sockets{Private: filepath.Join(t.TempDir(), "none"), Bus: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func TestStartScope(t *testing.T) {
	socket := startBus(t)
	fake := startManager(t, socket)
	m := connect(t, socket)
	memory, err := ParseProperty("MemoryMax=1G")
	if err != nil {
		t.Fatal(err)
	}
	own := Property{"Description", dbus.MakeVariant("mine")}
	for range 2 { // a connection can be used again
		err = m.StartScope(t.Context(), "rkt-x.scope", Options{Description: "theirs", Properties: []Property{memory, own}})
		if err != nil {
			t.Fatal(err)
		}
	}
	got := fake.units["rkt-x.scope"]
	for name, want := range map[string]any{
		"": "fail", "Description": "mine", "Slice": "machine.slice", "Delegate": true, "CollectMode": "inactive-or-failed",
		"PIDs": []uint32{uint32(os.Getpid())}, "MemoryMax": uint64(1 << 30),
	} {
		if !reflect.DeepEqual(got[name].Value(), want) {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

func TestStartScopeFails(t *testing.T) {
	socket := startBus(t)
	fake := startManager(t, socket)
	m := connect(t, socket)
	fake.result = "failed"
	var job *JobError
	if err := m.StartScope(t.Context(), "a.scope", Options{}); !errors.As(err, &job) || job.Result != "failed" {
		t.Errorf("a job that failed: %v", err)
	}
	fake.refuse = unitExists
	var exists *ExistsError
	if err := m.StartScope(t.Context(), "b.scope", Options{}); !errors.As(err, &exists) || exists.Unit != "b.scope" {
		t.Errorf("a unit that exists: %v", err)
	}
	fake.refuse, fake.result = "", ""
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := m.StartScope(ctx, "c.scope", Options{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a job that does not end: %v", err)
	}
	ctx, gone := context.WithTimeout(t.Context(), patience)
	defer gone()
	time.AfterFunc(50*time.Millisecond, func() { m.conn.Close() })
	if err := m.StartScope(ctx, "d.scope", Options{}); err == nil || ctx.Err() != nil {
		t.Errorf("a connection that ends: %v", err)
	}
}

func TestStartService(t *testing.T) {
	socket := startBus(t)
	fake := startManager(t, socket)
	m := connect(t, socket)
	s := Service{Command: []string{"/usr/bin/rkt", "--dir=/a b%n$HOME\n"}, LogFields: []string{"RKT_POD=x"}, StartLimit: time.Minute}
	if err := m.StartService(t.Context(), "rkt-x.service", s); err != nil {
		t.Fatal(err)
	}
	got := fake.units["rkt-x.service"]
	if sig := got["ExecStartEx"].Signature().String(); sig != "a(sasas)" {
		t.Errorf("ExecStartEx has the type %s", sig)
	}
	if sig := got["LogExtraFields"].Signature().String(); sig != "aay" {
		t.Errorf("LogExtraFields has the type %s", sig)
	}
	for name, want := range map[string]any{
		"Type": "notify", "KillMode": "mixed", "Delegate": true, "AddRef": true, "TimeoutStartUSec": uint64(60e6),
		"ExecStartEx": [][]any{{s.Command[0], s.Command, []string{"no-env-expand"}}}, "SyslogIdentifier": "rkt",
	} {
		if !reflect.DeepEqual(got[name].Value(), want) {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
}

func TestStartServiceFails(t *testing.T) {
	socket := startBus(t)
	fake := startManager(t, socket)
	m := connect(t, socket)
	fake.result = "failed"
	for _, c := range []struct {
		name       string
		properties map[string]any
		want       FailedError
	}{
		{"unit is gone", nil, FailedError{"x.service", "", -1}},
		{"exited", map[string]any{"Result": "exit-code", "ExecMainCode": int32(1), "ExecMainStatus": int32(127)}, FailedError{"x.service", "exit-code", 127}},
		{"killed", map[string]any{"Result": "signal", "ExecMainCode": int32(2), "ExecMainStatus": int32(9)}, FailedError{"x.service", "signal", 137}},
		{"never executed", map[string]any{"Result": "resources", "ExecMainCode": int32(0), "ExecMainStatus": int32(0)}, FailedError{"x.service", "resources", -1}},
	} {
		fake.failure = nil
		for name, v := range c.properties {
			if fake.failure == nil {
				fake.failure = map[string]dbus.Variant{}
			}
			fake.failure[name] = dbus.MakeVariant(v)
		}
		var got *FailedError
		if err := m.StartService(t.Context(), "x.service", Service{Command: []string{"/x"}}); !errors.As(err, &got) || *got != c.want {
			t.Errorf("%s: %v, want %v", c.name, err, &c.want)
		}
	}
}

// TestSilence asks where nobody answers: each call has its bound.
func TestSilence(t *testing.T) {
	quiet, none := silence(t), filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		name   string
		at     Sockets
		silent bool
	}{
		{"systemd's socket hangs", Sockets{Private: quiet, Bus: none}, true},
		{"the bus hangs", Sockets{Private: none, Bus: quiet}, true},
		{"there is nothing", Sockets{Private: none, Bus: none}, false},
	} {
		for how, connect := range map[string]func(context.Context, Sockets) (*Manager, error){"Connect": Connect, "ConnectBus": ConnectBus} {
			t.Run(how+" where "+c.name, func(t *testing.T) {
				t.Parallel()
				begin := time.Now()
				_, err := connect(t.Context(), c.at)
				var unreachable *UnreachableError
				if !errors.As(err, &unreachable) || errors.Is(err, errSilent) != c.silent {
					t.Error(err)
				}
				if d := time.Since(begin); d > 2*connectLimit+time.Second {
					t.Errorf("it took %s", d)
				}
			})
		}
	}
}

// TestConnectIsCancelled gives up at once when its caller does.
func TestConnectIsCancelled(t *testing.T) {
	quiet := silence(t)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	begin := time.Now()
	if _, err := Connect(ctx, Sockets{Private: quiet, Bus: quiet}); err == nil || time.Since(begin) > connectLimit/2 {
		t.Errorf("Connect() = %v after %s", err, time.Since(begin))
	}
}

func TestParseProperty(t *testing.T) {
	for text, want := range map[string]struct {
		name  string
		value any
	}{
		"MemoryMax=1G":                         {"MemoryMax", uint64(1 << 30)},
		"MemoryHigh=infinity":                  {"MemoryHigh", uint64(infinity)},
		"MemoryMax=25%":                        {"MemoryMaxScale", uint32(1 << 30)},
		"TasksMax=12":                          {"TasksMax", uint64(12)},
		"CPUQuota=150%":                        {"CPUQuotaPerSecUSec", uint64(1.5e6)},
		"CPUWeight=100":                        {"CPUWeight", uint64(100)},
		"AllowedCPUs=0-2,9":                    {"AllowedCPUs", []byte{7, 2}},
		"RuntimeMaxSec=1m30s":                  {"RuntimeMaxUSec", uint64(90e6)},
		"TimeoutStopSec=5":                     {"TimeoutStopUSec", uint64(5e6)},
		"IOReadBandwidthMax=/dev/sda 10M":      {"IOReadBandwidthMax", []deviceLimit{{"/dev/sda", 10 << 20}}},
		"Description=100% of $HOME = %n \\n x": {"Description", `100% of $HOME = %n \n x`},
		"MemoryAccounting=yes":                 {"MemoryAccounting", true},
		"ManagedOOMSwap=kill":                  {"ManagedOOMSwap", "kill"},
	} {
		p, err := ParseProperty(text)
		if err != nil || p.Name != want.name || !reflect.DeepEqual(p.Value.Value(), want.value) {
			t.Errorf("ParseProperty(%q) = %v, %v, want %v", text, p, err, want)
		}
	}
	for _, text := range []string{
		"", "MemoryMax", "=1", "ExecStart=/bin/sh", "Slice=x.slice", "Delegate=no", "memorymax=1G", "MemoryMax=", "MemoryMax=-1",
		"MemoryMax=1GG", "MemoryMax=18446744073709551615", "MemoryMax=20000000T", "MemoryMax=101%", "MemoryMax=0%", "MemoryMax=NaN%",
		"CPUQuota=5", "CPUQuota=-5%", "CPUQuota=+Inf%", "CPUWeight=0", "CPUWeight=10001", "AllowedCPUs=", "AllowedCPUs=3-1",
		"AllowedCPUs=0-99999999", "AllowedCPUs=x", "RuntimeMaxSec=-1s", "Description=a\nb", "Description=\xff", "Description=\x1b[2J",
		"IOReadBandwidthMax=10M", "IOReadBandwidthMax=sda 10M", "IODeviceWeight=/dev/sda 0", "TasksMax=0", "ManagedOOMSwap=maybe",
	} {
		if p, err := ParseProperty(text); err == nil {
			t.Errorf("ParseProperty(%q) = %v", text, p)
		}
	}
}

func TestCheckSlice(t *testing.T) {
	for name, good := range map[string]bool{
		"machine.slice": true, "a-b.slice": true, "-.slice": true, `a\x2db.slice`: true,
		"": false, ".slice": false, "machine": false, "a/b.slice": false, "a b.slice": false, "-a.slice": false, "a--b.slice": false,
		"a-.slice": false, "%n.slice": false, "a\n.slice": false, strings.Repeat("a", 260) + ".slice": false, "ü.slice": false,
	} {
		if err := CheckSlice(name); (err == nil) != good {
			t.Errorf("CheckSlice(%q) = %v", name, err)
		}
	}
}

func TestUnitOf(t *testing.T) {
	for path, want := range map[string]string{
		"/":                                     "",
		"/system.slice/foo.service":             "foo.service",
		"/system.slice/foo.service/rkt-1/app.x": "foo.service",
		"/machine.slice/rkt-1.scope/app.db.service.d/main":          "rkt-1.scope",
		"/user.slice/user-0.slice/user@0.service/app.slice/x.scope": "x.scope",
	} {
		if got := UnitOf(path); got != want {
			t.Errorf("UnitOf(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestWantsScope(t *testing.T) {
	for _, c := range []struct {
		name string
		unit Unit
		want bool
	}{
		{"a login", Unit{Name: "session-3.scope", Session: true}, true},
		{"a terminal of a desktop", Unit{Name: "vte.scope", Session: true}, true},
		{"a unit of a user's manager", Unit{Name: "x.service", Session: true, Main: true}, false},
		{"a unit", Unit{Name: "x.service", Main: true}, false},
		{"a script in a unit", Unit{Name: "x.service"}, false},
		{"somebody's scope", Unit{Name: "run-u3.scope"}, false},
		{"no unit", Unit{}, true},
		{"init", Unit{Name: "init.scope"}, true},
	} {
		if got := c.unit.WantsScope(); got != c.want {
			t.Errorf("%s: WantsScope() = %v", c.name, got)
		}
	}
	for text, want := range map[string]string{
		"0::/a\n":                                "/a",
		"12:pids:/p\n1:name=systemd:/s\n0::/u\n": "/s",
		"4:memory:/m\n0::/u:1\n":                 "/u:1",
		"":                                       "",
	} {
		if got := unitPath(text); got != want {
			t.Errorf("unitPath(%q) = %q, want %q", text, got, want)
		}
	}
}

// fakeMachined is as much of systemd-machined as this package uses.
type fakeMachined struct {
	listed string // the machine of the unit
	leader uint32
	calls  []string
}

func (f *fakeMachined) GetMachineByPID(uint32) (dbus.ObjectPath, *dbus.Error) {
	if f.listed == "" {
		return "", dbus.NewError(noMachine, []any{"none"})
	}
	return "/org/freedesktop/machine1/machine/x", nil
}

func (f *fakeMachined) GetAll(string) (map[string]dbus.Variant, *dbus.Error) {
	return map[string]dbus.Variant{"Name": dbus.MakeVariant(f.listed), "Leader": dbus.MakeVariant(f.leader)}, nil
}

func (f *fakeMachined) UnregisterMachine(name string) *dbus.Error {
	f.calls = append(f.calls, "unregister "+name)
	return nil
}

func (f *fakeMachined) RegisterMachine(name string, id []byte, service, class string, leader uint32, root string) (dbus.ObjectPath, *dbus.Error) {
	f.calls = append(f.calls, "register "+strings.Join([]string{name, service, class, root}, ","))
	return "/org/freedesktop/machine1/machine/y", nil
}

func TestRegister(t *testing.T) {
	socket := startBus(t)
	conn := join(t, socket, machineName)
	dead := uint32(1 << 30) // above any pid_max
	for _, c := range []struct {
		name string
		fake fakeMachined
		want []string
		good bool
	}{
		{"first", fakeMachined{}, []string{"register rkt-new,rkt,container,"}, true},
		{"after one that has ended", fakeMachined{listed: "rkt-old", leader: dead}, []string{"unregister rkt-old", "register rkt-new,rkt,container,"}, true},
		{"again", fakeMachined{listed: "rkt-new", leader: uint32(os.Getpid())}, []string{"unregister rkt-new", "register rkt-new,rkt,container,"}, true},
		{"beside another", fakeMachined{listed: "rkt-other", leader: uint32(os.Getpid())}, nil, false},
	} {
		for path, iface := range map[dbus.ObjectPath]string{
			machinePath: machineIface, "/org/freedesktop/machine1/machine/x": "org.freedesktop.DBus.Properties",
		} {
			if err := conn.Export(&c.fake, path, iface); err != nil {
				t.Fatal(err)
			}
		}
		err := Register(t.Context(), Sockets{Bus: socket}, Machine{Name: "rkt-new", Leader: os.Getpid()})
		if (err == nil) != c.good || !slices.Equal(c.fake.calls, c.want) {
			t.Errorf("%s: %v, calls %q, want %q", c.name, err, c.fake.calls, c.want)
		}
	}
}

// TestAwaitRead waits for a reader that takes its time, and gives up on one that
// never comes.
func TestAwaitRead(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "socket")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	other, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := c.Write([]byte("BEGIN\r\n")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errSilent)
	defer cancel()
	if err := awaitRead(ctx, c.(*net.UnixConn)); !errors.Is(err, errSilent) {
		t.Errorf("nobody reads: %v", err)
	}
	if _, err := other.Read(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	if err := awaitRead(t.Context(), c.(*net.UnixConn)); err != nil {
		t.Errorf("everything was read: %v", err)
	}
}
