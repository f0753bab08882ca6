package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// packages are the Debian package of this version and of a later one.
func packages(t testing.TB) (now, next string) {
	t.Helper()
	needSystemd(t)
	now, next = program("rkt.deb"), program("next/rkt.deb")
	for _, p := range []string{now, next} {
		if _, err := os.Stat(p); err != nil {
			t.Skipf("no package (make test-packages-deb): %v", err)
		}
	}
	return now, next
}

// installPackage installs a package and purges it when the test is over.
func installPackage(t testing.TB, deb string) {
	t.Helper()
	t.Cleanup(func() { mustTool(t, "dpkg", "--purge", "rkt") })
	mustTool(t, "dpkg", "--install", deb)
}

// packaged runs the installed rkt, on the default folders.
func packaged(t testing.TB, args ...string) string {
	t.Helper()
	return mustTool(t, "/usr/bin/rkt", args...)
}

// podUnit makes a service that runs a pod of the installed rkt.
func podUnit(t testing.TB, name, ref, killMode string) *unit {
	t.Helper()
	return newUnit(t, name+".service", fmt.Sprintf(`[Unit]
Description=a pod of the package
[Service]
Type=exec
KillMode=%s
ExecStart=/usr/bin/rkt run --name=%s %s -- sleep 10000
`, killMode, name, ref))
}

func TestSystemdPackage(t *testing.T) {
	now, _ := packages(t)
	h := newHost(t)
	installPackage(t, now)

	for dir, want := range map[string]os.FileMode{"/var/lib/rkt": 0o700, "/run/rkt": 0o700} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v %v, want mode %o", dir, info, err, want)
		}
	}
	mustTool(t, "getent", "passwd", "rkt-fetch")
	for property, want := range map[string]string{"UnitFileState": "enabled", "ActiveState": "active"} {
		if got := (&unit{t: t, name: "rkt-gc.timer"}).property(property); got != want {
			t.Errorf("%s of the timer is %q, want %q", property, got, want)
		}
	}
	if wrong := mustTool(t, "dpkg", "--verify", "rkt"); wrong != "" && !strings.Contains(wrong, "/usr/share/") {
		t.Errorf("files of the package are not as packed:\n%s", wrong)
	}
	if got := packaged(t, "run", "--rm", h.image("busybox"), "--", "echo", "hello"); got != "hello" {
		t.Errorf("the installed rkt printed %q", got)
	}
	// Found by systemd: wrong lines of units are only warnings there.
	for _, u := range []string{"rkt-gc.service", "rkt-gc.timer"} {
		if r := tool(t, "systemd-analyze", "verify", "--man=no", u); r.code != 0 || strings.Contains(r.stderr, "rkt-gc") {
			t.Errorf("systemd-analyze verify %s: %d\n%s", u, r.code, r.stderr)
		}
	}
}

// Pods in units go on while the package is upgraded.
func TestSystemdPackageUpgrade(t *testing.T) {
	now, next := packages(t)
	h := newHost(t)
	ref := h.image("busybox")
	installPackage(t, now)
	u := podUnit(t, "rkt-web", ref, "mixed")
	u.start()
	eventually(t, func() error {
		if r := tool(t, "/usr/bin/rkt", "status", "--wait-ready=1s", "rkt-web"); r.code != 0 {
			return fmt.Errorf("not ready: %s", r.stderr)
		}
		return nil
	})
	supervisor, before := u.property("MainPID"), packaged(t, "version")
	mustTool(t, "systemctl", "disable", "--now", "rkt-gc.timer")

	mustTool(t, "dpkg", "--install", next)
	if after := packaged(t, "version"); after == before {
		t.Fatalf("nothing was upgraded: both are %q", before)
	}
	if got := u.property("MainPID"); got != supervisor {
		t.Errorf("the supervisor was %s before the upgrade and is %s", supervisor, got)
	}
	if got := (&unit{t: t, name: "rkt-gc.timer"}).property("UnitFileState"); got != "disabled" {
		t.Errorf("the timer that was disabled is %q after the upgrade", got)
	}
	if got := packaged(t, "enter", "rkt-web", "--", "cat", "/proc/1/comm"); got != "sleep" {
		t.Errorf("enter found %q as the first process", got)
	}
	mustTool(t, "systemctl", "start", "rkt-gc.service")
	u.becomes("ActiveState", "active")

	// Nor is it stopped by a removal, and its files stay.
	mustTool(t, "dpkg", "--purge", "rkt")
	if got := u.property("MainPID"); got != supervisor {
		t.Errorf("the supervisor was %s before the purge and is %s", supervisor, got)
	}
	if pods, _ := filepath.Glob("/var/lib/rkt/pods/run/*"); len(pods) != 1 {
		t.Errorf("after a purge with a running pod there are the pods %q", pods)
	}
	mustTool(t, "dpkg", "--install", next)
	packaged(t, "stop", "rkt-web")
	u.becomes("MainPID", "0")
	packaged(t, "gc", "--grace-period=0")
	mustTool(t, "dpkg", "--purge", "rkt")
	for _, dir := range []string{"/var/lib/rkt", "/run/rkt"} {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is left after a purge: %v", dir, err)
		}
	}
}

// The service that collects does so under its own restrictions: pods that are
// over, what a killed supervisor left, images that nobody needs.
func TestSystemdPackageCollects(t *testing.T) {
	now, _ := packages(t)
	h := newHost(t)
	ref := h.image("busybox")
	installPackage(t, now)
	const dropIn = "/run/systemd/system/rkt-gc.service.d"
	if err := os.MkdirAll(dropIn, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		os.RemoveAll(dropIn)
		mustTool(t, "systemctl", "daemon-reload")
	})
	text := "[Service]\nExecStart=\nExecStart=/usr/bin/rkt gc --grace-period=0 --expire-prepared=0\nExecStart=/usr/bin/rkt gc --images --quiet\n"
	if err := os.WriteFile(filepath.Join(dropIn, "now.conf"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	mustTool(t, "systemctl", "daemon-reload")

	packaged(t, "run", "--name=over", ref, "--", "true")
	packaged(t, "prepare", "--name=prepared", ref)
	u := podUnit(t, "rkt-orphan", ref, "process") // else systemd takes the app along
	u.start()
	eventually(t, func() error {
		if r := tool(t, "/usr/bin/rkt", "status", "--wait-ready=1s", "rkt-orphan"); r.code != 0 {
			return fmt.Errorf("not ready: %s", r.stderr)
		}
		return nil
	})
	var supervisor int
	fmt.Sscan(u.property("MainPID"), &supervisor)
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	u.becomes("MainPID", "0")
	if got := packaged(t, "list", "--no-legend"); !strings.Contains(got, "orphaned") {
		t.Errorf("the killed pod is not orphaned:\n%s", got)
	}
	for _, id := range strings.Fields(packaged(t, "image", "list", "--no-legend", "--fields=id", "--full")) {
		packaged(t, "image", "rm", id)
	}
	gc := &unit{t: t, name: "rkt-gc.service"}
	if r := tool(t, "systemctl", "start", gc.name); r.code != 0 {
		t.Errorf("rkt-gc.service failed: %s\n%s", r.stderr, gc.journal())
	}
	if left := packaged(t, "list", "--no-legend"); left != "" {
		t.Errorf("pods are left:\n%s\n%s", left, gc.journal())
	}
	if blobs, _ := filepath.Glob("/var/lib/rkt/cas/blobs/sha256/*"); len(blobs) > 0 {
		t.Errorf("%d blobs are left: %s", len(blobs), gc.journal())
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), "/run/rkt/") {
		t.Errorf("mounts are left (%v):\n%s", err, grep(string(mounts), "/run/rkt"))
	}
}
