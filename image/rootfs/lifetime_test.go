package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/cas"
)

func TestReleaseKeepsWhatIsWanted(t *testing.T) {
	for _, driver := range allDrivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t, driver)
			l := h.layers(t)
			a := h.derive(t, l, smallTar(t, h.dir, "a", "content of a"))
			b := h.derive(t, l, smallTar(t, h.dir, "b", "content of b"))
			mounted, err := l.Ensure(t.Context(), []cas.Digest{a, b})
			if err != nil {
				t.Fatal(err)
			}
			inUse := cloned(t, mounted[b.Hex()])
			if err := l.Release(t.Context(), func(d cas.Digest) bool { return d == a }); err != nil {
				t.Fatal(err)
			}
			within(t, mounted[a.Hex()], func(path string) {
				if _, err := os.Lstat(mounted[b.Hex()].Path); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("mount point of a released layer: %v, want ErrNotExist", err)
				}
			})
			got, err := os.ReadFile(filepath.Join(inUse, "file"))
			if err != nil || string(got) != "content of b" {
				t.Errorf("a clone of a released layer shows %q, %v", got, err)
			}
			if _, err := l.Ensure(t.Context(), []cas.Digest{b}); err != nil {
				t.Fatal(err)
			}
			if err := l.Release(t.Context(), func(cas.Digest) bool { return false }); err != nil {
				t.Fatal(err)
			}
			if _, err := openNamespace(filepath.Join(h.o.RunDir, "layers")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("namespace after the last Release: %v, want ErrNotExist", err)
			}
		})
	}
}

// Records of what is gone are taken away, and no others.
func TestSweepRecords(t *testing.T) {
	h := newHost(t, allDrivers[len(allDrivers)-1])
	l := h.layers(t)
	a := h.derive(t, l, smallTar(t, h.dir, "a", "content of a"))
	if _, err := l.Ensure(t.Context(), []cas.Digest{a}); err != nil {
		t.Fatal(err)
	}
	s, err := openState(h.o.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ns, err := openNamespace(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	truth := []string{filepath.Join(s.boot, verifiedDir, a.Hex()), filepath.Join(s.mountedDir(ns), a.Hex())}
	gone := cas.Of([]byte("gone")).Hex()
	stale := []string{
		filepath.Join(s.boot, verifiedDir, gone), filepath.Join(s.boot, mountPrefix+"1", gone), filepath.Join(s.dir, bootPrefix+"other", verifiedDir, gone),
	}
	for _, path := range stale {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.SweepRecords(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range truth {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("a record that is true was removed: %v", err)
		}
	}
	for _, path := range stale {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}

// Processes that ensure and release at once all get what they asked for.
func TestManyProcesses(t *testing.T) {
	if list := os.Getenv("RKT_TEST_ENSURE"); list != "" {
		ensureInChild(t, list)
		return
	}
	h := newHost(t, DriverErofs)
	var list []string
	for i := range 5 {
		d := h.commit(t, h.stores.CAS(), smallTar(t, h.dir, fmt.Sprint(i), strings.Repeat(fmt.Sprint(i), 100_000)))
		list = append(list, d.Hex())
	}
	h.layers(t)
	var children []*exec.Cmd
	for range 6 {
		c := exec.Command(os.Args[0], "-test.run=^TestManyProcesses$")
		c.Env = append(os.Environ(), "RKT_TEST_ENSURE="+h.dir+" "+strings.Join(list, " "))
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, c)
	}
	for _, c := range children {
		if err := c.Wait(); err != nil {
			t.Errorf("%v\n%s", err, c.Stdout)
		}
	}
	ns, err := openNamespace(filepath.Join(h.o.RunDir, "layers"))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	there, err := ns.layers()
	if err != nil || len(there) != len(list) {
		t.Errorf("mounted: %v, %v, want %d layers", there, err, len(list))
	}
}

func ensureInChild(t *testing.T, list string) {
	fields := strings.Fields(list)
	h := &host{dir: fields[0]}
	h.stores.list = []*cas.Store{openStore(t, filepath.Join(h.dir, "data", "cas"))}
	h.o = Options{Stores: h.stores, RunDir: filepath.Join(h.dir, "run"), Driver: DriverErofs, Tars: fakeTars{t: t}}
	l := h.layers(t)
	var layers []cas.Digest
	for _, hex := range fields[1:] {
		d, err := cas.FromHex(hex)
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, d)
	}
	for range 10 {
		mounted, err := l.Ensure(t.Context(), layers)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range layers {
			if _, err := os.ReadFile(filepath.Join(cloned(t, mounted[d.Hex()]), "file")); err != nil {
				t.Fatal(err)
			}
		}
		// What others wait for stays, so this releases nothing but is in the way.
		if err := l.Release(t.Context(), func(d cas.Digest) bool { return slices.Contains(layers, d) }); err != nil {
			t.Fatal(err)
		}
	}
}

// What a process that was killed between two steps left is used or replaced.
func TestEnsureAfterAKill(t *testing.T) {
	damage := map[string]func(t *testing.T, s *state, d cas.Digest){
		"before the namespace was bound": func(t *testing.T, s *state, d cas.Digest) {
			if err := removeNamespace(s.dir); err != nil {
				t.Fatal(err)
			}
			if err := makePrivateMount(s.dir); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(s.dir, nsFile), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"before the mount was recorded": func(t *testing.T, s *state, d cas.Digest) {
			ns, err := openNamespace(s.dir)
			if err != nil {
				t.Fatal(err)
			}
			defer ns.Close()
			if err := s.forgetMounted(ns, d); err != nil {
				t.Fatal(err)
			}
		},
		"before the verification was whole": func(t *testing.T, s *state, d cas.Digest) {
			if err := os.Truncate(filepath.Join(s.boot, verifiedDir, d.Hex()), 5); err != nil {
				t.Fatal(err)
			}
		},
		"in another boot": func(t *testing.T, s *state, d cas.Digest) {
			if err := removeNamespace(s.dir); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(s.boot, filepath.Join(s.dir, bootPrefix+"of-old")); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, break_ := range damage {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, DriverErofs)
			l := h.layers(t)
			d := h.derive(t, l, smallTar(t, h.dir, "one", "content"))
			if _, err := l.Ensure(t.Context(), []cas.Digest{d}); err != nil {
				t.Fatal(err)
			}
			s, err := openState(h.o.RunDir)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			break_(t, s, d)
			mounted, err := l.Ensure(t.Context(), []cas.Digest{d})
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(filepath.Join(cloned(t, mounted[d.Hex()]), "file"))
			if err != nil || string(got) != "content" {
				t.Errorf("content = %q, %v", got, err)
			}
			if old, _ := filepath.Glob(filepath.Join(s.dir, bootPrefix+"of-old")); len(old) > 0 {
				t.Errorf("records of another boot are still there: %v", old)
			}
		})
	}
}

// The namespace of the layers keeps nothing of the host busy.
func TestNamespaceIsEmpty(t *testing.T) {
	h := newHost(t, DriverErofs)
	l := h.layers(t)
	d := h.derive(t, l, smallTar(t, h.dir, "one", "content"))
	mounted, err := l.Ensure(t.Context(), []cas.Digest{d})
	if err != nil {
		t.Fatal(err)
	}
	proc, err := os.Open("/proc")
	if err != nil {
		t.Fatal(err)
	}
	defer proc.Close()
	within(t, mounted[d.Hex()], func(string) {
		fd, err := unix.Openat(int(proc.Fd()), fmt.Sprintf("%d/task/%d/mountinfo", unix.Getpid(), unix.Gettid()), unix.O_RDONLY, 0)
		if err != nil {
			t.Error(err)
			return
		}
		f := os.NewFile(uintptr(fd), "mountinfo")
		defer f.Close()
		b, err := io.ReadAll(f)
		if err != nil || strings.Count(string(b), "\n") != 2 {
			t.Errorf("mounts in the namespace: %v\n%s\nwant the tmpfs and one layer", err, b)
		}
	})
}

func TestProbe(t *testing.T) {
	needRoot(t)
	needFileMounts(t)
	h := newHost(t, "")
	l := h.layers(t)
	if l.Driver() != DriverErofs || l.Why() == "" {
		t.Errorf("driver %q because %q, want %q on this filesystem", l.Driver(), l.Why(), DriverErofs)
	}
	record := filepath.Join(h.dir, "data", probeFile)
	first, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	edited := strings.Replace(string(first), `"driver":"erofs"`, `"driver":"erofs","error":"because of the test"`, 1)
	if err := os.WriteFile(record, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	if l := h.layers(t); l.Driver() != DriverLoop || !strings.Contains(l.Why(), "because of the test") {
		t.Errorf("driver %q because %q, want %q by the record", l.Driver(), l.Why(), DriverLoop)
	}
	h.o.Driver = DriverErofs
	if _, err := Open(h.o); err == nil || !strings.Contains(err.Error(), "because of the test") {
		t.Errorf("Open with a driver that does not work = %v", err)
	}
	h.o.Driver = "floppy"
	if _, err := Open(h.o); err == nil {
		t.Error("Open with an unknown driver succeeded")
	}
	h.o.Driver = ""
	edited = strings.Replace(edited, `"boot":"`, `"boot":"another`, 1)
	if err := os.WriteFile(record, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	if l := h.layers(t); l.Driver() != DriverErofs {
		t.Errorf("driver %q after a boot, want %q", l.Driver(), DriverErofs)
	}
}
