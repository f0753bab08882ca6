package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// generatorLink is where systemd looks for generators of the machine's owner.
const generatorLink = "/etc/systemd/system-generators/rkt-system-generator"

// quadlets are files in /etc/rkt/quadlet that a test made.
type quadlets struct {
	t testing.TB
	h *host
}

// newQuadlets installs the generator and empties the folder of its files. When
// the test is over both are gone, and the units with them.
func newQuadlets(t testing.TB) *quadlets {
	t.Helper()
	needSystemd(t)
	q := &quadlets{t: t, h: &host{t: t, data: "/var/lib/rkt", run: "/run/rkt", conf: "/etc/rkt"}}
	for _, dir := range []string{filepath.Dir(generatorLink), "/etc/rkt/quadlet"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(program("rkt-quadlet"), generatorLink); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the journal:\n%s", tool(t, "journalctl", "--quiet", "--boot", "--lines=200", "--no-pager", "--output=short-precise").stdout)
		}
		for _, path := range []string{generatorLink, "/etc/rkt/quadlet"} {
			if err := os.RemoveAll(path); err != nil {
				t.Error(err)
			}
		}
		mustTool(t, "systemctl", "daemon-reload")
		q.h.collect()
	})
	return q
}

// write makes files, by name, and systemd read them. What they start is stopped
// when the test is over.
func (q *quadlets) write(files map[string]string) {
	q.t.Helper()
	for name, text := range files {
		path := filepath.Join("/etc/rkt/quadlet", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			q.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			q.t.Fatal(err)
		}
	}
	mustTool(q.t, "systemctl", "daemon-reload")
}

// started starts a unit that is stopped when the test is over.
func (q *quadlets) started(name string) *unit {
	q.t.Helper()
	q.t.Cleanup(func() {
		tool(q.t, "systemctl", "stop", name)
		tool(q.t, "systemctl", "reset-failed", name)
	})
	mustTool(q.t, "systemctl", "start", name)
	return &unit{t: q.t, name: name}
}

// A file becomes a service: its image is fetched by a unit of its own before the
// start begins, its volume is there, it is stopped in order and keeps its data.
func TestSystemdQuadletContainer(t *testing.T) {
	q := newQuadlets(t)
	ref := q.h.image("busybox")
	q.write(map[string]string{
		"web.container": fmt.Sprintf(`[Unit]
Description=A server
[Container]
Image=%s
Network=none
Volume=web.volume:/data
Environment="GREETING=100%%%% of $$HOME"
Exec=sh -c "trap 'exit 0' TERM; echo \"$$GREETING\" >>/data/log; while :; do sleep 1; done"
[Service]
Restart=on-failure
[Install]
WantedBy=multi-user.target
Alias=server.service
`, ref),
		"web.volume": "[Volume]\nUser=0\nLabel=purpose=test\n",
	})
	u := q.started("web.service")
	if got := u.property("Type") + " " + u.property("ActiveState"); got != "notify active" {
		t.Errorf("the service is %s", got)
	}
	if got := mustTool(t, "systemctl", "show", "--value", "--property=Id", "server.service"); got != "web.service" {
		t.Errorf("its alias leads to %s", got)
	}
	if got := mustTool(t, "systemctl", "show", "--value", "--property=Wants", "multi-user.target"); !strings.Contains(" "+got+" ", " web.service ") {
		t.Errorf("multi-user.target does not want it: %s", got)
	}
	log := "/var/lib/rkt/volumes/web/log"
	eventually(t, func() error {
		b, err := os.ReadFile(log)
		if err == nil && string(b) != "100% of $HOME\n" {
			err = fmt.Errorf("the app wrote %q", b)
		}
		return err
	})
	if q.h.state("web") != "running" {
		t.Error("the pod has another name")
	}
	mustTool(t, "systemctl", "restart", "web.service")
	eventually(t, func() error {
		if b, err := os.ReadFile(log); err != nil || strings.Count(string(b), "\n") != 2 {
			return fmt.Errorf("after a restart the volume has %q, %v", b, err)
		}
		return nil
	})
	mustTool(t, "systemctl", "stop", "web.service")
	if got := u.property("ActiveState") + " " + u.property("Result"); got != "inactive success" {
		t.Errorf("after stop the service is %s", got)
	}
	q.h.must("volume", "rm", "web")
}

// The containers of a pod are one service, which has all their names.
func TestSystemdQuadletPod(t *testing.T) {
	q := newQuadlets(t)
	ref := q.h.image("busybox")
	app := "[Container]\nPod=shop.pod\nImage=" + ref + "\nExec=sleep 1000\n"
	q.write(map[string]string{
		"shop.pod":      "[Pod]\nNetwork=none\n",
		"app.container": "[Unit]\nAfter=db.container\n" + app,
		"db.container":  app,
	})
	q.started("db.service")
	for _, name := range []string{"app.service", "db.service", "shop-pod.service"} {
		if got := mustTool(t, "systemctl", "show", "--value", "--property=Id,ActiveState", name); got != "shop-pod.service\n\nactive" && got != "shop-pod.service\nactive" {
			t.Errorf("%s is %q", name, got)
		}
	}
	if got := q.h.must("enter", "--app=app", "shop-pod", "--", "cat", "/proc/1/comm"); got != "sleep" {
		t.Errorf("process 1 of an app is %q", got)
	}
	mustTool(t, "systemctl", "stop", "app.service")
	if got := (&unit{t: t, name: "shop-pod.service"}).property("ActiveState"); got == "active" {
		t.Error("the pod runs on")
	}
}

// A corrupt file, a fifo and names that are none cost no other file its unit,
// and are in the journal.
func TestSystemdQuadletCorruptFiles(t *testing.T) {
	q := newQuadlets(t)
	mustTool(t, "mkdir", "-p", "/etc/rkt/quadlet")
	mustTool(t, "mkfifo", "/etc/rkt/quadlet/fifo.container")
	q.write(map[string]string{
		"good.container":     "[Container]\nImage=example.org/none\n",
		"corrupt.container":  "[Container\x01\n",
		"evil\nname.service": "",
		"a\nb.container":     "[Container]\nImage=a\n",
		"100%n.container":    "[Container]\nImage=a\nUser=%z\n",
		"typo.container":     "[Container]\nImage=a\nImgae=b\n",
	})
	if got := (&unit{t: t, name: "good.service"}).property("LoadState"); got != "loaded" {
		t.Errorf("good.service is %s", got)
	}
	eventually(t, func() error {
		journal := mustTool(t, "journalctl", "--boot", "--quiet", "--identifier=rkt-system-generator", "--output=cat", "--no-pager")
		for _, want := range []string{"/corrupt.container:1: ", "/fifo.container: it is not a regular file", `/a\x0ab.container`, "/100%n.container", "/typo.container:3: unknown key Imgae="} {
			if !strings.Contains(journal, want) {
				return fmt.Errorf("the journal does not tell of %s:\n%s", want, journal)
			}
		}
		return nil
	})
	r := q.h.rkt("quadlet", "check")
	if r.code == 0 || !strings.Contains(r.stdout, "good.service") || !strings.Contains(r.stderr, "typo.container:3: ") {
		t.Errorf("rkt quadlet check: %d\n%s\n%s", r.code, r.stdout, r.stderr)
	}
}

// The pod of a .kube file gets its ConfigMap and its Secret as files, which go
// with it.
func TestSystemdQuadletKube(t *testing.T) {
	needSystemd(t)
	if linuxBefore(t, 6, 3) {
		t.Skip("this kernel cannot id-map a tmpfs, which is where the files of ConfigMaps are")
	}
	q := newQuadlets(t)
	ref := q.h.image("busybox")
	q.write(map[string]string{
		"web.kube": "[Kube]\nYaml=web.yaml\nNetwork=none\n",
		"web.yaml": fmt.Sprintf(`
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}
data: {greeting: "100%% $HOME"}
---
apiVersion: v1
kind: Secret
metadata: {name: secret}
stringData: {password: hunter2}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - name: main
    image: %q
    command: [sh, -c]
    args: ["cat /conf/greeting >/out/log; echo \" $PASSWORD\" >>/out/log; exec sleep 1000"]
    env: [{name: PASSWORD, valueFrom: {secretKeyRef: {name: secret, key: password}}}]
    volumeMounts: [{name: conf, mountPath: /conf}, {name: out, mountPath: /out}]
  volumes:
  - {name: conf, configMap: {name: conf}}
  - {name: out, persistentVolumeClaim: {claimName: kube-out}}
`, ref),
	})
	u := q.started("web.service")
	eventually(t, func() error {
		b, err := os.ReadFile("/var/lib/rkt/volumes/kube-out/log")
		if err == nil && string(b) != "100% $HOME hunter2\n" {
			err = fmt.Errorf("the app wrote %q", b)
		}
		return err
	})
	if text := mustTool(t, "systemctl", "cat", "web.service"); strings.Contains(text, "hunter2") {
		t.Error("the secret is in the unit")
	}
	u.stop()
	if _, err := os.Stat("/run/rkt-kube/web"); !os.IsNotExist(err) {
		t.Errorf("the files of the pod are left: %v", err)
	}
	q.h.must("volume", "rm", "kube-out")
}

// An image that is not there fails the unit that fetches it, with its message,
// and the service waits for nothing.
func TestSystemdQuadletMissingImage(t *testing.T) {
	q := newQuadlets(t)
	q.write(map[string]string{"gone.container": "[Container]\nImage=oci:/nonexistent\n"})
	r := tool(t, "systemctl", "start", "gone.service")
	if r.code == 0 {
		t.Fatal("gone.service has started")
	}
	fetch := ""
	for _, name := range strings.Fields(mustTool(t, "systemctl", "show", "--value", "--property=Requires", "gone.service")) {
		if strings.HasPrefix(name, "rkt-image-") {
			fetch = name
		}
	}
	journal := mustTool(t, "journalctl", "--boot", "--quiet", "--unit="+fetch, "--output=cat", "--no-pager")
	if !strings.Contains(journal, "/nonexistent") {
		t.Errorf("the journal of %s says %s", fetch, journal)
	}
	tool(t, "systemctl", "reset-failed", fetch)
}
