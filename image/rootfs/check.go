package rootfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/internal/safepath"
)

// Check derives the layer again and compares with what is stored, if anything
// is. The error is cas.ErrCorrupt when that differs; Forget then lets the next
// Ensure make it anew. That the blob is sound is for cas.Store.Check to say.
func (l *Layers) Check(ctx context.Context, d cas.Digest) error {
	store, ok := l.o.Stores.Find(d)
	if !ok {
		return fmt.Errorf("check layer %s: %w", d, cas.ErrNotFound)
	}
	in, err := l.o.Stores.CAS().Ingest(ctx)
	if err != nil {
		return fmt.Errorf("check layer %s: %w", d, err)
	}
	defer in.Close()
	err = l.checkFacts(ctx, in.Dir(), store, d)
	if err := errors.Join(err, l.checkDir(ctx, in.Dir(), store, d)); err != nil {
		return fmt.Errorf("check layer %s: %w", d, err)
	}
	return nil
}

// Forget removes what was derived from the layer. A layer that is mounted stays
// mounted.
func (l *Layers) Forget(ctx context.Context, d cas.Digest) error {
	own := l.o.Stores.CAS()
	for _, kind := range []string{kindVerity, kindIndex, kindDir, kindAccounts} {
		if err := own.RemoveDerived(ctx, kind, d); err != nil {
			return fmt.Errorf("forget layer %s: %w", d, err)
		}
	}
	return nil
}

// checkFacts compares the index and the accounts with what the tar gives now.
func (l *Layers) checkFacts(ctx context.Context, dir *os.File, store *cas.Store, d cas.Digest) error {
	stored := map[string]*os.File{}
	for name, kind := range map[string]string{indexName: kindIndex, accountsName: kindAccounts} {
		f, err := l.findDerived(store, kind, d)
		if errors.Is(err, cas.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		defer f.Close()
		stored[name] = f
	}
	if len(stored) == 0 {
		return nil
	}
	tar, _, err := store.Open(d)
	if err != nil {
		return err
	}
	defer tar.Close()
	if err := l.remake(ctx, dir, tar, d); err != nil {
		return err
	}
	for name, f := range stored {
		again, err := safepath.OpenBeneath(dir, name, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer again.Close()
		if err := sameContent(ctx, f, again); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// remake derives from the tar as if there were nothing yet.
func (l *Layers) remake(ctx context.Context, dir, tar *os.File, d cas.Digest) error {
	if l.o.Tars == nil {
		return errors.New("nothing to read the tar with")
	}
	facts, err := l.o.Tars.Scan(ctx, tar, dir)
	if err != nil {
		return fmt.Errorf("scan tar: %w", err)
	}
	defer facts.Close()
	return makeDerived(ctx, dir, tar, facts, d)
}

// checkDir compares an unpacked layer with its sum, and that with what the tar
// gives now.
func (l *Layers) checkDir(ctx context.Context, dir *os.File, store *cas.Store, d cas.Digest) error {
	folder, err := l.findDerived(store, kindDir, d)
	if errors.Is(err, cas.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer folder.Close()
	if err := verifyDir(ctx, folder, nil); err != nil {
		return err
	}
	if l.o.Tars == nil {
		return errors.New("nothing to unpack the tar with")
	}
	tar, _, err := store.Open(d)
	if err != nil {
		return err
	}
	defer tar.Close()
	const name = "unpacked"
	if err := l.unpack(ctx, dir, name, tar); err != nil {
		return err
	}
	again, err := safepath.OpenBeneath(dir, name+"/"+sumFile, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer again.Close()
	sum, err := safepath.OpenBeneath(folder, sumFile, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer sum.Close()
	return sameContent(ctx, sum, again)
}

// sameContent fails with cas.ErrCorrupt when the files differ.
func sameContent(ctx context.Context, got, want io.ReaderAt) error {
	a, b := make([]byte, readSize), make([]byte, readSize)
	for offset := int64(0); ; offset += readSize {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, errA := got.ReadAt(a, offset)
		m, errB := want.ReadAt(b, offset)
		for _, err := range []error{errA, errB} {
			if err != nil && err != io.EOF {
				return err
			}
		}
		if !bytes.Equal(a[:n], b[:m]) {
			return fmt.Errorf("differs from what the tar gives: %w", cas.ErrCorrupt)
		}
		if n < readSize {
			return nil
		}
	}
}
