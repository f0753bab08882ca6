package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestRunPassesStreamsAndExitCodes(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")

	r := h.rktWith(func(c *exec.Cmd) { c.Stdin = strings.NewReader("from the caller\n") },
		"run", "--rm", ref, "--", "sh", "-c", "cat; echo to stderr >&2; exit 7")
	if r.code != 7 || r.stdout != "from the caller\n" || !strings.Contains(r.stderr, "to stderr\n") {
		t.Errorf("got code %d stdout %q stderr %q", r.code, r.stdout, r.stderr)
	}
	for _, c := range []struct {
		name, command string
		code          int
	}{
		{"success", "exit 0", 0},
		{"largest code", "exit 255", 255},
		{"killed by itself", "kill -KILL $$; kill -9 0", 0},
	} {
		if c.name == "killed by itself" {
			// Pid 1 cannot kill itself; its child can, and the shell says so.
			c.command, c.code = "sh -c 'kill -9 $$'; exit $?", 137
		}
		if got := h.rkt("run", "--rm", ref, "--", "sh", "-c", c.command).code; got != c.code {
			t.Errorf("%s: exit code %d, want %d", c.name, got, c.code)
		}
	}
}

func TestRunTellsThreeKindsOfCommandsThatCannotRunApart(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	for _, c := range []struct {
		name string
		argv []string
		code int
		want string
	}{
		{"missing by name", []string{"no-such-command"}, 127, "not found"},
		{"missing by path", []string{"/no/such/command"}, 127, "not found"},
		{"not executable", []string{"/etc/passwd"}, 126, "not executable"},
		{"a folder", []string{"/etc"}, 126, "not executable"},
		{"interpreter missing", []string{"/vol/script"}, 126, "interpreter"},
	} {
		t.Run(c.name, func(t *testing.T) {
			vol := t.TempDir()
			write(t, filepath.Join(vol, "script"), "#!/no/such/interpreter\n")
			if err := os.Chmod(filepath.Join(vol, "script"), 0o755); err != nil {
				t.Fatal(err)
			}
			r := h.rkt(append([]string{"run", "--rm", ref, "-v", vol + ":/vol:ro", "--"}, c.argv...)...)
			if r.code != c.code || !strings.Contains(r.stderr, c.want) || !strings.Contains(r.stderr, c.argv[0]) {
				t.Errorf("exit code %d, want %d with %q\n%s", r.code, c.code, c.want, r.stderr)
			}
		})
	}
}

func TestRunAppliesTheOptionsOfAnApp(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	envFile := filepath.Join(t.TempDir(), "env")
	write(t, envFile, "# a comment\nFROM_FILE=file\nBOTH=file\n")
	script := `echo "$(id -u):$(id -g) $(pwd) $FROM_FILE $BOTH $HOME $(umask) $(hostname)"`
	for _, c := range []struct {
		name  string
		flags []string
		want  string
	}{
		{"defaults", nil, "0:0 /   /root 0022 %HOST%"},
		{"named user", []string{"--user=app"}, "1000:1000 /   /home/app 0022 %HOST%"},
		{"numeric user", []string{"--user=4242:50"}, "4242:50 /   / 0022 %HOST%"},
		{"user and group", []string{"--user=app", "--group=staff"}, "1000:50 /   /home/app 0022 %HOST%"},
		{"working directory", []string{"--working-dir=/tmp"}, "0:0 /tmp   /root 0022 %HOST%"},
		{"environment", []string{"--env-file=" + envFile, "-e", "BOTH=flag"}, "0:0 / file flag /root 0022 %HOST%"},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"run", "--rm", "--hostname=box", ref}, c.flags...)
			got := h.must(append(args, "--", "sh", "-c", script)...)
			if want := strings.ReplaceAll(c.want, "%HOST%", "box"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	if got := h.must("run", "--rm", ref, "--exec=/bin/echo", "--", "replaced"); got != "replaced" {
		t.Errorf("--exec: got %q", got)
	}
	r := h.rkt("run", "--rm", ref, "--readonly-rootfs", "--", "sh", "-c", "echo x > /file; echo y > /tmp/file; echo done")
	if !strings.Contains(r.stderr, "Read-only file system") {
		t.Errorf("--readonly-rootfs: the root could be written: %q %q", r.stdout, r.stderr)
	}
	if got := h.must("run", "--rm", ref, "--readonly-rootfs", "--tmpfs=/scratch:size=1m", "--", "sh", "-c",
		"echo ok > /scratch/f; cat /scratch/f; df -m /scratch | awk 'NR==2 {print $2}'"); got != "ok\n1" {
		t.Errorf("--tmpfs: got %q", got)
	}
}

func TestRunSeveralAppsShareThePod(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	out := h.must("run", "--rm", "--name=pair", "--volume=shared,kind=empty",
		ref, "--name=writer", "--mount=volume=shared,target=/data", "--", "sh", "-c", "readlink /proc/self/ns/ipc > /data/ns; echo hello > /data/said; mv /data/said /data/ready",
		"---", ref, "--name=reader", "--mount=volume=shared,target=/data", "--", "sh", "-c",
		"while ! test -e /data/ready; do usleep 1000; done; cat /data/ready; test $(cat /data/ns) = $(readlink /proc/self/ns/ipc) && echo same ipc")
	if out != "hello\nsame ipc" {
		t.Errorf("got %q", out)
	}
	r := h.rkt("run", "--rm", ref, "--name=ends", "--", "sh", "-c", "exit 5", "---", ref, "--name=stays", "--", "sleep", "1000")
	if r.code != 5 {
		t.Errorf("the first failure must end the pod with its code: got %d", r.code)
	}
}

func TestRunVolumesKeepTheOwnersOnDisk(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "mine"), "host's\n")
	if err := os.Chown(filepath.Join(dir, "mine"), 1000, 50); err != nil {
		t.Fatal(err)
	}
	got := h.must("run", "--rm", ref, "--user=app", "-v", dir+":/data", "--", "sh", "-c", "stat -c %u:%g /data/mine; echo new > /data/new; cat /data/mine")
	if got != "1000:50\nhost's" {
		t.Errorf("inside: got %q", got)
	}
	if owner := ownerOf(t, filepath.Join(dir, "new")); owner != "1000:1000" {
		t.Errorf("a file made inside by 1000 belongs to %s on the host", owner)
	}
	r := h.rkt("run", "--rm", ref, "-v", dir+":/data:ro", "--", "sh", "-c", "echo x > /data/x")
	if r.code == 0 || !strings.Contains(r.stderr, "Read-only") {
		t.Errorf(":ro could be written: %d %q", r.code, r.stderr)
	}
	r = h.rkt("run", "--rm", "--volume=v,kind=host,source="+dir+",readOnly=true", ref, "--mount=volume=v,target=/a/deep/place", "--", "cat", "/a/deep/place/mine")
	if r.stdout != "host's\n" {
		t.Errorf("--volume kind=host: got %q %q", r.stdout, r.stderr)
	}
}

func ownerOf(t testing.TB, path string) string {
	t.Helper()
	out, err := exec.Command("stat", "-c", "%u:%g", path).CombinedOutput()
	if err != nil {
		t.Fatalf("stat %s: %s", path, out)
	}
	return strings.TrimSpace(string(out))
}

func TestRunLimits(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	r := h.rkt("run", "--name=hungry", ref, "--memory=16M", "--", "sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M count=1")
	if r.code != 137 && r.code != 1 {
		t.Errorf("64 MB within 16 MB: exit code %d, %q", r.code, r.stderr)
	}
	if status := h.must("status", "--format=json", h.firstPod()); !strings.Contains(status, `"oom":true`) {
		t.Errorf("status does not tell that memory ran out: %s", status)
	}
	r = h.rkt("run", "--rm", ref, "--pids=8", "--", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done; wait")
	if !strings.Contains(r.stderr, "can't fork") && !strings.Contains(r.stderr, "Resource temporarily unavailable") {
		t.Errorf("--pids=8 let 12 processes start: %d %q", r.code, r.stderr)
	}
	if got := h.must("run", "--rm", ref, "--cpu=500m", "--cpu-shares=512", "--", "echo", "ok"); got != "ok" {
		t.Errorf("cpu limits: got %q", got)
	}
}

// firstPod is the UUID of the only pod of h.
func (h *host) firstPod() string {
	h.t.Helper()
	uuid, _, _ := strings.Cut(strings.TrimSpace(h.must("list", "--full", "--no-legend")), " ")
	return uuid
}

func TestRunMakesTheFilesThatProgramsExpect(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	got := h.must("run", "--rm", "--hostname=box", ref, "--", "sh", "-c",
		`grep -c localhost /etc/hosts; grep -q box /etc/hosts && echo named; test -f /etc/resolv.conf && echo resolv; cat /etc/hostname; df /dev/shm | tail -1 | awk '{print $1}'; echo x > /dev/stdout; test -c /dev/null && echo null; ls /proc/self/fd | wc -l`)
	lines := strings.Split(got, "\n")
	if len(lines) != 8 || lines[1] != "named" || lines[2] != "resolv" || lines[3] != "box" || lines[5] != "x" || lines[6] != "null" {
		t.Errorf("got %q", got)
	}
}

func TestRunUUIDFileAndExplain(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	file := filepath.Join(t.TempDir(), "uuid")
	h.must("run", "--uuid-file-save="+file, ref, "--", "true")
	b, err := os.ReadFile(file)
	if err != nil || len(strings.TrimSpace(string(b))) != 36 {
		t.Errorf("uuid file: %q %v", b, err)
	}
	plan := h.must("run", "--explain", ref, "--", "true")
	for _, call := range []string{"pivot_root", "prctl", "seccomp", "execve", "setresuid", "move_mount"} {
		if !strings.Contains(plan, call) {
			t.Errorf("--explain lacks %s:\n%s", call, plan)
		}
	}
	if n := strings.Count(h.must("list", "--no-legend"), "\n"); n > 0 {
		t.Errorf("--explain left a pod")
	}
}

func TestPrepareThenRunPrepared(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	uuid := h.must("prepare", "--quiet", "--name=later", ref, "--", "echo", "ran")
	if len(uuid) != 36 {
		t.Fatalf("prepare --quiet printed %q", uuid)
	}
	if !strings.Contains(h.must("list", "--no-legend"), "prepared") {
		t.Errorf("list does not show the prepared pod")
	}
	// The image may go: the pod keeps what it needs.
	h.must("image", "rm", ref)
	h.must("gc", "--images")
	if got := h.must("run-prepared", "later"); got != "ran" {
		t.Errorf("run-prepared: got %q", got)
	}
	h.refuses([]string{"run-prepared", uuid}, "not prepared")
}

func TestInteractiveHasARealTerminal(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	// script(1) gives rkt a terminal of its own and hands it our input.
	args := strings.Join(h.command(t.Context(), "run", "--rm", "--interactive", ref, "--", "sh", "-c", "tty; test -t 0 && test -t 1 && echo terminal; stty size").Args, " ")
	args = strings.Replace(args, "sh -c ", "sh -c '", 1) + "'"
	cmd := exec.Command("script", "-qec", "stty rows 31 cols 97; "+args, "/dev/null")
	cmd.Stdin = strings.NewReader("")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"/dev/", "terminal", "31 97"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the terminal's output lacks %q: %q", want, out)
		}
	}
}

func TestFlyRunsInTheHostsNamespaces(t *testing.T) {
	h := newHost(t)
	ref := h.image("busybox")
	hostNet, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	got := h.must("run", "--rm", "--stage1-name=fly", "--net=host", "--private-users=no", ref, "--", "sh", "-c", "readlink /proc/self/ns/net; test -e /bin/busybox && echo chrooted")
	if got != fmt.Sprintf("%s\nchrooted", hostNet) {
		t.Errorf("got %q", got)
	}
	h.refuses([]string{"run", "--rm", "--stage1-name=fly", "--net=host", "--private-users=no", ref, "---", ref}, "fly")
}
