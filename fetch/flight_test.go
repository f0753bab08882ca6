package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"rkt/cas"
	"rkt/image/trust"
	"rkt/internal/confdir"
)

func TestCancelLeavesNothing(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		b.await(func(e Event) bool { _, ok := e.(Resolved); return ok })
		cancel()
	}()
	_, err := b.Get(ctx, b.local("hangs"), PullNew)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("Get() = %v", err)
	}
	b.untouched()
}

// RG-19: one brings the image, the others find it.
func TestSingleFlight(t *testing.T) {
	for _, leaderDies := range []bool{false, true} {
		t.Run(fmt.Sprintf("leader dies %v", leaderDies), func(t *testing.T) {
			b := newBench(t)
			ref := b.local("gate")
			gate := b.gate(ref.Path)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			var group sync.WaitGroup
			leader := make(chan error, 1)
			group.Go(func() { _, err := b.Get(ctx, ref, PullNew); leader <- err })
			b.await(func(e Event) bool { _, ok := e.(Started); return ok })

			const followers = 8
			results := make(chan error, followers)
			for range followers {
				group.Go(func() { _, err := b.Get(context.Background(), ref, PullNew); results <- err })
			}
			for range followers {
				b.await(func(e Event) bool { w, ok := e.(Waiting); return ok && w.PID == os.Getpid() })
			}
			if leaderDies {
				cancel()
				if err := <-leader; !errors.Is(err, context.Canceled) {
					t.Errorf("leader: %v", err)
				}
			}
			gate()
			group.Wait()
			for range followers {
				if err := <-results; err != nil {
					t.Errorf("follower: %v", err)
				}
			}
			want := 1
			if leaderDies {
				want = 2
			}
			if got := b.started(); got != want {
				t.Errorf("rkt-fetch was started %d times, want %d", got, want)
			}
			if len(b.derived) != 3 {
				t.Errorf("layers came more than once: %v", b.derived)
			}
		})
	}
}

func TestLocksOfKilledFetchesAreRemoved(t *testing.T) {
	b := newBench(t)
	dir := filepath.Join(b.root, "data", "fetching")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"layer-" + cas.Of([]byte("x")).Hex(), "held"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("1"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	open := b.gate(filepath.Join(dir, "held"))
	defer open()
	b.must(b.local("good"), PullNew)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "held" {
		t.Errorf("locks: %v, %v", entries, err)
	}
}

func TestCommonLayersComeOnce(t *testing.T) {
	b := newBench(t)
	b.rule("r.example", trust.Accept)
	var group sync.WaitGroup
	for i := range 6 {
		group.Go(func() {
			if _, err := b.Get(context.Background(), b.ref(fmt.Sprintf("r.example/%d/good", i)), PullNew); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if len(b.derived) != 3 {
		t.Errorf("%d layers came, want 3", len(b.derived))
	}
}

func TestSecretsStayInThePipe(t *testing.T) {
	b := newBench(t)
	b.rule("r.example", trust.Accept)
	dir := filepath.Join(b.root, "etc")
	if err := os.MkdirAll(filepath.Join(dir, "auth.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	auth := `{"rktKind":"dockerAuth","rktVersion":"v1","registries":["r.example"],"credentials":{"user":"u","password":"s3cr3t"}}`
	if err := os.WriteFile(filepath.Join(dir, "auth.d/a.json"), []byte(auth), 0o600); err != nil {
		t.Fatal(err)
	}
	b.o.Registries.Folders = confdir.Folders{dir}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan error, 1)
	go func() { _, err := b.Get(ctx, b.ref("r.example/hangs"), PullNew); done <- err }()
	b.await(func(e Event) bool { _, ok := e.(Resolved); return ok })
	procs, err := filepath.Glob("/proc/[0-9]*/task/*/children")
	if err != nil || len(procs) == 0 {
		t.Fatal("no processes to look at")
	}
	for _, p := range procs {
		dir := filepath.Dir(p)
		for _, name := range []string{"cmdline", "environ"} {
			text, _ := os.ReadFile(filepath.Join(dir, name)) // it may be gone
			if bytes.Contains(text, []byte("s3cr3t")) {
				t.Errorf("the password is in %s of %s", name, dir)
			}
		}
	}
	cancel()
	<-done
}
