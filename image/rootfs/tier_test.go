package rootfs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/cas"
)

// at returns layers of the host with that tier, as a new process would see them.
func (h *host) at(t *testing.T, tier Tier) *Layers {
	t.Helper()
	h.o.Verify = tier
	return h.layers(t)
}

// parts are the files that a mount by the driver shows, with an offset of one
// byte each that matters.
func (h *host) parts(driver string, d cas.Digest) map[string]int64 {
	if driver == DriverDir {
		return map[string]int64{filepath.Join(h.stores.CAS().DerivedPath(kindDir, d), treeDir, "file"): 3}
	}
	return map[string]int64{
		filepath.Join(h.dir, "data/cas/blobs/sha256", d.Hex()): 1024,
		h.stores.CAS().DerivedPath(kindIndex, d):               1536 + 5,
	}
}

// One byte that changes behind a layer that is mounted and was hashed in this
// boot is found at the next start: always with the tier "always", with "boot"
// where the file shows that it was changed, and never with "never".
func TestDamageBehindAMountIsFound(t *testing.T) {
	for _, driver := range allDrivers {
		for _, tier := range []Tier{Boot, Always, Never} {
			if driver == DriverDir && tier == Boot {
				continue // the folder does not show that a file in it was changed
			}
			t.Run(driver+" "+string(tier), func(t *testing.T) {
				h := newHost(t, driver)
				l := h.at(t, tier)
				d := h.derive(t, l, smallTar(t, h.dir, "one", "content"))
				if _, err := l.Ensure(t.Context(), []cas.Digest{d}); err != nil {
					t.Fatal(err)
				}
				for path, offset := range h.parts(driver, d) {
					flip(t, path, offset)
					_, err := l.Ensure(t.Context(), []cas.Digest{d})
					var damage *DamagedError
					if found := errors.As(err, &damage) && errors.Is(err, cas.ErrCorrupt) && damage.Layer == d; found != (tier != Never) {
						t.Errorf("%s: Ensure() = %v", filepath.Base(filepath.Dir(path)), err)
					}
					flip(t, path, offset)
					if _, err := l.Ensure(t.Context(), []cas.Digest{d}); err != nil {
						t.Errorf("%s restored: Ensure() = %v", filepath.Base(filepath.Dir(path)), err)
					}
				}
			})
		}
	}
}

// What one store may skip, another may not: the tier is the store's, and what
// was mounted unverified is hashed when a stricter tier asks.
func TestTiersOfStores(t *testing.T) {
	h := newHost(t, "")
	l := h.at(t, Never)
	d := h.derive(t, l, smallTar(t, h.dir, "one", "content"))
	if _, err := l.Ensure(t.Context(), []cas.Digest{d}); err != nil {
		t.Fatal(err)
	}
	flip(t, filepath.Join(h.dir, "data/cas/blobs/sha256", d.Hex()), 1024)
	if _, err := l.Ensure(t.Context(), []cas.Digest{d}); err != nil {
		t.Errorf("never: %v", err)
	}
	h.o.VerifyStore = map[string]Tier{h.stores.CAS().Dir(): Boot}
	l = h.layers(t)
	if got := l.Tier([]cas.Digest{d}); got != Boot {
		t.Errorf("Tier() = %q, want that of the store", got)
	}
	if _, err := l.Ensure(t.Context(), []cas.Digest{d}); !errors.Is(err, cas.ErrCorrupt) {
		t.Errorf("boot after never: %v, want ErrCorrupt", err)
	}
	h.o.VerifyStore = map[string]Tier{"/": "sometimes"}
	if _, err := Open(h.o); err == nil {
		t.Error("Open() knows the tier \"sometimes\"")
	}
	h.o.VerifyStore = nil
}

// A changed byte in the accounts would make an app another user.
func TestDamagedAccounts(t *testing.T) {
	h := newHost(t, "")
	l := h.layers(t)
	d := h.derive(t, l, smallTar(t, h.dir, "one", "content"))
	path := h.stores.CAS().DerivedPath(kindAccounts, d)
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for offset := range st.Size() {
		flip(t, path, offset)
		var damage *DamagedError
		if _, err := l.Accounts(t.Context(), []cas.Digest{d}); !errors.As(err, &damage) {
			t.Errorf("byte %d: Accounts() = %v, want a DamagedError", offset, err)
		}
		flip(t, path, offset)
	}
}

// Who waits is told how far the hashing is, seldom, and that it is over; who does
// not wait is told nothing.
func TestHashingTells(t *testing.T) {
	type report struct{ done, total int64 }
	var reports []report
	tell := func(done, total int64) { reports = append(reports, report{done, total}) }
	m := newMeter(tell, 100)
	m.add(10)
	m.end()
	if len(reports) > 0 {
		t.Errorf("told %v of what took no time", reports)
	}
	m = newMeter(tell, 100)
	m.last = m.last.Add(-reportEvery)
	m.add(10)
	m.add(10)
	m.end()
	if want := []report{{10, 100}, {100, 100}}; !slices.Equal(reports, want) {
		t.Errorf("told %v, want %v", reports, want)
	}
	var none *meter
	none.add(1)
}

// All layers are counted, wherever the time goes.
func TestHashingCountsAllLayers(t *testing.T) {
	for _, driver := range allDrivers {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t, driver)
			l := h.at(t, Always)
			d := h.derive(t, l, smallTar(t, h.dir, "one", "content"))
			if _, err := l.Ensure(t.Context(), []cas.Digest{d}); err != nil { // unpacks for the driver dir
				t.Fatal(err)
			}
			s, err := openState(h.o.RunDir)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			m := newMeter(func(int64, int64) {}, 1<<20)
			from, err := l.prepare(t.Context(), s, d, m)
			if err != nil {
				t.Fatal(err)
			}
			from.Close()
			if m.done == 0 {
				t.Error("nothing was counted")
			}
		})
	}
}

// needVerity skips where the filesystem of the tests has no fs-verity.
func needVerity(t *testing.T) {
	t.Helper()
	path := filepath.Join(scratch(t), "probe")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := enableVerity(f); err != nil {
		t.Skipf("no fs-verity here (%v): a kernel with CONFIG_FS_VERITY and ext4 -O verity has it, as the guest Debian 13", err)
	}
}

// With the tier "kernel" the files are sealed at the first start: nobody can
// write them, and others in their place are hashed anew.
func TestKernelTier(t *testing.T) {
	needVerity(t)
	for _, driver := range []string{DriverErofs, DriverLoop} {
		t.Run(driver, func(t *testing.T) {
			h := newHost(t, driver)
			l := h.at(t, Kernel)
			d := h.derive(t, l, smallTar(t, h.dir, "one", "content"))
			if _, err := l.Ensure(t.Context(), []cas.Digest{d}); err != nil {
				t.Fatal(err)
			}
			for path, offset := range h.parts(driver, d) {
				if f, err := os.OpenFile(path, os.O_RDWR, 0); !errors.Is(err, unix.EPERM) {
					f.Close()
					t.Errorf("open %s for writing: %v, want EPERM", path, err)
				}
				content, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				for _, step := range []struct {
					change byte
					want   error
				}{{1, cas.ErrCorrupt}, {0, nil}} { // a copy with a changed byte, and one without
					content[offset] ^= step.change
					replace(t, path, content)
					content[offset] ^= step.change
					if _, err := l.Ensure(t.Context(), []cas.Digest{d}); !errors.Is(err, step.want) {
						t.Errorf("%s: Ensure() = %v, want %v", path, err, step.want)
					}
				}
			}
		})
	}
}

// replace puts another file in the place of path.
func replace(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o400); err != nil {
		t.Fatal(err)
	}
}

// Without fs-verity the tier is refused, with the way out.
func TestKernelTierIsRefusedWithoutVerity(t *testing.T) {
	h := newHost(t, DriverErofs)
	d := h.derive(t, h.layers(t), smallTar(t, h.dir, "one", "content"))
	path := filepath.Join(h.dir, "probe")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if enableVerity(f) == nil {
		t.Skip("this filesystem has fs-verity")
	}
	_, err = h.at(t, Kernel).Ensure(t.Context(), []cas.Digest{d})
	var none *NoVerityError
	if !errors.As(err, &none) || none.Hint() == "" {
		t.Errorf("Ensure() = %v, want NoVerityError", err)
	}
}
