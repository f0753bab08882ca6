package fetch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"rkt/cas"
	"rkt/fetch/confined"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/image/trust"
)

// transfer brings one image: from the request to rkt-fetch to the record.
type transfer struct {
	f      *Fetcher
	ref    image.Ref // what it is recorded as
	asked  image.Ref // what is asked for: ref, or the digest that it is known to mean
	source *source
	in     *cas.Ingest

	proc    *confined.Session
	got     *resolved
	verdict trust.Verdict
	// signatures are those that came with the image, in rkt-fetch's form.
	signatures []byte
	locks      map[cas.Digest]*lock

	mu    sync.Mutex // of what the goroutines that store layers share
	sizes map[cas.Digest]int64
}

// silence is how long rkt-fetch may say nothing. It gives up a transfer much earlier itself; this one is for an
// rkt-fetch that does not work any more.
const silence = 10 * time.Minute

// run does the whole transfer. rkt-fetch is gone when it returns.
func (t *transfer) run(ctx context.Context) (*image.Image, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var err error
	t.proc, err = confined.Start(ctx, t.f.confinement(), t.in.Dir(), t.source.file, t.request())
	if err != nil {
		return nil, err
	}
	defer t.proc.Close()

	if err := t.resolve(); err != nil {
		return nil, err
	}
	if err := t.allow(ctx); err != nil {
		return nil, err
	}
	want, err := t.order(ctx)
	defer releaseAll(t.locks)
	if err != nil {
		return nil, err
	}
	if err := t.layers(ctx, cancel, want); err != nil {
		return nil, err
	}
	return t.record(ctx)
}

func (t *transfer) request() wire.Request {
	p := t.f.o.Platform
	return wire.Request{
		Version:  wire.Version,
		Mode:     wire.Fetch,
		Source:   t.source.request,
		Platform: wire.Platform{OS: p.OS, Arch: p.Architecture, Variant: p.Variant},
	}
}

// resolve waits for Resolved and checks what rkt-fetch found.
func (t *transfer) resolve() error {
	for notes := 0; ; {
		m, err := t.receive()
		switch {
		case err != nil:
			return err
		case m.Type == wire.Note:
			if notes++; notes > maxNotes {
				return errFlood
			}
			t.f.emit(Note{m.Text})
			continue
		case m.Type == wire.Failed:
			return coded(m.Code, "%w", reported{m.Text})
		case m.Type != wire.Resolved:
			return coded(wire.CodeOther, "rkt-fetch sends message %d before it says what the image is", m.Type)
		}
		t.got, err = readResolved(t.proc.Folder(), t.asked, t.f.o.Platform)
		return err
	}
}

// receive waits for a message; of an image from stdin as long as it takes, since
// whoever fills the pipe may be slow.
func (t *transfer) receive() (wire.Message, error) {
	if t.ref.Transport == image.Stdin {
		return t.proc.Receive(0)
	}
	return t.proc.Receive(silence)
}

// allow asks the trust policy about what the reference means now.
func (t *transfer) allow(ctx context.Context) error {
	policy, err := t.f.policy()
	if err != nil {
		return err
	}
	s := subjectOf(t.ref, t.got.manifestDigest, t.got.indexDigest())
	if t.source.request.Signatures {
		if err := t.readSignatures(); err != nil {
			return err
		}
		s.signatures = func() ([]byte, error) { return t.signatures, nil }
	}
	t.verdict, err = t.f.judge(ctx, policy, s)
	return err
}

// readSignatures reads the signatures that rkt-fetch left, once: what is verified
// is what is stored.
func (t *transfer) readSignatures() error {
	b, err := readSpool(t.proc.Folder(), wire.SignaturesFile, wire.MaxSignatures)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("rkt-fetch does not say whether the image is signed")
	}
	t.signatures = b
	return err
}

// order decides which layers are to be brought and tells rkt-fetch: those that
// are not in the store once nobody else is bringing them.
func (t *transfer) order(ctx context.Context) ([]bool, error) {
	diffIDs := t.got.config.DiffIDs
	missing, err := t.missing(ctx, diffIDs)
	if err != nil {
		return nil, err
	}
	t.locks, err = t.f.lockLayers(ctx, t.ref, missing)
	if err != nil {
		return nil, err
	}
	if missing, err = t.missing(ctx, diffIDs); err != nil {
		return nil, err
	}
	want, info := t.plan(missing)
	if err := t.room(want); err != nil {
		return nil, err
	}
	t.f.emit(Resolved{Reference: t.ref.String(), ID: t.got.id, Manifest: t.got.manifestDigest, Layers: info})
	layers, err := t.packings(want)
	if err != nil {
		return nil, err
	}
	return want, t.proc.Order(layers)
}

// packings tells how each layer is compressed.
func (t *transfer) packings(want []bool) ([]confined.Layer, error) {
	layers := make([]confined.Layer, len(want))
	for i, w := range want {
		packing, ok := t.got.manifest.Layers[i].Compression()
		if w && !ok {
			return nil, coded(wire.CodeType, "layer %d of %d: unknown type %.100q", i+1, len(want), t.got.manifest.Layers[i].MediaType)
		}
		layers[i] = confined.Layer{Want: w, Packing: string(packing)}
	}
	return layers, nil
}

// missing returns the layers that no store has and protects those of our own
// store from being swept meanwhile.
func (t *transfer) missing(ctx context.Context, layers []cas.Digest) ([]cas.Digest, error) {
	var missing []cas.Digest
	for _, d := range layers {
		store, ok := t.f.o.Store.Find(d)
		if ok && store == t.f.o.Store.CAS() {
			err := t.in.Keep(ctx, d)
			if err != nil && !errors.Is(err, cas.ErrNotFound) {
				return nil, fmt.Errorf("keep layer %v: %w", d, err)
			}
			ok = err == nil
		}
		if !ok {
			missing = append(missing, d)
		}
	}
	return missing, nil
}

// plan marks the positions of the missing layers. One that the image has twice
// is brought once.
func (t *transfer) plan(missing []cas.Digest) ([]bool, []LayerInfo) {
	lacks := make(map[cas.Digest]bool)
	for _, d := range missing {
		lacks[d] = true
	}
	layers := t.got.config.DiffIDs
	want, info := make([]bool, len(layers)), make([]LayerInfo, len(layers))
	for i, d := range layers {
		want[i] = lacks[d]
		delete(lacks, d)
		info[i] = LayerInfo{DiffID: d, Size: t.got.manifest.Layers[i].Size, Present: !want[i]}
	}
	return want, info
}

// record makes the image reachable, which is the last step.
func (t *transfer) record(ctx context.Context) (*image.Image, error) {
	rec := image.Record{
		Reference: t.ref.String(),
		ID:        t.got.id,
		Manifest:  t.got.manifestDigest,
		Platform:  t.got.config.Platform,
		Layers:    t.got.config.DiffIDs,
		Imported:  time.Now().UTC(),
		Source:    t.source.stamp,
		Verdict:   t.verdict,
	}
	if t.ref.Transport == image.Stdin {
		rec.Reference = "" // it can be had by its ID only
	}
	documents := [][]byte{t.got.configBytes, t.got.manifestBytes}
	if t.got.indexBytes != nil {
		documents = append(documents, t.got.indexBytes)
		rec.Index = t.got.indexDigest()
	}
	if len(t.signatures) > 0 {
		documents = append(documents, t.signatures)
		rec.Signatures = cas.Of(t.signatures)
	}
	for _, b := range documents {
		if _, err := t.in.Put(ctx, b); err != nil {
			return nil, fmt.Errorf("store manifest and config: %w", err)
		}
		rec.Size += int64(len(b))
	}
	size, err := t.layerSizes()
	if err != nil {
		return nil, err
	}
	rec.Size += size
	if err := t.f.o.Store.Save(ctx, rec); err != nil {
		return nil, fmt.Errorf("record image: %w", err)
	}
	return t.f.o.Store.Load(&rec)
}

// layerSizes adds up the sizes of the layers, each once.
func (t *transfer) layerSizes() (int64, error) {
	seen := make(map[cas.Digest]bool)
	var sum int64
	for _, d := range t.got.config.DiffIDs {
		if seen[d] {
			continue
		}
		seen[d] = true
		if size, ok := t.sizes[d]; ok {
			sum += size
			continue
		}
		store, ok := t.f.o.Store.Find(d)
		if !ok {
			return 0, fmt.Errorf("layer %v: %w", d, cas.ErrNotFound)
		}
		f, size, err := store.Open(d)
		if err != nil {
			return 0, fmt.Errorf("open layer %v: %w", d, err)
		}
		f.Close()
		sum += size
	}
	return sum, nil
}
