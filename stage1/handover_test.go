package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// listen makes a socket that a service manager would pass on.
func listenSocket(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Listen(fd, 1)
	}
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "socket")
	t.Cleanup(func() { f.Close() })
	return f
}

// handSockets passes sockets with the names to the supervisor.
func (p *testPod) handSockets(names ...string) func(*exec.Cmd) {
	var files []*os.File
	if p.host.Unit == nil {
		p.unit(nil)
	}
	for i, name := range names {
		files = append(files, listenSocket(p.t.(*testing.T)))
		p.host.Unit.Sockets = append(p.host.Unit.Sockets, contract.Socket{FD: 4 + i, Name: name})
	}
	return func(c *exec.Cmd) { c.ExtraFiles = append(c.ExtraFiles, files...) }
}

// showSockets prints what the app was told of its sockets, and what it has open.
const showSockets = `echo "$LISTEN_FDS $LISTEN_FDNAMES $LISTEN_PID $$"
f=3; while [ $f -lt 64 ]; do [ -e /proc/$$/fd/$f ] && echo "$f $(readlink /proc/$$/fd/$f)"; f=$((f + 1)); done`

func TestSocketsReachTheirAppsAndSurviveARestart(t *testing.T) {
	for _, test := range []struct {
		name  string
		init  bool
		take  []string
		want  string
		count int
	}{
		{"all", false, []string{contract.Every}, "3 http:admin:http 1 1", 3},
		{"by name under an init", true, []string{"http"}, "2 http:http 2 2", 2},
		{"none", false, nil, "   1", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPod(t, script(showSockets, "exit 1"))
			p.apps["a"].Init, p.apps["a"].Sockets = test.init, test.take
			p.apps["a"].Restart = contract.Restart{Policy: contract.RestartOnFailure, Max: 1}
			if test.take != nil { // what an image says of these is not true then
				p.specs["a"].Process.Env = append(p.specs["a"].Process.Env, "LISTEN_FDS=9", "LISTEN_PID=9")
			}
			_, stdout, stderr := p.run(p.handSockets("http", "admin", "http"))
			lines := strings.Split(strings.TrimRight(stdout, "\n"), "\n")
			half := len(lines) / 2
			if half != 1+test.count || lines[0] != test.want || !slices.Equal(lines[:half], lines[half:]) {
				t.Errorf("the app saw %q, stderr %q, want %q and %d sockets, twice the same", lines, stderr, test.want, test.count)
			}
			for i, line := range lines[1:half] {
				if !strings.HasPrefix(line, strconv.Itoa(3+i)+" socket:") {
					t.Errorf("open files %q, want sockets from 3 on", lines[1:half])
				}
			}
			p.checkClean()
		})
	}
}

func TestForbiddenFilesAreNoSockets(t *testing.T) {
	for _, test := range []struct {
		open func() (*os.File, error)
		want string
	}{
		{func() (*os.File, error) { return os.Open("/") }, "directory"},
		{func() (*os.File, error) { return os.OpenFile("/etc/passwd", unix.O_PATH, 0) }, "without access"},
		{func() (*os.File, error) { return os.Open("/dev/null") }, "neither a socket"},
	} {
		p := newPod(t, []string{"true"})
		p.apps["a"].Sockets = []string{contract.Every}
		p.unit(nil).Sockets = []contract.Socket{{FD: 4, Name: "x"}}
		f, err := test.open()
		p.must(err)
		code, _, stderr := p.run(func(c *exec.Cmd) { c.ExtraFiles = append(c.ExtraFiles, f) })
		f.Close()
		if code != contract.ExitFailure || !strings.Contains(stderr, test.want) {
			t.Errorf("exit code %d, stderr %q, want %q", code, stderr, test.want)
		}
		p.checkClean()
	}
}

// A pod whose unit is started again is in the same cgroup as the one before. What
// is alive there is not the dead one's.
func TestGCInAUnitSparesALaterPod(t *testing.T) {
	first, second := newPod(t, []string{"true"}), newPod(t, []string{"sleep", "1000"})
	if first.host.Cgroup.V2 == "" {
		t.Skip("needs the unified hierarchy")
	}
	base := filepath.Dir(first.host.Cgroup.V2)
	unit := filepath.Join(base, "test-"+newUUID()+".service")
	first.must(os.Mkdir(unit, 0o755))
	t.Cleanup(func() { _ = unix.Rmdir(unit) })
	for _, p := range []*testPod{first, second} {
		for _, dir := range p.cgroupFolders() {
			removeTree(t, dir)
		}
		p.host.Cgroup = contract.Cgroup{V2: unit, Mark: p.pod.UUID}
	}
	app := filepath.Join(unit, "app.a")
	mark := func(uuid string) {
		first.must(os.MkdirAll(filepath.Join(app, "main"), 0o755))
		first.must(unix.Setxattr(app, contract.MarkAttr, []byte(uuid), 0))
	}
	mark(first.pod.UUID)
	if code, _, stderr := first.run(); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	if _, err := os.Stat(app); err == nil {
		t.Error("the app's cgroup is left")
	}
	mark(second.pod.UUID)
	r := second.start()
	second.await(contract.ReadyFile)
	for _, entry := range [][]string{{"gc"}, {"stop", "--force"}} {
		if out, err := first.entry(entry...).CombinedOutput(); err != nil {
			t.Errorf("%v of the earlier pod: %v: %s", entry, err, out)
		}
	}
	select {
	case <-r.done:
		t.Fatal("the later pod has ended")
	default:
	}
	if _, err := os.Stat(app); err != nil {
		t.Errorf("the later pod's cgroup: %v", err)
	}
	second.must(second.entry("stop").Run())
	r.wait()
	if _, err := os.Stat(app); err == nil {
		t.Error("the app's cgroup is left")
	}
}

// removeTree removes a cgroup and all below it.
func removeTree(t *testing.T, dir string) {
	t.Helper()
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	slices.Reverse(dirs)
	for _, d := range dirs {
		err = errors.Join(err, unix.Rmdir(d))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// credentials makes a folder as systemd does.
func (p *testPod) credentials(names ...string) {
	dir := filepath.Join(p.pods, "credentials")
	p.must(os.Mkdir(dir, 0o700))
	for _, name := range names {
		p.must(os.WriteFile(filepath.Join(dir, name), []byte("secret of "+name), 0o400))
	}
	if p.host.Unit == nil {
		p.unit(nil)
	}
	p.host.Unit.Credentials = dir
}

func TestCredentialsAreTheUsersAlone(t *testing.T) {
	p := newPod(t, script(
		`cd "$CREDENTIALS_DIRECTORY" && pwd`, `ls -lna | tail -n +2`, `cat one two; echo`,
		`echo x >one; echo x >three; cat /proc/self/mountinfo | busybox grep credentials`), script(`ls -a "$CREDENTIALS_DIRECTORY"; ls /run/host; true`)) // a failure of b would end a
	p.credentials("one", "two")
	p.apps["a"].Credentials = []string{contract.Every}
	p.specs["a"].Process.User = specs.User{UID: 1000, GID: 1001}
	p.specs["a"].Process.Capabilities.Permitted, p.specs["a"].Process.Capabilities.Effective = nil, nil
	_, stdout, stderr := p.run()
	for _, want := range []string{
		contract.CredentialsPath + "\n", "secret of onesecret of two\n", "dr-x------", "-r--------    1 1000     1001", "ramfs", " ro,nosuid,nodev,noexec",
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the app says %q, want %q in it", stdout, want)
		}
	}
	if strings.Count(stderr, "Read-only file system")+strings.Count(stderr, "Permission denied") != 2 {
		t.Errorf("stderr %q, want that nothing can be written", stderr)
	}
	p.checkClean()
}

func TestCredentialsByName(t *testing.T) {
	p := newPod(t, script(`cd $CREDENTIALS_DIRECTORY && ls`), script(`echo "other: $CREDENTIALS_DIRECTORY"; ls /run/host 2>&1`))
	p.credentials("one", "two")
	p.apps["a"].Credentials = []string{"two"}
	_, stdout, _ := p.run()
	if !strings.Contains(stdout, "two\n") || strings.Contains(stdout, "one\n") || !strings.Contains(stdout, "other: \n") {
		t.Errorf("the apps say %q", stdout)
	}
	p.checkClean()

	p = newPod(t, []string{"true"})
	p.credentials("one")
	p.apps["a"].Credentials = []string{"missing"}
	code, _, stderr := p.run()
	if code != contract.ExitFailure || !strings.Contains(stderr, `there is no credential "missing"`) {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	p.checkClean()
}

func TestHostileCredentials(t *testing.T) {
	for _, test := range []struct {
		name, want string
		make       func(dir string) error
	}{
		{"link", "too many levels", func(dir string) error { return os.Symlink("/etc/shadow", filepath.Join(dir, "x")) }},
		{"fifo", "not a regular file", func(dir string) error { return unix.Mkfifo(filepath.Join(dir, "x"), 0o600) }},
		{"large", "larger than", func(dir string) error { return os.WriteFile(filepath.Join(dir, "x"), make([]byte, 2<<20+1), 0o600) }},
		{"gone", "no such file", os.RemoveAll},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPod(t, []string{"true"})
			p.credentials()
			p.apps["a"].Credentials = []string{contract.Every}
			p.must(test.make(p.host.Unit.Credentials))
			code, _, stderr := p.run()
			if code != contract.ExitFailure || !strings.Contains(stderr, test.want) {
				t.Errorf("exit code %d, stderr %q, want %q", code, stderr, test.want)
			}
			p.checkClean()
		})
	}
}
