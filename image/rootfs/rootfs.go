// Package rootfs makes layers usable as parts of a root filesystem. From the
// facts of a layer it writes the layer's index, mounts each layer once per boot
// in a mount namespace pinned under the run directory, and says where a pod can
// clone it from. It knows the users and groups that a stack of layers declares.
// Begin with Open, then Layers.Ensure.
package rootfs

import (
	"context"
	"errors"
	"os"

	"rkt/cas"
	"rkt/stage1/contract"
)

// The drivers: ways of mounting a layer.
const (
	DriverErofs = "erofs"      // index and tar mounted from their files
	DriverLoop  = "erofs-loop" // index and tar mounted through loop devices
	DriverDir   = "dir"        // an unpacked folder
)

// Stores are where layers lie: one store to write to, and all to look in.
// *image.Store is one.
type Stores interface {
	CAS() *cas.Store
	Find(cas.Digest) (*cas.Store, bool)
}

// TarReader reads tars, which are a stranger's bytes, for a process that must
// not. Each method is given a tar, opened read-only, and an empty folder.
type TarReader interface {
	// Scan leaves the facts of the tar in the folder, as layer 0 of fetch/wire.
	Scan(ctx context.Context, tar, folder *os.File) error
	// Unpack leaves the files of the tar in the folder, in a folder "root".
	Unpack(ctx context.Context, tar, folder *os.File) error
}

// Options of Open.
type Options struct {
	Stores Stores
	// RunDir is the folder of what does not outlive a boot ("/run/rkt").
	RunDir string
	// Driver is a Driver* constant; "" = the first that works on the store.
	Driver string
	// Tars is asked when an index or a folder is missing. Without it that is an error.
	Tars TarReader
}

// Layers are the layers of some stores. Its methods may be called from several
// goroutines and processes.
type Layers struct {
	o Options
}

var errUnfinished = errors.New("internal error: not finished")

// Open finds the driver of the store (see Driver) and touches nothing else.
func Open(o Options) (*Layers, error) { return &Layers{o: o}, nil }

// Driver returns the driver in use.
func (l *Layers) Driver() string { return DriverErofs }

// Why returns one line that tells why it is that driver.
func (l *Layers) Why() string { return "" }

// Derive makes what mounting the layer d needs from its facts, and counts the
// layer as verified for this boot: the tar has just been committed through the
// ingest in, which hashed it. tar is that blob. Facts that do not fit together
// or to the tar are layer.ErrMalformed, a layer that no index can hold is
// erofs.ErrTooLarge.
func (l *Layers) Derive(ctx context.Context, in *cas.Ingest, tar, facts *os.File, d cas.Digest) error {
	return errUnfinished
}

// Ensure mounts those of the layers that are not mounted, and tells where all
// are, by the hex digits of their diff IDs. The first time in a boot a layer is
// hashed; the error is cas.ErrCorrupt when it is damaged, cas.ErrNotFound when
// it is in no store. The layers stay mounted until Release.
func (l *Layers) Ensure(ctx context.Context, diffIDs []cas.Digest) (map[string]contract.Mounted, error) {
	return nil, errUnfinished
}

// Visible returns those of the layers, bottom first, that have a part in the
// root: not those below a layer whose root is opaque, which an overlay would
// wrongly show.
func (l *Layers) Visible(ctx context.Context, diffIDs []cas.Digest) ([]cas.Digest, error) {
	return nil, errUnfinished
}

// Accounts returns the users and groups of a root made of the layers, bottom first.
func (l *Layers) Accounts(ctx context.Context, diffIDs []cas.Digest) (*Accounts, error) {
	return nil, errUnfinished
}

// Release unmounts the layers that keep does not want, lazily: pods that run
// from clones are not disturbed. When none is left, nothing stays mounted on
// the host. keep is called while nobody else can pass Ensure: it finds then
// every pod that was made before its Ensure.
func (l *Layers) Release(ctx context.Context, keep func(cas.Digest) bool) error { return errUnfinished }

// Check derives the layer again and compares. The error is cas.ErrCorrupt when
// what is stored differs; Forget lets the next Ensure make it anew.
func (l *Layers) Check(ctx context.Context, d cas.Digest) error { return errUnfinished }

// Forget removes what was derived from the layer.
func (l *Layers) Forget(ctx context.Context, d cas.Digest) error { return errUnfinished }
