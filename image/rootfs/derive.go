package rootfs

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/image/layer"
	"rkt/image/rootfs/erofs"
	"rkt/internal/safepath"
)

// Derive makes what mounting the layer d needs from its facts, and counts the
// layer as verified for this boot: the ingest in has just hashed and committed
// it, and keeps it. tar is the committed blob. Facts that do not fit together or
// to the tar are layer.ErrMalformed, a layer that no index can hold is
// erofs.ErrTooLarge.
func (l *Layers) Derive(ctx context.Context, in *cas.Ingest, tar, facts *os.File, d cas.Digest) error {
	if err := in.Keep(ctx, d); err != nil {
		return err
	}
	if err := l.deriveFacts(ctx, tar, facts, d); err != nil {
		return fmt.Errorf("derive layer %s: %w", d, err)
	}
	if l.choice.Driver == DriverDir {
		return nil // a tar is unpacked when somebody runs it
	}
	// Without the record the first start hashes once more: no reason to fail
	// where there is no run directory, as in the making of a host's image.
	_ = l.countVerified(d)
	return nil
}

// countVerified records a layer that was hashed on its way into the store.
func (l *Layers) countVerified(d cas.Digest) error {
	s, err := openState(l.o.RunDir)
	if err != nil {
		return err
	}
	defer s.Close()
	own := l.o.Stores.CAS()
	var from source
	defer func() { from.Close() }()
	if from.tar, _, err = own.Open(d); err != nil {
		return err
	}
	if from.index, err = own.OpenDerived(kindIndex, d); err != nil {
		return err
	}
	print, err := fingerprint(from.files()...)
	if err != nil {
		return err
	}
	return s.recordVerified(d, print)
}

// Names of what makeDerived makes.
const (
	indexName    = "index"
	accountsName = "accounts"
)

// deriveFacts commits the accounts of a layer and, for the drivers that have
// one, its index.
func (l *Layers) deriveFacts(ctx context.Context, tar, facts *os.File, d cas.Digest) error {
	// An ingest of our own: into the folder of the caller's, the process that
	// wrote the facts may write, too. What the kernel is to read, it must not
	// be able to put in the place of what we wrote.
	own, err := l.o.Stores.CAS().Ingest(ctx)
	if err != nil {
		return err
	}
	defer own.Close()
	if err := makeDerived(ctx, own.Dir(), tar, facts, d); err != nil {
		return err
	}
	if l.choice.Driver != DriverDir {
		if err := own.CommitDerived(ctx, kindIndex, d, indexName); err != nil {
			return err
		}
	}
	return own.CommitDerived(ctx, kindAccounts, d, accountsName)
}

// makeDerived makes what facts are derived to, in a folder.
func makeDerived(ctx context.Context, dir, tar, facts *os.File, d cas.Digest) error {
	tree, size, err := readTree(tar, facts)
	if err != nil {
		return err
	}
	err = create(dir, indexName, func(f *os.File) error {
		return erofs.Write(ctx, f, tree, erofs.Tar{ReaderAt: tar, Size: size, Digest: sumOf(d)})
	})
	if err != nil {
		return err
	}
	return create(dir, accountsName, func(f *os.File) error { return writeAccounts(f, tree, d) })
}

// readTree builds the tree of a layer from its facts.
func readTree(tar, facts *os.File) (*layer.Tree, uint64, error) {
	st, err := tar.Stat()
	if err != nil {
		return nil, 0, err
	}
	if _, err := facts.Seek(0, 0); err != nil {
		return nil, 0, err
	}
	size := uint64(st.Size())
	tree, err := layer.Build(layer.NewReader(facts), size)
	return tree, size, err
}

// derive makes missing derived data of the kind with the help of a TarReader.
// The tar is verified first: what a damaged one gives would stay when that has
// been replaced by a sound one.
func (l *Layers) derive(ctx context.Context, store *cas.Store, kind string, d cas.Digest) error {
	if l.o.Tars == nil {
		return fmt.Errorf("%s of the layer: %w, and there is nothing to make it with", kind, cas.ErrNotFound)
	}
	// It is read by a process that gets its own descriptor, with its own offset.
	tar, _, err := store.Open(d)
	if err != nil {
		return err
	}
	defer tar.Close()
	if err := verifyTar(ctx, tar, d, nil); err != nil {
		return err
	}
	in, err := l.o.Stores.CAS().Ingest(ctx)
	if err != nil {
		return err
	}
	defer in.Close()
	if kind == kindDir {
		return l.deriveDir(ctx, in, tar, d)
	}
	facts, err := l.o.Tars.Scan(ctx, tar, in.Dir())
	if err != nil {
		return fmt.Errorf("scan tar: %w", err)
	}
	defer facts.Close()
	return l.deriveFacts(ctx, tar, facts, d)
}

// deriveDir has the tar unpacked and commits the folder with its sum.
func (l *Layers) deriveDir(ctx context.Context, in *cas.Ingest, tar *os.File, d cas.Digest) error {
	const name = "unpacked"
	if err := l.unpack(ctx, in.Dir(), name, tar); err != nil {
		return err
	}
	return in.CommitDerived(ctx, kindDir, d, name)
}

// unpack makes the folder name in dir: the files of the tar, and their sum.
func (l *Layers) unpack(ctx context.Context, dir *os.File, name string, tar *os.File) error {
	if err := unix.Mkdirat(int(dir.Fd()), name, 0o700); err != nil {
		return fmt.Errorf("make folder %q: %w", name, err)
	}
	folder, err := safepath.OpenBeneath(dir, name, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer folder.Close()
	if err := l.o.Tars.Unpack(ctx, tar, folder); err != nil {
		return fmt.Errorf("unpack tar: %w", err)
	}
	sum, err := sumTree(ctx, folder, nil)
	if err != nil {
		return err
	}
	return create(folder, sumFile, func(f *os.File) error {
		_, err := f.WriteString(sum)
		return err
	})
}

// create makes a file that was not there, fills it and closes it.
func create(dir *os.File, name string, fill func(*os.File) error) (err error) {
	f, err := safepath.OpenBeneath(dir, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return fill(f)
}

// sumOf returns the bytes of a digest.
func sumOf(d cas.Digest) (sum [32]byte) {
	b, err := hex.DecodeString(d.Hex())
	if err == nil {
		copy(sum[:], b)
	}
	return sum
}
