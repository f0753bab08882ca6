package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"rkt/cas"
	"rkt/image/layer"
	"rkt/internal/filelock"
)

func TestEmptyTar(t *testing.T) {
	for _, driver := range []string{DriverErofs, DriverLoop} {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t, driver)
			l := h.layers(t)
			var layers []cas.Digest
			for i, size := range []int{0, 1024} {
				path := filepath.Join(h.dir, fmt.Sprint(i))
				if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
					t.Fatal(err)
				}
				layers = append(layers, h.derive(t, l, path))
			}
			mounted, err := l.Ensure(t.Context(), layers)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range layers {
				if list, err := os.ReadDir(cloned(t, mounted[d.Hex()])); err != nil || len(list) != 0 {
					t.Errorf("an empty layer shows %v, %v", list, err)
				}
			}
		})
	}
}

// Bad facts cost no descriptors and no goroutines, and leave nothing.
func TestBadLayersLeakNothing(t *testing.T) {
	h := newHost(t, DriverErofs)
	l := h.layers(t)
	tarPath := smallTar(t, h.dir, "one", "content")
	d := h.commit(t, h.stores.CAS(), tarPath)
	st, err := os.Stat(tarPath)
	if err != nil {
		t.Fatal(err)
	}
	size := uint64(st.Size())
	bad := [][]byte{
		claim(t, size, &layer.Fact{Path: "a", Kind: layer.Hardlink, Link: "b"}),
		claim(t, size, &layer.Fact{Path: "a", Kind: layer.Regular, Size: 1 << 40, Extents: []layer.Extent{{Length: 1 << 40}}}),
		claim(t, size+1),
		[]byte("garbage"),
		nil,
	}
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	try := func() {
		for _, facts := range bad {
			if err := h.tryDerive(t, l, d, facts); !errors.Is(err, layer.ErrMalformed) {
				t.Fatalf("Derive() = %v, want ErrMalformed", err)
			}
		}
	}
	try()
	fds, goroutines := open(), runtime.NumGoroutine()
	for range 20 {
		try()
	}
	if got := open(); got > fds {
		t.Errorf("%d descriptors open, were %d", got, fds)
	}
	if got := runtime.NumGoroutine(); got > goroutines {
		t.Errorf("%d goroutines, were %d", got, goroutines)
	}
	if left, err := os.ReadDir(filepath.Join(h.dir, "data/cas/tmp")); err != nil || len(left) > 0 {
		t.Errorf("left in the store: %v, %v", left, err)
	}
}

// Ensure of a layer that somebody else works on ends with the context.
func TestEnsureWaitsForAnother(t *testing.T) {
	h := newHost(t, DriverErofs)
	l := h.layers(t)
	d := h.derive(t, l, smallTar(t, h.dir, "one", "content"))
	lock, err := filelock.Open(filepath.Join(h.dir, "data/cas/blobs/sha256", d.Hex()))
	if err != nil {
		t.Fatal(err)
	}
	if err := lock.TryExclusive(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.Ensure(ctx, []cas.Digest{d}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Ensure() = %v, want DeadlineExceeded", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Ensure(t.Context(), []cas.Digest{d}); err != nil {
		t.Errorf("Ensure() = %v", err)
	}
}

// On most hosts "/" propagates mounts; there, too, nothing is left behind, and
// other mount namespaces see nothing of the layers.
func TestSharedPropagation(t *testing.T) {
	needRoot(t)
	if os.Getenv("RKT_TEST_SHARED") != "" {
		t.Setenv("RKT_TEST_SHARED", "")
		t.Run("keeps", TestReleaseKeepsWhatIsWanted)
		t.Run("kill", TestEnsureAfterAKill)
		return
	}
	// The number of the outer namespace depends on the processor it is made on.
	for cpu := range runtime.NumCPU() {
		t.Run(fmt.Sprint("from processor ", cpu), func(t *testing.T) {
			all := fmt.Sprintf("0-%d", runtime.NumCPU()-1)
			c := exec.Command("taskset", "-c", fmt.Sprint(cpu), "unshare", "--mount", "--propagation=shared",
				"taskset", "-c", all, os.Args[0], "-test.run=^TestSharedPropagation$")
			c.Env = append(os.Environ(), "RKT_TEST_SHARED=1")
			if out, err := c.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

func BenchmarkEnsureMounted(b *testing.B) {
	h := newHost(b, DriverErofs)
	l := h.layers(b)
	var layers []cas.Digest
	for i := range 127 {
		layers = append(layers, h.derive(b, l, smallTar(b, h.dir, fmt.Sprint(i), fmt.Sprint(i))))
	}
	start := time.Now()
	if _, err := l.Ensure(b.Context(), layers); err != nil {
		b.Fatal(err)
	}
	b.Logf("first mount of %d layers: %v", len(layers), time.Since(start))
	for _, n := range []int{1, 7, 127} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if _, err := l.Ensure(b.Context(), layers[:n]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
