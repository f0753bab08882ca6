package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A volume brings what is mounted below it, but for mount namespaces, such as
// that of the layers is: the kernel would refuse the whole tree.
func TestVolumesLeaveMountNamespacesBehind(t *testing.T) {
	dir := t.TempDir()
	below, ns := filepath.Join(dir, "below"), filepath.Join(dir, "ns")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ns, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mount := func(source, target, kind string, flags uintptr) {
		t.Helper()
		if err := unix.Mount(source, target, kind, flags, ""); err != nil {
			t.Fatalf("mount %q on %q: %v", source, target, err)
		}
		t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
	}
	mount(dir, dir, "", unix.MS_BIND)
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	mount("tmpfs", below, "tmpfs", 0)
	if err := os.WriteFile(filepath.Join(below, "x"), []byte("below\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("unshare", "--mount="+ns, "true").CombinedOutput(); err != nil {
		t.Fatalf("make a mount namespace: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = unix.Unmount(ns, unix.MNT_DETACH) })

	p := newPod(t, script("cat /data/below/x && test -e /data/ns && ! grep -q nsfs /proc/self/mountinfo"))
	p.specs["a"].Mounts = append(p.specs["a"].Mounts,
		specs.Mount{Destination: "/data", Type: "bind", Source: dir, Options: []string{"rbind"}})
	code, stdout, stderr := p.run()
	if code != 0 || stdout != "below\n" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	p.checkClean()
}
