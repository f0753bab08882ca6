package pod

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestValidName(t *testing.T) {
	for _, name := range []string{"a", "web", "web-1.example_x", "0", strings.Repeat("x", 63), "A"} {
		if err := ValidName(name); err != nil {
			t.Errorf("ValidName(%q) = %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", "-a", ".a", "_a", "a/b", "../x", "a b", "a\n", "é", "a\x00", strings.Repeat("x", 64), NewUUID().String()} {
		if err := ValidName(name); err == nil {
			t.Errorf("ValidName(%.40q) accepts it", name)
		}
	}
}

func TestANameIsInUseUntilThePodIsOver(t *testing.T) {
	d := openDir(t)
	p := create(t, d, "web")
	refused := func(when string) {
		t.Helper()
		q, err := d.Create("web")
		if err == nil {
			q.Close()
		}
		if !errors.Is(err, ErrNameInUse) {
			t.Errorf("%s: Create() = %v, want ErrNameInUse", when, err)
		}
	}
	refused("preparing")
	if err := p.ToPrepared(false); err != nil {
		t.Fatal(err)
	}
	refused("prepared")
	if err := p.ToRun(); err != nil {
		t.Fatal(err)
	}
	refused("running")
	if names, err := d.names("embryo"); err != nil || len(names) != 0 {
		t.Errorf("refused pods left %v, %v", names, err)
	}
	p.Unlock()
	if found := get(t, d, "web"); found.UUID() != p.UUID() {
		t.Error("an exited pod is not found by its name")
	}
	q := create(t, d, "web")
	if found := get(t, d, "web"); found.UUID() != q.UUID() {
		t.Error("the name does not lead to the pod that took it over")
	}
}

func TestAClaimThatACrashLeftIsTakenOver(t *testing.T) {
	for _, part := range []string{"prepare", "run"} {
		d := openDir(t)
		o := start(t, part, d.data())
		d.ensure()
		id, err := ParseUUID(o.said[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := d.claimName("web", id); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Create("web"); !errors.Is(err, ErrNameInUse) {
			t.Errorf("Create() = %v, want ErrNameInUse", err)
		}
		o.kill()
		create(t, d, "web")
		claims, err := os.ReadDir(filepath.Join(d.path, namesDir))
		if err != nil || len(claims) != 1 {
			t.Errorf("claims %v, %v, want one", claims, err)
		}
	}
}

func TestClaimsOfPodsThatAreGone(t *testing.T) {
	d := openDir(t)
	p := create(t, d, "here")
	if err := d.claimName("gone", NewUUID()); err != nil {
		t.Fatal(err)
	}
	swept, err := d.SweepNames()
	if err != nil || len(swept) != 1 || swept[0] != "gone" {
		t.Errorf("SweepNames() = %v, %v", swept, err)
	}
	if err := p.ReleaseName(); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Find("here"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Find() = %v after the name was released", err)
	}
}

func TestOneOfManyGetsAName(t *testing.T) {
	d := openDir(t)
	if err := d.ensure(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got []*Pod
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			p, err := d.Create("web")
			if err != nil && !errors.Is(err, ErrNameInUse) {
				t.Error(err)
			}
			if err == nil {
				mu.Lock()
				got = append(got, p)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(got) != 1 {
		t.Errorf("%d pods have the name", len(got))
	}
	for _, p := range got {
		p.Close()
	}
}
