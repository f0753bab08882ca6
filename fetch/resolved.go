package fetch

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/internal/safepath"
)

// resolved is what a reference means, read from the spool and verified. All
// later steps use these bytes and never read the files again.
type resolved struct {
	indexBytes     []byte // nil when the reference names a manifest directly
	manifestBytes  []byte
	configBytes    []byte
	manifestDigest cas.Digest
	id             image.ID
	manifest       *image.Manifest
	config         *image.Config
}

// readResolved reads what rkt-fetch says that ref means, and checks the chain
// from the digest in ref, if there is one, through the index to the manifest
// and on to the config, and that this machine can run it.
func readResolved(spool *os.File, ref image.Ref, p image.Platform) (*resolved, error) {
	r := &resolved{}
	var err error
	if r.indexBytes, err = readSpool(spool, wire.IndexFile, image.MaxManifest); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if r.manifestBytes, err = readSpool(spool, wire.ManifestFile, image.MaxManifest); err != nil {
		return nil, err
	}
	if r.configBytes, err = readSpool(spool, wire.ConfigFile, image.MaxManifest); err != nil {
		return nil, err
	}
	r.manifestDigest, r.id = cas.Of(r.manifestBytes), cas.Of(r.configBytes)
	if err := r.checkReference(ref); err != nil {
		return nil, err
	}
	if err := r.checkIndex(p); err != nil {
		return nil, err
	}
	if err := r.checkManifest(); err != nil {
		return nil, err
	}
	return r, r.checkConfig(p)
}

// checkReference compares the digest that the user gave with the first document.
func (r *resolved) checkReference(ref image.Ref) error {
	if ref.Digest.IsZero() {
		return nil
	}
	first := r.manifestDigest
	if r.indexBytes != nil {
		first = cas.Of(r.indexBytes)
	}
	if first != ref.Digest {
		return coded(wire.CodeDigest, "got the digest %v instead of the one that was asked for", first)
	}
	return nil
}

// checkIndex makes the choice of the platform itself and compares.
func (r *resolved) checkIndex(p image.Platform) error {
	if r.indexBytes == nil {
		return nil
	}
	index, err := image.ParseIndex(r.indexBytes)
	if err != nil {
		return coded(wire.CodeType, "read index: %w", err)
	}
	chosen, err := image.Choose(index, p)
	if err != nil {
		return err
	}
	if chosen.IsIndex() {
		return coded(wire.CodeType, "the index leads to another index")
	}
	return sameBytes("manifest", chosen, r.manifestBytes, r.manifestDigest)
}

func (r *resolved) checkManifest() error {
	var err error
	if r.manifest, err = image.ParseManifest(r.manifestBytes); err != nil {
		return coded(wire.CodeType, "read manifest: %w", err)
	}
	return sameBytes("config", r.manifest.Config, r.configBytes, r.id)
}

func (r *resolved) checkConfig(p image.Platform) error {
	var err error
	if r.config, err = image.ParseConfig(r.configBytes); err != nil {
		return coded(wire.CodeType, "read config: %w", err)
	}
	if got, want := len(r.config.DiffIDs), len(r.manifest.Layers); got != want {
		return coded(wire.CodeDigest, "the config has %d diff IDs for the %d layers of the manifest", got, want)
	}
	if !p.Runs(r.config.Platform) {
		return fmt.Errorf("%w: it is for %v, wanted is one for %v", image.ErrPlatform, r.config.Platform, p)
	}
	return nil
}

// sameBytes compares a document with the descriptor that led to it.
func sameBytes(what string, d image.Descriptor, b []byte, digest cas.Digest) error {
	if d.Digest != digest {
		return coded(wire.CodeDigest, "the %s has digest %v, want %v", what, digest, d.Digest)
	}
	if d.Size != int64(len(b)) {
		return coded(wire.CodeDigest, "the %s has %d bytes, want %d", what, len(b), d.Size)
	}
	return nil
}

// indexDigest is the digest of the index; zero when there is none.
func (r *resolved) indexDigest() cas.Digest {
	if r.indexBytes == nil {
		return cas.Digest{}
	}
	return cas.Of(r.indexBytes)
}

// readSpool reads a document of at most max bytes that rkt-fetch left.
func readSpool(spool *os.File, name string, max int64) ([]byte, error) {
	f, err := openSpool(spool, name, max)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, max+1))
	if err != nil {
		return nil, fmt.Errorf("read %s of the spool: %w", name, err)
	}
	if int64(len(b)) > max {
		return nil, coded(wire.CodeTooLarge, "the %s grew past %d MiB", name, max>>20)
	}
	return b, nil
}

// openSpool opens a plain file of at most max bytes that rkt-fetch left. What it
// leads to elsewhere, by a link of any kind, or makes us wait, is refused.
func openSpool(spool *os.File, name string, max int64) (*os.File, error) {
	f, err := safepath.OpenBeneath(spool, name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s of the spool: %w", name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		f.Close()
		return nil, fmt.Errorf("stat %s of the spool: %w", name, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1:
		err = fmt.Errorf("%s of the spool is not a plain file", name)
	case st.Size > max:
		err = coded(wire.CodeTooLarge, "the %s has %d bytes, the limit is %d", name, st.Size, max)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
