package compile

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/stage1/program"
)

// canary is a folder of the host that no image may reach.
type canary struct {
	t      *testing.T
	dir    string
	before string
}

func newCanary(t *testing.T) *canary {
	t.Helper()
	c := &canary{t: t, dir: t.TempDir()}
	// What a pod's root could write if it got there at all.
	if err := errors.Join(
		os.MkdirAll(filepath.Join(c.dir, "dir/sub"), 0o777),
		os.WriteFile(filepath.Join(c.dir, "file"), []byte("the canary sings\n"), 0o666),
		os.WriteFile(filepath.Join(c.dir, "dir/file"), []byte("the canary sings\n"), 0o666),
		os.Chmod(c.dir, 0o777), os.Chmod(filepath.Join(c.dir, "dir"), 0o777), os.Chmod(filepath.Join(c.dir, "file"), 0o666),
	); err != nil {
		t.Fatal(err)
	}
	c.before = c.state()
	return c
}

// state is everything that can be seen of the canary.
func (c *canary) state() string {
	var s strings.Builder
	err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err := errors.Join(err, unix.Lstat(path, &st)); err != nil {
			return err
		}
		content := [32]byte{}
		if d.Type().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = sha256.Sum256(b)
		}
		fmt.Fprintln(&s, path, st.Mode, st.Nlink, st.Uid, st.Gid, st.Size, st.Mtim, st.Ctim, content)
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, c.dir) {
			s.WriteString(line)
		}
	}
	return s.String()
}

func (c *canary) check() {
	c.t.Helper()
	if after := c.state(); after != c.before {
		c.t.Errorf("the host has changed:\n%s\nwas:\n%s", after, c.before)
	}
}

// hostileScript looks for the canary and writes wherever it can.
const hostileScript = `
for d in / /dev /proc /sys /etc /vol /tmp; do cat $d/file $d/dir/file 2>/dev/null; echo spoilt 2>/dev/null > $d/file; done
stat -c '%F %t:%T' /dev/null
grep -c ' /proc proc ' /proc/self/mounts
grep -c ' /dev tmpfs ' /proc/self/mounts
echo end`

// hostileImages are images that lead rkt's own paths elsewhere. A start either
// is refused with the error, or happens inside of the root.
var hostileImages = []struct {
	name string
	make func(tr *trial, canary string)
	want string // the error, or "" = it starts
}{
	{"dev is a link to the host", func(tr *trial, c string) { tr.link(c, "dev") }, `mount tmpfs on "/dev": too many levels of symbolic links`},
	{"dev is a relative link to the host", func(tr *trial, c string) { tr.link("../../../../.."+c, "dev") }, `mount tmpfs on "/dev": too many levels of symbolic links`},
	{"dev is a link within the image", func(tr *trial, _ string) { tr.link("tmp", "dev") }, `mount tmpfs on "/dev": too many levels of symbolic links`},
	{"dev is a file", func(tr *trial, _ string) {
		tr.must(os.RemoveAll(filepath.Join(tr.image, "dev")))
		tr.write("dev", "", 0o666)
	}, `mount tmpfs on "/dev": not a directory`},
	{"dev is missing", func(tr *trial, _ string) { tr.must(os.RemoveAll(filepath.Join(tr.image, "dev"))) }, ""},
	{"nodes in dev are links", func(tr *trial, c string) {
		for _, n := range append(devices, "console", "ptmx", "fd", "stdin", "core") {
			tr.link(c+"/file", "dev/"+n)
		}
		for _, n := range []string{"pts", "shm", "mqueue"} {
			tr.link(c+"/dir", "dev/"+n)
		}
	}, ""},
	{"null is a file", func(tr *trial, _ string) { tr.write("dev/null", "not null", 0o666) }, ""},
	{"null is a folder", func(tr *trial, _ string) { tr.must(os.Mkdir(filepath.Join(tr.image, "dev/null"), 0o777)) }, ""},
	{"null is another device", func(tr *trial, _ string) {
		tr.must(unix.Mknod(filepath.Join(tr.image, "dev/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))))
	}, ""},
	{"proc is a link", func(tr *trial, c string) { tr.link(c+"/dir", "proc") }, `mount proc on "/proc": too many levels of symbolic links`},
	{"proc has files", func(tr *trial, _ string) { tr.write("proc/self/attr/exec", "", 0o666) }, ""},
	{"proc is a fifo", func(tr *trial, _ string) {
		tr.must(os.RemoveAll(filepath.Join(tr.image, "proc")))
		tr.must(unix.Mkfifo(filepath.Join(tr.image, "proc"), 0o666))
	}, `mount proc on "/proc": not a directory`},
	{"sys is a link", func(tr *trial, c string) { tr.link(c, "sys") }, `mount sysfs on "/sys": too many levels of symbolic links`},
	{"etc is a link to a folder of the host", func(tr *trial, c string) { tr.link(c+"/dir", "etc") }, `mount volume on "/etc/hosts": file exists`},
	{"etc is a link upwards", func(tr *trial, _ string) { tr.link("../../../tmp", "etc") }, ""},
	{"etc/hosts is a link to the host", func(tr *trial, c string) { tr.link(c+"/file", "etc/hosts") }, ""},
	{"etc/hosts is a loop", func(tr *trial, _ string) { tr.link("hosts", "etc/hosts") }, `mount volume on "/etc/hosts": too many levels of symbolic links`},
	{"etc/hosts dangles", func(tr *trial, _ string) { tr.link("/run/no/such", "etc/hosts") }, ""},
	{"etc/hosts is a folder", func(tr *trial, _ string) { tr.must(os.Mkdir(filepath.Join(tr.image, "etc/hosts"), 0o777)) }, `mount volume on "/etc/hosts": invalid argument`},
	{"volume on a link to the host", func(tr *trial, c string) { tr.link(c+"/dir", "vol") }, `mount volume on "/vol/a/b": file exists`},
	{"volume on a link to the root", func(tr *trial, _ string) { tr.link("/", "vol") }, ""},
	{"volume below a magic link", func(tr *trial, _ string) { tr.link("/proc/self/cwd", "vol") }, `mount volume on "/vol/a/b": too many levels of symbolic links`},
	{"volume below the host's root", func(tr *trial, _ string) { tr.link("/proc/1/root", "vol") }, `mount volume on "/vol/a/b": too many levels of symbolic links`},
	{"volume on a file", func(tr *trial, _ string) { tr.write("vol/a/b", "", 0o666) }, `mount volume on "/vol/a/b": not a directory`},
	{"masked path is a link", func(tr *trial, c string) { tr.link(c+"/file", "masked") }, ""},
	{"read-only path is a link", func(tr *trial, c string) { tr.link(c+"/dir", "readonly") }, ""},
	{"working directory is a link to the host", func(tr *trial, c string) {
		tr.link(c+"/dir", "w")
		tr.spec.Process.Cwd = "/w"
	}, `make the working directory "/w": file exists`},
	{"working directory is a magic link", func(tr *trial, _ string) {
		tr.link("/proc/self/fd/7", "w")
		tr.spec.Process.Cwd = "/w"
	}, `make the working directory "/w": too many levels of symbolic links`},
	{"working directory is missing", func(tr *trial, _ string) { tr.spec.Process.Cwd = "/a/b/c" }, ""},
	{"working directory climbs", func(tr *trial, _ string) { tr.spec.Process.Cwd = "/../../../tmp" }, ""},
}

func TestHostileImages(t *testing.T) {
	for _, test := range hostileImages {
		for _, terminal := range []bool{false, true} {
			for _, uid := range []uint32{0, 1000} {
				t.Run(fmt.Sprintf("%s, terminal %v, user %d", test.name, terminal, uid), func(t *testing.T) {
					c := newCanary(t)
					tr := newTrial(t, hostileScript)
					tr.terminal, tr.spec.Process.User.UID = terminal, uid
					tr.spec.Linux.MaskedPaths = append(tr.spec.Linux.MaskedPaths, "/masked")
					tr.spec.Linux.ReadonlyPaths = append(tr.spec.Linux.ReadonlyPaths, "/readonly")
					tr.bind(t.TempDir(), "/vol/a/b")
					tr.bind(filepath.Join(tr.dir, "etc/hosts"), "/etc/hosts")
					test.make(tr, c.dir)
					out, _, err := tr.run()
					c.check()
					if test.want != "" {
						var e *program.Error
						if !errors.As(err, &e) || err.Error() != test.want {
							t.Errorf("error %v, output %q, want %s", err, out, test.want)
						}
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					out = strings.ReplaceAll(out, "\r", "")
					if !strings.HasSuffix(out, "character special file 1:3\n1\n1\nend\n") || strings.Contains(out, "canary") {
						t.Errorf("output %q", out)
					}
				})
			}
		}
	}
}

// A careless caller of rkt leaves a folder of the host open.
func TestInheritedFilesDoNotReachTheApp(t *testing.T) {
	root, err := unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	tr := newTrial(t, "ls /proc/self/fd; pwd; ls -d ../../../../srv/data")
	tr.write("w/x", "", 0o644)
	tr.spec.Process.Cwd = "/w"
	if out, want := tr.output(), "0\n1\n2\n3\n/w\n../../../../srv/data\n"; out != want {
		t.Errorf("output %q, want %q", out, want)
	}
}

// The process that has joined the pod and not yet executed the app is a copy of
// the supervisor (CVE-2019-5736): nobody in the pod may look into it.
func TestProcessBeforeExecveIsHidden(t *testing.T) {
	tr := newTrial(t, "echo found; for f in exe mem environ maps fd/0 root cwd; do cat /proc/1/$f > /dev/null 2>&1 && echo readable $f; done; true")
	tr.spec.Process.Capabilities.Bounding = append(tr.spec.Process.Capabilities.Bounding, "CAP_SYS_PTRACE")
	tr.spec.Process.Capabilities.Permitted = tr.spec.Process.Capabilities.Bounding
	tr.spec.Process.Capabilities.Effective = tr.spec.Process.Capabilities.Bounding
	tr.app.PID = "pod"
	if out := tr.output(); out != "found\n" {
		t.Errorf("output %q", out)
	}
}
