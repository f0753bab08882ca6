// Package rootfs makes layers usable as parts of a root filesystem. From the
// facts of a layer it writes the layer's index, mounts each layer once per boot
// in a mount namespace pinned under the run directory, and says where a pod can
// clone it from. It knows the users and groups that a stack of layers declares.
// Begin with Open, then Layers.Ensure.
package rootfs

import (
	"context"
	"os"

	"rkt/cas"
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
	// Scan writes the facts of the tar (package layer) into a file in the folder
	// and returns it.
	Scan(ctx context.Context, tar, folder *os.File) (facts *os.File, err error)
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
	// Verify is when layers are compared with their digests; "" = Boot. VerifyStore
	// says it for the stores in some folders (cas.Store.Dir).
	Verify      Tier
	VerifyStore map[string]Tier
	// Hashing is told how many bytes of layers Ensure has hashed, of how many, by
	// one goroutine at a time and not often; once it was called, the last call has
	// done equal to total. nil = nobody.
	Hashing func(done, total int64)
}

// Layers are the layers of some stores. Its methods may be called from several
// goroutines and processes.
type Layers struct {
	o      Options
	choice choice
}

// Open finds the driver of the store: the one that was found in this boot, else
// by trying. It changes nothing but the record of that.
func Open(o Options) (*Layers, error) {
	if err := o.checkTiers(); err != nil {
		return nil, err
	}
	l := &Layers{o: o}
	var err error
	l.choice, err = choose(context.Background(), o) // some milliseconds, at most
	return l, err
}

// Driver returns the driver in use.
func (l *Layers) Driver() string { return l.choice.Driver }

// Why returns one line that tells why it is that driver.
func (l *Layers) Why() string { return l.choice.Why }
