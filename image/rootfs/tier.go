package rootfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"rkt/cas"
	"rkt/internal/mutant"
)

// Tier says when a layer is compared with its digest.
type Tier string

// The tiers, the weakest first.
const (
	// Never trusts the store's files.
	Never Tier = "never"
	// Boot hashes a layer before its first use in a boot, and again when its files
	// are not the ones that were hashed. It is the default.
	Boot Tier = "boot"
	// Kernel has the kernel check every block when it is read (fs-verity). A layer
	// is hashed once in its life; after that its measured digest is compared.
	Kernel Tier = "kernel"
	// Always hashes a layer at every start.
	Always Tier = "always"
)

// tiers is the order of the constants above.
func tiers() []Tier { return []Tier{Never, Boot, Kernel, Always} }

// ParseTier returns the tier of that name.
func ParseTier(name string) (Tier, error) {
	if t := Tier(name); slices.Contains(tiers(), t) {
		return t, nil
	}
	return "", fmt.Errorf("unknown integrity tier %q, known are boot, always, never, kernel", name)
}

// DamagedError reports a layer whose files in the store are not what they must
// be. It is cas.ErrCorrupt.
type DamagedError struct {
	Layer cas.Digest
	Err   error
}

func (e *DamagedError) Error() string { return e.Err.Error() }

func (e *DamagedError) Unwrap() error { return e.Err }

// Tier returns when the layers are compared with their digests: the weakest tier
// of the stores that they are in.
func (l *Layers) Tier(layers []cas.Digest) Tier {
	weakest := len(tiers()) - 1
	for _, d := range layers {
		if store, ok := l.o.Stores.Find(d); ok {
			weakest = min(weakest, slices.Index(tiers(), l.tierOf(store)))
		}
	}
	if len(layers) == 0 {
		return l.o.Verify
	}
	return tiers()[weakest]
}

// tierOf is the tier of a store.
func (l *Layers) tierOf(store *cas.Store) Tier {
	if mutant.On("neververify") {
		return Never
	}
	if t, ok := l.o.VerifyStore[store.Dir()]; ok {
		return t
	}
	return l.o.Verify
}

// checkTiers refuses names that are no tiers, and fills in the default.
func (o *Options) checkTiers() error {
	if o.Verify == "" {
		o.Verify = Boot
	}
	if _, err := ParseTier(string(o.Verify)); err != nil {
		return err
	}
	for dir, t := range o.VerifyStore {
		if _, err := ParseTier(string(t)); err != nil {
			return fmt.Errorf("store %q: %w", dir, err)
		}
	}
	return nil
}

// mountRecord is what is written down about a mount: how it was verified, and
// from which files it was made.
type mountRecord struct {
	tier  Tier
	print string
}

func (r mountRecord) encode() []byte { return []byte(string(r.tier) + "\n" + r.print) }

func parseMountRecord(b []byte) mountRecord {
	tier, print, _ := strings.Cut(string(b), "\n")
	return mountRecord{tier: Tier(tier), print: print}
}

// serves tells whether a mount that was recorded so needs nothing done for a
// start that wants want.
func (r mountRecord) serves(want mountRecord) bool {
	if r.print != want.print {
		return false
	}
	switch want.tier {
	case Never:
		return true
	case Boot:
		return r.tier == Boot || r.tier == Always || r.tier == Kernel
	case Kernel:
		return r.tier == Kernel
	}
	return false // Always: hashed again
}

// canBe tells whether the mount can stay for want once its layer is verified.
// Through a mount for the tier Kernel every read passes the cache that the
// kernel has checked; others may read around it.
func (r mountRecord) canBe(want mountRecord) bool {
	return r.print == want.print && (want.tier != Kernel || r.tier == Kernel)
}

// standing returns what the record of the mount of d would say, were it mounted
// now. The error is cas.ErrNotFound when something is missing.
func (l *Layers) standing(d cas.Digest) (mountRecord, error) {
	store, ok := l.o.Stores.Find(d)
	if !ok {
		return mountRecord{}, cas.ErrNotFound
	}
	want := mountRecord{tier: l.tierOf(store)}
	if l.choice.Driver != DriverDir {
		print, err := l.printStored(store, d)
		want.print = print
		return want, err
	}
	tar, _, err := store.Open(d)
	if err != nil {
		return mountRecord{}, err
	}
	from := source{tar: tar}
	defer func() { from.Close() }()
	if err := l.findAll(store, d, &from); err != nil {
		return mountRecord{}, err
	}
	want.print, err = fingerprint(from.files()...)
	return want, err
}

// printStored is the fingerprint of the tar and the index of a layer. It opens
// nothing: a start does this for each layer.
func (l *Layers) printStored(store *cas.Store, d cas.Digest) (string, error) {
	tar, err := store.Stat(d)
	if err != nil {
		return "", err
	}
	own := l.o.Stores.CAS()
	index, err := own.StatDerived(kindIndex, d)
	if errors.Is(err, cas.ErrNotFound) && store != own {
		index, err = store.StatDerived(kindIndex, d)
	}
	if err != nil {
		return "", err
	}
	return printOf(&tar) + printOf(&index), nil
}

// verifyAs does what the tier of the layer asks for. made says that it was
// derived, and so hashed, just now.
func (l *Layers) verifyAs(ctx context.Context, s *state, store *cas.Store, d cas.Digest, from *source, made bool, m *meter) error {
	switch l.tierOf(store) {
	case Never:
		return nil
	case Always:
		if made {
			return nil
		}
		return from.verify(ctx, d, m)
	case Kernel:
		return l.verifyKernel(ctx, store, d, from, m)
	}
	return l.verifyOnce(ctx, s, d, *from, made, m)
}

// damaged gives the error of a layer its name where it is about damage. A file
// that cannot be read because the kernel found it changed is damaged, too.
func damaged(d cas.Digest, err error) error {
	if err == nil || !errors.Is(err, cas.ErrCorrupt) {
		return err
	}
	return &DamagedError{Layer: d, Err: err}
}

// readError makes cas.ErrCorrupt of what the disk or fs-verity cannot give.
func readError(f *os.File, err error) error {
	if err == nil || err == io.EOF || !errors.Is(err, errIO) {
		return err
	}
	return fmt.Errorf("%w: read %q: %w", cas.ErrCorrupt, f.Name(), err)
}
