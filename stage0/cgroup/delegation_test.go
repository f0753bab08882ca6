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

// unit is a cgroup as systemd makes it, in the unified hierarchy of this host,
// with this process in the cgroup own below it ("" = in the unit's own).
type unit struct {
	t    *testing.T
	dir  string
	host *Host
}

func newUnit(t *testing.T, own string, delegate bool) *unit {
	t.Helper()
	h := realHost(t, V2, Hybrid)
	root := h.root
	if h.Mode == Hybrid {
		root = filepath.Join(h.root, "unified")
	}
	at, err := h.ownDir("", root)
	if err != nil {
		t.Fatal(err)
	}
	name := testUUID(t) + ".service"
	u := &unit{t: t, dir: filepath.Join(at, name)}
	u.host = &Host{Mode: V2, root: at, managed: true, own: map[string]string{"": filepath.Join("/", name, own)}}
	if err := os.MkdirAll(filepath.Join(u.dir, own), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cgrouptree.WriteFile(filepath.Join(at, "cgroup.procs"), "0"); err != nil {
			t.Error(err)
		}
		if err := cgrouptree.Walk(u.dir, unix.Rmdir); err != nil {
			t.Error(err)
		}
	})
	if delegate {
		if err := unix.Setxattr(u.dir, "user.delegate", []byte("1"), 0); err != nil {
			t.Skipf("needs attributes of cgroups: %v", err)
		}
	}
	if err := cgrouptree.WriteFile(filepath.Join(u.dir, own, "cgroup.procs"), "0"); err != nil {
		t.Fatal(err)
	}
	return u
}

// tree lists the folders below the unit.
func (u *unit) tree() []string {
	u.t.Helper()
	var list []string
	err := cgrouptree.Walk(u.dir, func(dir string) error {
		if rel, _ := filepath.Rel(u.dir, dir); rel != "." {
			list = append(list, rel)
		}
		return nil
	})
	if err != nil {
		u.t.Fatal(err)
	}
	slices.Sort(list)
	return list
}

// process starts one in the folder.
func (u *unit) process(dir string) {
	u.t.Helper()
	p := exec.Command("sleep", "1000")
	if err := p.Start(); err != nil {
		u.t.Fatal(err)
	}
	u.t.Cleanup(func() { _ = p.Process.Kill(); _ = p.Wait() })
	if err := cgrouptree.WriteFile(filepath.Join(u.dir, dir, "cgroup.procs"), strconv.Itoa(p.Process.Pid)); err != nil {
		u.t.Fatal(err)
	}
}

const firstPod, secondPod = "5ae4c0ff-33de-4b6e-8a7d-3a52c1f60b91", "5ae4c0ff-33de-4b6e-8a7d-3a52c1f60b92"

func TestDelegatedUnitIsThePods(t *testing.T) {
	for _, subgroup := range []string{"", "init"} {
		u := newUnit(t, subgroup, true)
		cg, err := u.host.Make(firstPod, []App{{Name: "a"}, {Name: "b"}})
		if err != nil {
			t.Fatal(err)
		}
		if cg.V2 != u.dir || cg.Mark != firstPod {
			t.Errorf("Make() = %+v, want %s, marked", cg, u.dir)
		}
		want := []string{"app.a", "app.a/main", "app.b", "app.b/main", "supervisor"}
		if subgroup != "" {
			want[4] = subgroup
		}
		if got := u.tree(); !slices.Equal(got, want) {
			t.Errorf("the unit has %v, want %v", got, want)
		}
		if !alone(filepath.Join(u.dir, want[4])) || strings.TrimSpace(content(t, u.dir, "cgroup.procs")) != "" {
			t.Errorf("this process is not in %s", want[4])
		}
		if got, err := Find(firstPod); err != nil || !slices.Equal(named(got), []string{u.dir + "/app.a", u.dir + "/app.b"}) {
			t.Errorf("Find() = %v, %v", named(got), err)
		}
		if err := Remove(cg); err != nil {
			t.Error(err)
		}
		if got := u.tree(); !slices.Equal(got, want[4:]) {
			t.Errorf("the unit has %v after the end, want %v", got, want[4:])
		}
	}
}

// A unit is started again, in the same cgroup: what is alive there is not the
// earlier pod's, and the end of that must not be the later one's.
func TestLaterPodInTheUnitIsNotTheEarlierOne(t *testing.T) {
	u := newUnit(t, "", true)
	first, err := u.host.Make(firstPod, []App{{Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := Remove(first); err != nil {
		t.Fatal(err)
	}
	u.host.own[""] += "/supervisor"
	second, err := u.host.Make(secondPod, []App{{Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	u.process("app.a/main")
	if on, err := Populated(first); on || err != nil {
		t.Errorf("Populated(first) = %v, %v, want false", on, err)
	}
	if on, err := Populated(second); !on || err != nil {
		t.Errorf("Populated(second) = %v, %v, want true", on, err)
	}
	if err := errors.Join(Kill(t.Context(), first), Remove(first)); err != nil {
		t.Error(err)
	}
	if on, err := Populated(second); !on || err != nil {
		t.Errorf("the later pod is dead after the end of the earlier one: %v, %v", on, err)
	}
	if err := errors.Join(Kill(t.Context(), second), Remove(second)); err != nil {
		t.Error(err)
	}
}

// Apps of an earlier pod may be left (KillMode=process), and another rkt may run.
func TestSecondPodInTheUnitHasAFolderOfItsOwn(t *testing.T) {
	u := newUnit(t, "init", true)
	first, err := u.host.Make(firstPod, []App{{Name: "z"}, {Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	second, err := u.host.Make(secondPod, []App{{Name: "b"}, {Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(u.dir, podPrefix+secondPod); second.V2 != want || second.Mark != "" {
		t.Errorf("Make() = %+v, want %s", second, want)
	}
	if err := errors.Join(Remove(first), Remove(second)); err != nil {
		t.Error(err)
	}
}

func TestProcessesBesideRktKeepTheirPlace(t *testing.T) {
	u := newUnit(t, "", true)
	u.process("")
	cg, err := u.host.Make(firstPod, []App{{Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(u.dir, podPrefix+firstPod); cg.V2 != want {
		t.Errorf("Make() = %+v, want %s", cg, want)
	}
	if err := Remove(cg); err != nil {
		t.Error(err)
	}
}

func TestNothingIsMadeInAUnitThatIsNotDelegated(t *testing.T) {
	u := newUnit(t, "", false)
	for _, c := range []Controller{Memory, CPU, Pids} {
		if u.host.Has(c) {
			t.Errorf("Has(%s) = true", c)
		}
	}
	cg, err := u.host.Make(firstPod, []App{{Name: "a"}})
	if err != nil || cg.V2 != "" || len(cg.V1) > 0 || len(u.tree()) > 0 {
		t.Errorf("Make() = %+v, %v, the unit has %v, want nothing", cg, err, u.tree())
	}
	_, err = u.host.Make(firstPod, []App{{Name: "a", Limits: contract.Limits{MemoryBytes: 1 << 20}}})
	var missing *MissingError
	if !errors.As(err, &missing) || missing.Controller != Memory || !strings.Contains(missing.Hint(), "Delegate=yes to the unit "+filepath.Base(u.dir)) {
		t.Errorf("Make() = %v, want a MissingError that says what to add", err)
	}
	if got := strings.Fields(content(t, u.dir, "cgroup.procs")); len(got) != 1 || len(u.tree()) > 0 {
		t.Errorf("the unit has processes %v and folders %v, want this one and none", got, u.tree())
	}
}

// On the hierarchies of v1 the same holds: what is in a unit's cgroup there may
// be moved by systemd at any time.
func TestUndelegatedUnitOfLegacyHierarchies(t *testing.T) {
	h := realHost(t, Hybrid)
	h.managed = true
	if h.Has(Memory) {
		t.Error("Has(Memory) = true")
	}
	cg, err := h.Make(firstPod, []App{{Name: "a"}})
	if err != nil || len(named(cg)) > 0 {
		t.Errorf("Make() = %+v, %v, want nothing", cg, err)
	}
	_, err = h.Make(firstPod, []App{{Name: "a", Limits: contract.Limits{CPUMillis: 100}}})
	var missing *MissingError
	if !errors.As(err, &missing) || missing.Controller != CPU || missing.Unit == "" {
		t.Errorf("Make() = %v, want a MissingError", err)
	}
}
