package tests

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// speaker is a program that tells the service manager how it is. Once it is
// ready it gives a sign of life each 0.5 s, until its process gets USR1.
const speaker = `
import os, signal, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
def say(*lines): s.send("\n".join(lines).encode())
alive = True
def silence(*_):
    global alive
    alive = False
signal.signal(signal.SIGUSR1, silence)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
say("STATUS=warming \x1b[31mup", "MAINPID=1", "FDSTORE=1")
while not os.path.exists("/data/go"): time.sleep(0.1)
say("READY=1", "STATUS=serving")
print("watchdog", os.environ.get("WATCHDOG_USEC"), os.environ.get("WATCHDOG_PID") == str(os.getpid()), flush=True)
while True:
    if alive: say("WATCHDOG=1")
    time.sleep(0.5)
`

// TestSystemdServiceNotifiesByItsApp: the unit is ready when the app says so,
// and restarted when the app gives no sign of life.
func TestSystemdServiceNotifiesByItsApp(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	data := t.TempDir()
	u := h.newService("rkt-speaks", []string{"Type=notify", "KillMode=mixed", "Delegate=yes", "WatchdogSec=20s", "Restart=on-watchdog", "RestartSec=0", "TimeoutStartSec=300"},
		"run", "--name=speaks", "--sd-notify=app", h.image("python"), "-v", data+":/data", "--init", "--", "python3", "-c", speaker)
	mustTool(t, "systemctl", "start", "--no-block", u.name)
	u.becomes("StatusText", "warming \ufffd[31mup")
	u.has(map[string]string{"ActiveState": "activating"})
	if err := os.WriteFile(filepath.Join(data, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	u.becomes("ActiveState", "active")
	s := h.status("speaks")
	u.has(map[string]string{"StatusText": "serving", "MainPID": strconv.Itoa(s.PID), "NFileDescriptorStore": "0"})
	eventually(t, func() error {
		if journal := u.journal(); !strings.Contains(journal, "watchdog 20000000 True") {
			return fmt.Errorf("the app was not told of the watchdog: %s", journal)
		}
		return nil
	})
	time.Sleep(22 * time.Second) // longer than the watchdog waits
	u.has(map[string]string{"ActiveState": "active", "NRestarts": "0"})
	mustTool(t, "kill", "-USR1", strconv.Itoa(s.PID)) // the supervisor passes it on
	deadline := time.Now().Add(2 * time.Minute)
	for u.property("NRestarts") == "0" && time.Now().Before(deadline) {
		time.Sleep(time.Second)
	}
	u.becomes("NRestarts", "1")
	u.becomes("ActiveState", "active")
	u.stop()
	u.has(map[string]string{"Result": "success"})
}

// server answers each connection to a socket that was passed to it with what it
// knows of that. It ends after the first one.
const server = `
import os, socket, select
n = int(os.environ["LISTEN_FDS"]); names = os.environ["LISTEN_FDNAMES"].split(":")
ok = os.environ["LISTEN_PID"] == str(os.getpid())
socks = [socket.socket(fileno=3 + i) for i in range(n)]
print("serving", flush=True)
r, _, _ = select.select(socks, [], [])
c, _ = r[0].accept()
c.send(("%s %s %d\n" % (names[socks.index(r[0])], ok, os.getuid())).encode())
`

// TestSystemdSocketActivation: a connection starts the pod, and each process of
// the app gets the sockets anew.
func TestSystemdSocketActivation(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	const address = "127.0.0.1:7070"
	u := h.newService("rkt-web", []string{"Type=notify", "KillMode=mixed", "Sockets=rkt-web.socket rkt-admin.socket"},
		"run", "--name=web", h.image("python"), "--user=1000", "--restart=always", "--", "python3", "-c", server)
	socket := newUnit(t, "rkt-web.socket", "[Socket]\nListenStream="+address+"\nFileDescriptorName=http\n")
	admin := newUnit(t, "rkt-admin.socket", "[Socket]\nListenStream=/run/rkt-test-admin\nService=rkt-web.service\nFileDescriptorName=admin\n")
	socket.start()
	admin.start()
	for i := range 4 {
		network, at, want := "tcp", address, "http True 1000\n"
		if i%2 == 1 {
			network, at, want = "unix", "/run/rkt-test-admin", "admin True 1000\n"
		}
		conn, err := net.Dial(network, at)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(4 * patience))
		got, err := bufio.NewReader(conn).ReadString('\n')
		conn.Close()
		if err != nil || got != want {
			t.Errorf("connection %d to %s says %q, %v, want %q", i, at, got, err, want)
		}
	}
	u.has(map[string]string{"ActiveState": "active", "NRestarts": "0"}) // the supervisor did it
	u.stop()
}

// TestSystemdCredentials: what LoadCredential= gives a unit is the app user's.
func TestSystemdCredentials(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("loaded"), 0o600); err != nil {
		t.Fatal(err)
	}
	const show = `cd "$CREDENTIALS_DIRECTORY" && pwd && cat token && echo && cat word && echo && ls -ln token && { echo x >token; }; mount | grep credentials`
	u := h.newService("rkt-secrets", []string{"Type=oneshot", "LoadCredential=token:" + secret, "SetCredential=word:set"},
		"run", "--rm", h.image("busybox"), "--user=1000:1001", "--", "sh", "-c", show)
	u.start()
	journal := u.journal()
	for _, want := range []string{"/run/host/credentials", "loaded", "set", "-r--------    1 1000     1001", "can't create token", "type ramfs (ro,"} {
		if !strings.Contains(journal, want) {
			t.Errorf("the app does not say %q:\n%s", want, journal)
		}
	}
}

// TestSystemdStopInTheMiddleOfAStart stops units whose start is under way: nothing
// is left that gc does not collect, and the unit has not failed.
func TestSystemdStopInTheMiddleOfAStart(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	args := []string{"run", "--name=early"}
	for i := range 5 {
		args = append(args, h.image("busybox"), "--name=app"+strconv.Itoa(i), "--", "sleep", "1000", "---")
	}
	u := h.newService("rkt-early", []string{"Type=notify", "KillMode=mixed", "Delegate=yes"}, args[:len(args)-1]...)
	for i := range 12 {
		mustTool(t, "systemctl", "start", "--no-block", u.name)
		time.Sleep(time.Duration(i*40) * time.Millisecond)
		u.stop()
		u.becomes("ActiveState", "inactive")
		if result := u.property("Result"); result != "success" {
			t.Errorf("stopped after %d ms: result %q", i*40, result)
		}
		if left := processes(h.data); len(left) > 0 {
			t.Errorf("stopped after %d ms: processes are left: %v", i*40, left)
		}
	}
}

// TestSystemdServiceOfARemovedImage: a pod that runs goes on and can start its
// apps again; a unit that may not fetch says what is missing.
func TestSystemdServiceOfARemovedImage(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	ref := h.image("busybox")
	u := h.newService("rkt-removed", []string{"Type=notify", "KillMode=mixed", "Delegate=yes"},
		"run", "--name=removed", "--pull-policy=never", ref, "--restart=always", "--", "sleep", "1000")
	u.start()
	id := h.must("image", "list", "--no-legend", "--fields=id", "--full")
	h.must("image", "rm", strings.TrimSpace(id))
	h.must("gc", "--images")
	app := h.status("removed").Apps[0].PID
	mustTool(t, "kill", "-KILL", strconv.Itoa(app))
	eventually(t, func() error {
		if s := h.status("removed"); s.Apps[0].PID == app || s.Apps[0].PID == 0 {
			return fmt.Errorf("the app is not started again")
		}
		return nil
	})
	u.stop()
	u.has(map[string]string{"Result": "success"})
	if r := tool(t, "systemctl", "start", u.name); r.code == 0 {
		t.Error("the unit starts without its image")
	}
	u.has(map[string]string{"ActiveState": "failed", "ExecMainStatus": "125"})
	if journal := u.journal(); !strings.Contains(journal, "rkt: error: ") {
		t.Errorf("the journal does not say why:\n%s", journal)
	}
}
