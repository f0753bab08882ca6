package generator

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage0/quadlet"
)

var host = quadlet.Host{Program: "/usr/bin/rkt", DataDir: "/var/lib/rkt"}

const fine = "[Container]\nImage=a\n"

// put writes files, by path below dir.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// run is the generator, over folders; it must not wait for anything.
func run(t *testing.T, units string, dirs ...string) []*quadlet.Error {
	t.Helper()
	done := make(chan []*quadlet.Error, 1)
	go func() { done <- generate(units, host, strings.Join(dirs, ":")) }()
	select {
	case errs := <-done:
		return errs
	case <-time.After(20 * time.Second):
		t.Fatal("the generator waits for something")
	}
	return nil
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "rkt-image-") {
			found = append(found, e.Name())
		}
	}
	return found
}

// One bad file costs no other its unit, and nothing makes the generator wait.
func TestBadFilesDoNotStopTheOthers(t *testing.T) {
	dir, units := t.TempDir(), t.TempDir()
	put(t, dir, map[string]string{
		"good.container":         fine,
		"sub/deeper/b.container": fine,
		"corrupt.container":      "\x00\xff[[[\n",
		"typo.container":         "[Container]\nImage=a\nImgae=b\n",
		"large.container":        strings.Repeat("#\n", quadlet.MaxFile),
		"public.container":       fine,
		"foreign.container":      fine,
		"a\nb.container":         fine,
		"100%n.container":        fine,
		"ignored.txt":            "no unit",
		"x.container.d/1.conf":   "[Container\n",
		"x.container":            fine,
	})
	if err := os.Chmod(filepath.Join(dir, "public.container"), 0o666); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(filepath.Join(dir, "foreign.container"), 1000, 0); err != nil {
			t.Fatal(err)
		}
	} else {
		os.Remove(filepath.Join(dir, "foreign.container"))
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo.container"), 0o644); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{"loop.container": "loop.container", "null.container": "/dev/null", "zero.container": "/dev/zero", "up": "..", "self": "."} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "folder.container"), 0o755); err != nil {
		t.Fatal(err)
	}
	errs := run(t, units, filepath.Join(dir, "nowhere"), dir)
	if got := names(t, units); !slices.Equal(got, []string{"b.service", "good.service"}) {
		t.Errorf("units are %q", got)
	}
	for file, want := range map[string]string{
		"corrupt.container:1":  "not UTF-8",
		"typo.container:3":     "unknown key Imgae=",
		"large.container":      "larger than",
		"public.container":     "everybody can write it",
		"a\nb.container":       "cannot be the name of a unit",
		"100%n.container":      "cannot be the name of a unit",
		"fifo.container":       "not a regular file",
		"zero.container":       "not a regular file",
		"loop.container":       "too many levels",
		"folder.container":     "not a regular file",
		"x.container.d/1.conf": "not the name of a section",
	} {
		if !slices.ContainsFunc(errs, func(e *quadlet.Error) bool {
			return strings.Contains(e.Error(), "/"+file) && strings.Contains(e.Message, want)
		}) {
			t.Errorf("no error tells of %q: %s in %v", file, want, errs)
		}
	}
}

// The folder of the files is public: what is in it could be anybody's.
func TestPublicFoldersAreRefused(t *testing.T) {
	dir, units := t.TempDir(), t.TempDir()
	put(t, dir, map[string]string{"good.container": fine, "open/evil.container": fine, "good.container.d/x.conf": "[Container]\nUser=evil\n"})
	for _, name := range []string{"open", "good.container.d"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	errs := run(t, units, dir)
	if len(errs) != 2 {
		t.Errorf("errors are %v", errs)
	}
	if b, _ := os.ReadFile(filepath.Join(units, "good.service")); strings.Contains(string(b), "evil") {
		t.Error("a drop-in from a public folder is used")
	}
}

func TestPrecedence(t *testing.T) {
	etc, usr, units := t.TempDir(), t.TempDir(), t.TempDir()
	put(t, etc, map[string]string{
		"a.container": "[Container]\nImage=etc\n", "masked.container": "", "b.container.d/10.conf": "[Container]\nUser=etc10\n",
		"b.container.d/20.conf": "[Container]\nGroup=etc20\n", "broken.container": "broken",
	})
	put(t, usr, map[string]string{
		"a.container": "[Container]\nImage=usr\n", "masked.container": fine, "b.container": fine, "broken.container": fine,
		"b.container.d/10.conf": "[Container]\nUser=usr10\n", "b.container.d/15.conf": "[Container]\nUser=usr15\n",
	})
	errs := run(t, units, etc, usr)
	if len(errs) != 1 || !strings.Contains(errs[0].Path, etc) {
		t.Errorf("errors are %v", errs)
	}
	if got := names(t, units); !slices.Equal(got, []string{"a.service", "b.service"}) {
		t.Errorf("units are %q: a file that is masked or broken hides its namesake", got)
	}
	a, _ := os.ReadFile(filepath.Join(units, "a.service"))
	if !strings.Contains(string(a), "never etc\n") {
		t.Errorf("a.service is not that of the first folder:\n%s", a)
	}
	b, _ := os.ReadFile(filepath.Join(units, "b.service"))
	if !strings.Contains(string(b), "--user=usr15 --group=etc20") {
		t.Errorf("b.service has its drop-ins in another order:\n%s", b)
	}
}

// What another generator has made stays.
func TestUnitsOfOthersAreKept(t *testing.T) {
	dir, units := t.TempDir(), t.TempDir()
	put(t, dir, map[string]string{"a.container": fine + "[Install]\nWantedBy=x.target\n"})
	put(t, units, map[string]string{"a.service": "theirs"})
	errs := run(t, units, dir)
	if len(errs) != 1 || !strings.Contains(errs[0].Message, "another generator") {
		t.Errorf("errors are %v", errs)
	}
	if b, _ := os.ReadFile(filepath.Join(units, "a.service")); string(b) != "theirs" {
		t.Errorf("a.service is now %q", b)
	}
	left, _ := filepath.Glob(filepath.Join(units, ".*.tmp"))
	if len(left) > 0 {
		t.Errorf("temporary files are left: %q", left)
	}
}

func TestMainRefusesOtherArguments(t *testing.T) {
	none := func(string) string { return "" }
	for _, args := range [][]string{nil, {"relative"}, {"/a", "/b"}} {
		if code := Main(args, host, none); code != 1 {
			t.Errorf("Main(%q) = %d", args, code)
		}
	}
	units := t.TempDir()
	user := func(name string) string {
		return map[string]string{"SYSTEMD_SCOPE": "user", foldersVariable: units}[name]
	}
	if code := Main([]string{units}, host, user); code != 0 {
		t.Errorf("the manager of a user gets %d", code)
	}
}

func TestSettingsNameFurtherFolders(t *testing.T) {
	file := filepath.Join(t.TempDir(), "quadlet.conf")
	if err := os.WriteFile(file, []byte("[Quadlet]\nDirectory=/etc/containers/systemd\nDirectory=relative\nOther=1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	dirs, errs := Folders(file)
	if !slices.Equal(dirs, []string{"/etc/rkt/quadlet", "/run/rkt/quadlet", "/usr/lib/rkt/quadlet", "/etc/containers/systemd"}) || len(errs) != 2 {
		t.Errorf("folders are %q, errors %v", dirs, errs)
	}
	if dirs, errs := Folders(file + ".none"); len(dirs) != 3 || len(errs) != 0 {
		t.Errorf("without settings: %q, %v", dirs, errs)
	}
}

func TestWriteFiles(t *testing.T) {
	dir, yaml := t.TempDir(), filepath.Join(t.TempDir(), "pod.yaml")
	text := `
apiVersion: v1
kind: Secret
metadata: {name: s}
data: {key: c2VjcmV0}
---
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - name: c
    image: a
    env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: key}}}]
    volumeMounts: [{name: v, mountPath: /v}]
  volumes: [{name: v, secret: {secretName: s, defaultMode: 0440, items: [{key: key, path: sub/file}]}}]
`
	if err := os.WriteFile(yaml, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // again over what a killed start left
		if err := WriteFiles(dir, []string{yaml}); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]struct {
		text string
		mode os.FileMode
	}{"volumes/v/sub/file": {"secret", 0o440}, "environment/c": {"A=secret\n", 0o600}} {
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		if err != nil || string(b) != want.text {
			t.Errorf("%s has %q, %v", name, b, err)
		}
		if info, err := os.Stat(path); err == nil && info.Mode() != want.mode {
			t.Errorf("%s has the mode %v", name, info.Mode())
		}
	}
}
