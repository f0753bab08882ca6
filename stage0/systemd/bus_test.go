package systemd

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// patience bounds every wait.
const patience = 20 * time.Second

// busConfiguration lets everybody do everything on a bus.
const busConfiguration = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/><allow user="*"/></policy>
</busconfig>`

// startBus starts a dbus-daemon of the test's own and returns its socket.
func startBus(t *testing.T) string {
	t.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("dbus-daemon is not installed")
	}
	dir := t.TempDir()
	socket, config := filepath.Join(dir, "bus"), filepath.Join(dir, "config")
	if err := os.WriteFile(config, fmt.Appendf(nil, busConfiguration, socket), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(daemon, "--config-file="+config, "--nofork", "--nopidfile", "--print-address=3")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	w.Close()
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != nil { // it listens
		t.Fatalf("dbus-daemon: %v", err)
	}
	return socket
}

// join connects to a bus under a name.
func join(t *testing.T, socket, name string) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect("unix:path=" + socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if reply, err := conn.RequestName(name, 0); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("own %s: %v, %v", name, reply, err)
	}
	return conn
}

// fakeManager is as much of systemd's manager as this package uses.
type fakeManager struct {
	sync.Mutex
	t    *testing.T
	conn *dbus.Conn
	// result is how jobs end; "" = they do not.
	result string
	// refuse is the name of the error of StartTransientUnit, "" = none.
	refuse string
	units  map[string]map[string]dbus.Variant
	// failure are the properties of a service that failed.
	failure map[string]dbus.Variant
}

const (
	fakeJob  = dbus.ObjectPath("/org/freedesktop/systemd1/job/7")
	fakeUnit = dbus.ObjectPath("/org/freedesktop/systemd1/unit/x")
)

// startManager puts a fake systemd on a bus.
func startManager(t *testing.T, socket string) *fakeManager {
	t.Helper()
	m := &fakeManager{t: t, conn: join(t, socket, managerName), result: "done", units: map[string]map[string]dbus.Variant{}}
	for path, exported := range map[dbus.ObjectPath]struct {
		v     any
		iface string
	}{
		managerPath: {m, managerIface},
		fakeUnit:    {fakeProperties{m}, "org.freedesktop.DBus.Properties"},
	} {
		if err := m.conn.Export(exported.v, path, exported.iface); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *fakeManager) Subscribe() *dbus.Error { return nil }

func (m *fakeManager) StartTransientUnit(name, mode string, properties []Property, _ []auxiliary) (dbus.ObjectPath, *dbus.Error) {
	m.Lock()
	defer m.Unlock()
	if m.refuse != "" {
		return "", dbus.NewError(m.refuse, []any{"refused"})
	}
	all := map[string]dbus.Variant{"": dbus.MakeVariant(mode)}
	for _, p := range properties {
		if _, twice := all[p.Name]; twice {
			m.t.Errorf("property %s is there twice", p.Name)
		}
		all[p.Name] = p.Value
	}
	m.units[name] = all
	// The ends of other jobs, and of this one before the reply: it may come so.
	for _, end := range [][]any{
		{uint32(6), dbus.ObjectPath("/org/freedesktop/systemd1/job/6"), "other.service", "failed"},
		{uint32(7), fakeJob, name, m.result},
	} {
		if end[3] == "" {
			continue
		}
		if err := m.conn.Emit(managerPath, managerIface+".JobRemoved", end...); err != nil {
			m.t.Error(err)
		}
	}
	return fakeJob, nil
}

func (m *fakeManager) GetUnit(name string) (dbus.ObjectPath, *dbus.Error) {
	m.Lock()
	defer m.Unlock()
	if m.failure == nil {
		return "", dbus.NewError(managerName+".NoSuchUnit", []any{name})
	}
	return fakeUnit, nil
}

type fakeProperties struct{ *fakeManager }

func (m fakeProperties) GetAll(string) (map[string]dbus.Variant, *dbus.Error) {
	m.Lock()
	defer m.Unlock()
	return m.failure, nil
}

// silence listens and never answers.
func silence(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "silent")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return path
}
