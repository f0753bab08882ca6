package cgroup

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/internal/cgrouptree"
	"rkt/stage1/contract"
)

// realHost skips unless this process may make cgroups on a host of that mode.
func realHost(t *testing.T, modes ...Mode) *Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	h, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range modes {
		if h.Mode == m {
			return h
		}
	}
	t.Skipf("needs a host with cgroups %v, this one has %s", modes, h.Mode)
	return nil
}

func testUUID(t *testing.T) string { return "test-" + strconv.Itoa(os.Getpid()) + "-" + t.Name() }

func content(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestMakeSetsLimitsInLegacyHierarchies(t *testing.T) {
	h := realHost(t, V1, Hybrid)
	cg, err := h.Make(testUUID(t), []App{
		{Name: "a", Limits: contract.Limits{MemoryBytes: 64 << 20, CPUMillis: 500, CPUShares: 512, Pids: 77}},
		{Name: "b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer Remove(cg)
	for _, w := range []struct{ controller, file, want string }{
		{"memory", "memory.limit_in_bytes", "67108864"},
		{"cpu", "cpu.cfs_quota_us", "50000"},
		{"cpu", "cpu.cfs_period_us", "100000"},
		{"cpu", "cpu.shares", "512"},
		{"pids", "pids.max", "77"},
	} {
		if got := content(t, cg.V1[w.controller], "app.a", w.file); got != w.want {
			t.Errorf("%s = %q, want %q", w.file, got, w.want)
		}
	}
	if got := content(t, cg.V1["pids"], "app.b", "pids.max"); got != "max" {
		t.Errorf("pids.max of the app without a limit = %q, want max", got)
	}
	if h.Mode == Hybrid {
		if _, err := os.Stat(filepath.Join(cg.V2, "app.a", "main")); err != nil {
			t.Error(err)
		}
	}
	if err := Remove(cg); err != nil {
		t.Errorf("Remove() = %v", err)
	}
	for _, dir := range named(cg) {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", dir, err)
		}
	}
	if err := Remove(cg); err != nil {
		t.Errorf("second Remove() = %v, want nil", err)
	}
}

func TestPopulatedSeesProcessesBelowTheApp(t *testing.T) {
	h := realHost(t, V1, V2, Hybrid)
	cg, err := h.Make(testUUID(t), []App{{Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	defer Remove(cg)
	if on, err := Populated(cg); on || err != nil {
		t.Errorf("Populated() of an empty pod = %v, %v", on, err)
	}

	nested := filepath.Join(named(cg)[0], "app.a", "made-by-the-app")
	if err := os.Mkdir(nested, 0o755); err != nil {
		t.Fatal(err)
	}
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	if err := cgrouptree.WriteFile(filepath.Join(nested, "cgroup.procs"), strconv.Itoa(sleep.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	if on, err := Populated(cg); !on || err != nil {
		t.Errorf("Populated() = %v, %v, want true", on, err)
	}
	if err := Remove(cg); !errors.Is(err, unix.EBUSY) {
		t.Errorf("Remove() of a populated pod = %v, want EBUSY", err)
	}

	if err := sleep.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = sleep.Wait()
	if err := Remove(cg); err != nil {
		t.Errorf("Remove() = %v", err)
	}
	if on, err := Populated(cg); on || err != nil {
		t.Errorf("Populated() of a removed pod = %v, %v", on, err)
	}
}

// The unified hierarchy of a hybrid host stands for a v2 host whose controllers
// are not enabled.
func TestLimitWithoutControllerIsRefusedByName(t *testing.T) {
	h := realHost(t, Hybrid)
	tests := []struct {
		name string
		host Host
		want string
	}{
		{"v2", Host{Mode: V2, root: filepath.Join(h.root, "unified"), own: h.own}, "not enabled"},
		{"v1", Host{Mode: V1, root: h.root, own: map[string]string{"cpu": "/"}}, "not mounted"},
		{"none", Host{Mode: None, root: h.root}, "no cgroups are mounted"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.host.Has(Memory) {
				t.Error("Has(Memory) = true")
			}
			cg, err := tt.host.Make("test-refused", []App{{Name: "a", Limits: contract.Limits{MemoryBytes: 1 << 20}}})
			var missing *MissingError
			if !errors.As(err, &missing) || missing.Controller != Memory || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Make() = %v, want a MissingError for memory with %q", err, tt.want)
			}
			if len(named(cg)) != 0 {
				t.Errorf("Make() left %v", named(cg))
			}
		})
	}
}

func TestMakeUnifiedWithoutLimits(t *testing.T) {
	h := realHost(t, V2, Hybrid)
	if h.Mode == Hybrid {
		h = &Host{Mode: V2, root: filepath.Join(h.root, "unified"), own: h.own}
	}
	cg, err := h.Make(testUUID(t), []App{{Name: "a"}, {Name: "b"}})
	if err != nil {
		t.Fatal(err)
	}
	defer Remove(cg)
	for _, app := range []string{"app.a/main", "app.b/main"} {
		if _, err := os.Stat(filepath.Join(cg.V2, app, "cgroup.procs")); err != nil {
			t.Error(err)
		}
	}
}

func TestMakeTwiceIsRefusedAndKeepsTheFirst(t *testing.T) {
	h := realHost(t, V1, V2, Hybrid)
	cg, err := h.Make(testUUID(t), []App{{Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	defer Remove(cg)
	if _, err := h.Make(testUUID(t), []App{{Name: "a"}}); !errors.Is(err, os.ErrExist) {
		t.Errorf("second Make() = %v, want ErrExist", err)
	}
	for _, dir := range named(cg) {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("the first pod's cgroup is gone: %v", err)
		}
	}
}

// The files are stand-ins: this host has no v2 controllers. What counts is what
// is written into which.
func TestUnifiedLimitsAreWrittenInTheirFormats(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "pids.max"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := setUnified(dir, contract.Limits{MemoryBytes: 4096, CPUMillis: 1500, CPUShares: 1024, Pids: 9}); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"memory.max": "4096", "memory.swap.max": "0", "cpu.max": "150000 100000", "cpu.weight": "39", "pids.max": "9",
	} {
		if got := content(t, dir, file); got != want {
			t.Errorf("%s = %q, want %q", file, got, want)
		}
	}
}

func TestWeightCoversBothEnds(t *testing.T) {
	for shares, want := range map[int64]int64{1: 1, 2: 1, 1024: 39, 262144: 10000, 1 << 40: 10000} {
		if got := weight(shares); got != want {
			t.Errorf("weight(%d) = %d, want %d", shares, got, want)
		}
	}
}

func TestParseOwn(t *testing.T) {
	got := parseOwn("5:cpu,cpuacct:/user:1\n4:memory:/a\n1:name=systemd:/s\n0::/u\nrubbish\n")
	for controller, want := range map[string]string{
		"cpu": "/user:1", "cpuacct": "/user:1", "memory": "/a", "name=systemd": "/s", "": "/u",
	} {
		if got[controller] != want {
			t.Errorf("own cgroup of %q = %q, want %q", controller, got[controller], want)
		}
	}
}

// The pod is in a unit that is called like rkt's own folders.
func TestFindLooksIntoUnits(t *testing.T) {
	h := realHost(t, V2, Hybrid)
	root := h.root
	if h.Mode == Hybrid {
		root = filepath.Join(h.root, "unified")
	}
	own, err := h.ownDir("", root)
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(own, "rkt-"+testUUID(t)+".service")
	if err := os.Mkdir(unit, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(unit)
	inUnit := &Host{Mode: V2, root: unit, own: map[string]string{"": "/"}}
	cg, err := inUnit.Make(testUUID(t), []App{{Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	defer Remove(cg)

	got, err := Find(testUUID(t))
	if err != nil || !slices.Equal(named(got), named(cg)) {
		t.Errorf("Find() = %v, %v, want %v", named(got), err, named(cg))
	}
	for name, want := range map[string]bool{
		"rkt-5ae4c0ff-33de-4b6e-8a7d-3a52c1f60b91": true, "rkt-redis.service": false, "rkt-": false, "5ae4c0ff-33de-4b6e-8a7d-3a52c1f60b91": false,
	} {
		if isPod(name) != want {
			t.Errorf("isPod(%q) = %v", name, !want)
		}
	}
}
