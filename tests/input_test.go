package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Bad input gets one clear line, rkt's own exit code, and changes nothing.
func TestBadInput(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	missing := filepath.Join(t.TempDir(), "missing")
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"unknown flag", []string{"run", "--no-such-flag", ref}, []string{"--no-such-flag"}},
		{"unknown verb", []string{"rnu", ref}, []string{"rnu"}},
		{"no image", []string{"run"}, []string{"image"}},
		{"app flag before an image", []string{"run", "--exec=/bin/sh", ref}, []string{"--exec"}},
		{"unknown user", []string{"run", ref, "--user=nobodyknows"}, []string{"nobodyknows"}},
		{"unknown group", []string{"run", ref, "--group=nogroupknows"}, []string{"nogroupknows"}},
		{"user out of range", []string{"run", ref, "--user=4294967296"}, []string{"4294967296"}},
		{"hexadecimal user", []string{"run", ref, "--user=0x0"}, []string{"0x0"}},
		{"missing volume source", []string{"run", ref, "-v", missing + ":/x"}, []string{missing}},
		{"relative volume target", []string{"run", ref, "-v", "/tmp:x"}, []string{"absolute"}},
		{"unmatched volume", []string{"run", "--volume=v,kind=host,source=/tmp", ref, "--mount=volume=other,target=/x"}, []string{"other"}},
		{"two apps of a name", []string{"run", ref, "--name=a", "---", ref, "--name=a"}, []string{"a"}},
		{"bad hostname", []string{"run", "--hostname=a\nb", ref}, []string{"hostname"}},
		{"bad pod name", []string{"run", "--name=../x", ref}, []string{"name"}},
		{"bad variable", []string{"run", ref, "-e", "=x"}, []string{"environment"}},
		{"odd unit of memory", []string{"run", ref, "--memory=16x"}, []string{"memory", "16x"}},
		{"bad net", []string{"run", "--net=nonsense", ref}, []string{"nonsense"}},
		{"working dir in proc", []string{"run", ref, "--working-dir=/proc/self/fd/3"}, []string{"/proc"}},
		{"foreign transport", []string{"fetch", "docker-daemon:busybox"}, []string{"docker-daemon:", "not supported"}},
		{"nothing on stdin", []string{"fetch", "-"}, []string{"empty"}},
		{"missing layout", []string{"run", "oci:" + missing}, []string{missing}},
		{"bad reference", []string{"fetch", "UPPER/case:tag:tag"}, []string{"UPPER"}},
		{"short digest", []string{"fetch", "example.com/a@sha256:abc"}, []string{"digest"}},
		{"no such stage1", []string{"run", "--stage1-name=none", ref}, []string{"none"}},
		{"no such pod", []string{"enter", "ffffffff", "--", "true"}, []string{"ffffffff"}},
	} {
		t.Run(c.name, func(t *testing.T) { h.refuses(c.args, c.want...) })
	}
	if left := h.must("list", "--no-legend"); left != "" {
		t.Errorf("pods are left:\n%s", left)
	}
}

// A mount that cannot be id-mapped is named, also when it is below the volume.
func TestMountThatCannotBeMappedIsNamed(t *testing.T) {
	h := newHost(t)
	below := filepath.Join(t.TempDir(), "some thing")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("sysfs", below, "sysfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(below, syscall.MNT_DETACH)
	r := h.rkt("run", "--rm", h.image("busybox"), "-v", filepath.Dir(below)+":/x", "--", "true")
	if r.code != 125 || !strings.Contains(r.stderr, below) || !strings.Contains(r.stderr, "id-mapped") {
		t.Errorf("exit code %d, want 125 and %q named:\n%s", r.code, below, r.stderr)
	}
}

// -e NAME passes the caller's own value, and nothing if there is none.
func TestVariableOfTheCaller(t *testing.T) {
	h := newHost(t)
	r := h.rktWith(func(c *exec.Cmd) { c.Env = append(os.Environ(), "RKT_TEST_GIVEN=a b") },
		"run", "--rm", "-e", "RKT_TEST_MISSING", h.image("busybox"), "-e", "RKT_TEST_GIVEN", "--memory=64m", "--", "env")
	if r.code != 0 || !strings.Contains(r.stdout, "RKT_TEST_GIVEN=a b\n") || strings.Contains(r.stdout, "MISSING") {
		t.Errorf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
	}
}

// list tells how each app ended.
func TestListShowsExitCodes(t *testing.T) {
	h := newHost(t)
	if r := h.rkt("run", "--name=seven", h.image("busybox"), "--", "sh", "-c", "exit 7"); r.code != 7 {
		t.Fatalf("exit code %d: %s", r.code, r.stderr)
	}
	out := h.must("list")
	header, line, _ := strings.Cut(out, "\n")
	if at := strings.Index(header, "EXIT"); at < 0 || !strings.HasPrefix(line[min(at, len(line)):], "7 ") {
		t.Errorf("no exit code 7 in\n%s", out)
	}
}

// A name that a later pod took over is shown with none but that one.
func TestNameIsShownWhereItLeads(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	h.must("run", "--name=web", "--uuid-file-save="+h.conf+"/first", ref, "--", "true")
	if got := h.state("web"); got != "exited" {
		t.Fatalf("the first pod is %s", got)
	}
	h.must("run", "--name=web", "--uuid-file-save="+h.conf+"/second", ref, "--", "true")
	second, err := os.ReadFile(h.conf + "/second")
	if err != nil {
		t.Fatal(err)
	}
	if out := h.must("status", "web"); !strings.Contains(out, "uuid="+string(second)) {
		t.Errorf("status of the name is not that of the second pod:\n%s", out)
	}
	out := h.must("list", "--full", "--no-legend")
	if n := strings.Count(out, " web "); n != 1 || !strings.Contains(out, strings.TrimSpace(string(second))+"  web ") {
		t.Errorf("the name is shown %d times:\n%s", n, out)
	}
}

// --debug tells the steps of a start with their times, and nothing without it.
func TestDebugTellsSteps(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	h.must("fetch", ref)
	r := h.rkt("--debug", "run", "--rm", ref, "--", "echo", "hello")
	if r.code != 0 || r.stdout != "hello\n" {
		t.Errorf("exit code %d\n%s", r.code, r.stdout)
	}
	for _, step := range []string{"opened the store", "found the image", "wrote the pod down", "mounted the layers", "becomes ", "took=", "ms"} {
		if !strings.Contains(r.stderr, step) {
			t.Errorf("the steps lack %q:\n%s", step, r.stderr)
		}
	}
	if r := h.rkt("run", "--rm", ref, "--", "true"); r.stderr != "" {
		t.Errorf("without --debug: %s", r.stderr)
	}
}

func TestOtherUsersAreTurnedAway(t *testing.T) {
	h := newHost(t)
	for _, verb := range [][]string{{"run", "oci:/x"}, {"fetch", "oci:/x"}, {"gc"}, {"enter", "x"}, {"prepare", "oci:/x"}, {"rm", "x"}} {
		r := h.rktWith(func(c *exec.Cmd) {
			c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			c.Dir = "/"
		}, verb...)
		r.assertRefusal(t, "root")
	}
}

func TestHelpHasAnExampleForEachVerb(t *testing.T) {
	h := newHost(t)
	for _, verb := range []string{"run", "fetch", "prepare", "run-prepared", "enter", "list", "status", "stop", "rm", "gc", "fsck", "cat-manifest", "trust add", "image list", "image rm", "version"} {
		out := h.must(append(strings.Fields(verb), "--help")...)
		if !strings.Contains(out, "rkt "+strings.Fields(verb)[0]) || !strings.Contains(strings.ToLower(out), "example") {
			t.Errorf("%s --help has no example:\n%s", verb, out)
		}
	}
}

// Without user namespaces the default isolation is refused, with the way out.
func TestNoUserNamespaces(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	// The limit belongs to a user namespace: rkt runs as root of one that may
	// make none below it.
	args := h.command(t.Context(), "run", "--rm", ref, "--", "true").Args
	cmd := exec.Command("unshare", append([]string{"--user", "--map-root-user", "sh", "-c", "echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"", "sh"}, args...)...)
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 125 || !strings.Contains(string(out), "max_user_namespaces") || !strings.Contains(string(out), "--private-users=no") {
		t.Errorf("exit code %d, %s", cmd.ProcessState.ExitCode(), out)
	}
}
