package cas_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/internal/crashtest"
)

func TestMain(m *testing.M) {
	crashtest.Main(map[string]func(string) error{"import": importWork, "sweep": sweepWork})
	os.Exit(m.Run())
}

var (
	small = []byte("a small blob")
	large = bytes.Repeat([]byte("a large blob "), 100_000)
	index = []byte("an index of the large blob")
)

// importWork does all that brings something into a store.
func importWork(dir string) (err error) {
	ctx := context.Background()
	store, err := cas.Open(dir, cas.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	in, err := store.Ingest(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	if _, err := in.Put(ctx, small); err != nil {
		return err
	}
	if err := in.Keep(ctx, cas.Of(small)); err != nil {
		return err
	}
	for name, content := range map[string][]byte{"large": large, "index": index, "folder/file": index} {
		path := filepath.Join(in.Path(), name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, content, 0o600)); err != nil {
			return err
		}
	}
	if _, err := in.Commit(ctx, "large", cas.Of(large)); err != nil {
		return err
	}
	if err := in.CommitDerived(ctx, "index-1", cas.Of(large), "index"); err != nil {
		return err
	}
	return in.CommitDerived(ctx, "folder-1", cas.Of(large), "folder")
}

// sweepWork removes all but the small blob.
func sweepWork(dir string) error {
	store, err := cas.Open(dir, cas.Options{})
	if err != nil {
		return err
	}
	defer store.Close()
	_, err = store.Sweep(context.Background(), keepSmall, false)
	return err
}

func keepSmall(context.Context) (cas.Roots, error) {
	return cas.Roots{cas.Of(small): {"the test"}}, nil
}

// wantWhole checks that whatever has a name in the store is whole.
func wantWhole(t *testing.T, store *cas.Store) {
	t.Helper()
	err := store.WalkBlobs(func(d cas.Digest, _ int64) error { return store.Check(t.Context(), d) })
	if err != nil {
		t.Error(err)
	}
	for kind, file := range map[string]string{"index-1": "", "folder-1": "file"} {
		if !store.HasDerived(kind, cas.Of(large)) {
			continue
		}
		got, err := os.ReadFile(filepath.Join(store.DerivedPath(kind, cas.Of(large)), file))
		if err != nil || !bytes.Equal(got, index) {
			t.Errorf("%s has %q, %v", kind, got, err)
		}
	}
	if strays, err := store.Strays(); err != nil || len(strays) != 0 {
		t.Errorf("strays %q, %v", strays, err)
	}
}

// wantRecovered checks that the work can be done again and that a sweep leaves
// nothing of the work that was cut off.
func wantRecovered(t *testing.T, dir string) {
	t.Helper()
	store, err := cas.Open(dir, cas.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	wantWhole(t, store)
	if err := importWork(dir); err != nil {
		t.Error(err)
	}
	for _, d := range []cas.Digest{cas.Of(small), cas.Of(large)} {
		if err := store.Check(t.Context(), d); err != nil {
			t.Error(err)
		}
	}
	if !store.HasDerived("index-1", cas.Of(large)) || !store.HasDerived("folder-1", cas.Of(large)) {
		t.Error("derived data is missing")
	}
	wantWhole(t, store)
	if err := sweepWork(dir); err != nil {
		t.Error(err)
	}
	if !store.Has(cas.Of(small)) || store.Has(cas.Of(large)) || store.HasDerived("index-1", cas.Of(large)) {
		t.Error("the sweep was not complete")
	}
	if left, err := os.ReadDir(filepath.Join(dir, "tmp")); err != nil || len(left) != 0 {
		t.Errorf("tmp has %v, %v", left, err)
	}
}

func TestKilledImportLeavesNothingHalf(t *testing.T) {
	base := t.TempDir()
	n := 0
	crashtest.Kill(t, "import", func() string {
		n++
		return filepath.Join(base, fmt.Sprint(n))
	}, wantRecovered)
}

func TestKilledSweepLeavesNothingHalf(t *testing.T) {
	base := t.TempDir()
	n := 0
	crashtest.Kill(t, "sweep", func() string {
		n++
		dir := filepath.Join(base, fmt.Sprint(n))
		if err := importWork(dir); err != nil {
			t.Fatal(err)
		}
		// A dead ingest is swept too.
		if err := os.MkdirAll(filepath.Join(dir, "tmp/DEAD/spool"), 0o700); err != nil {
			t.Fatal(err)
		}
		return dir
	}, wantRecovered)
}

// A blob whose Commit returned survives a power cut, and no blob is ever there
// in part.
func TestPowerCut(t *testing.T) {
	disk := crashtest.NewDisk(t, 64<<20)
	dir := filepath.Join(disk.Dir, "cas")
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	content := func(round, n int) []byte {
		return bytes.Repeat(fmt.Appendf(nil, "blob %d of round %d ", n, round), 1+n*n*500)
	}
	for round := range 8 {
		promised, closeAll := commitSome(t, dir, random.IntN(6), func(n int) []byte { return content(round, n) })
		disk.Cut(func() {
			if os.WriteFile(filepath.Join(dir, "file"), nil, 0o600) == nil {
				t.Error("the filesystem still works without power")
			}
			closeAll()
		})
		store, err := cas.Open(dir, cas.Options{})
		if err != nil {
			t.Fatal(err)
		}
		wantWhole(t, store)
		for _, d := range promised {
			if err := store.Check(t.Context(), d); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
		if _, err := store.Sweep(t.Context(), func(context.Context) (cas.Roots, error) { return nil, nil }, false); err != nil {
			t.Error(err)
		}
		store.Close()
	}
}

// commitSome commits blobs and returns what was promised to be there. It leaves
// one more in the spool, and the ingest open as a crash would.
func commitSome(t *testing.T, dir string, count int, content func(n int) []byte) (promised []cas.Digest, closeAll func()) {
	t.Helper()
	store, err := cas.Open(dir, cas.Options{})
	if err != nil {
		t.Fatal(err)
	}
	in, err := store.Ingest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for n := range count {
		b := content(n)
		name := fmt.Sprint(n)
		if err := os.WriteFile(filepath.Join(in.Path(), name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Commit(t.Context(), name, cas.Of(b)); err != nil {
			t.Fatal(err)
		}
		promised = append(promised, cas.Of(b))
	}
	if err := os.WriteFile(filepath.Join(in.Path(), "not committed"), content(count), 0o600); err != nil {
		t.Fatal(err)
	}
	return promised, func() {
		in.Close() // fails: nothing can be removed any more
		store.Close()
	}
}

// A full disk refuses what is new, keeps what is there, and can be swept.
func TestFullDisk(t *testing.T) {
	disk := crashtest.NewDisk(t, 16<<20)
	store, err := cas.Open(filepath.Join(disk.Dir, "cas"), cas.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := importWork(store.Dir()); err != nil {
		t.Fatal(err)
	}
	in, err := store.Ingest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	_, err = in.Put(t.Context(), make([]byte, 32<<20))
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Put() of more than there is = %v, want ENOSPC", err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	fill(t, filepath.Join(disk.Dir, "ballast"))
	wantWhole(t, store)
	if _, err := store.Put(t.Context(), []byte("one more")); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("Put() on a full disk = %v, want ENOSPC", err)
	}
	if err := sweepWork(store.Dir()); err != nil {
		t.Errorf("Sweep() on a full disk = %v", err)
	}
	if store.Has(cas.Of(large)) || !store.Has(cas.Of(small)) {
		t.Error("the sweep was not complete")
	}
	// What was swept has room again; a little more is for the import itself.
	ballast := filepath.Join(disk.Dir, "ballast")
	st, err := os.Stat(ballast)
	if err == nil {
		err = os.Truncate(ballast, st.Size()-64<<10)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := importWork(store.Dir()); err != nil {
		t.Errorf("import after the sweep: %v", err)
	}
	wantWhole(t, store)
}

// fill takes the last byte of a filesystem.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
}
