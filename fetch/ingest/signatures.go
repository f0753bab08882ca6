package ingest

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"rkt/cas"
	"rkt/fetch/ingest/fault"
	"rkt/fetch/ingest/registry"
	"rkt/fetch/ingest/signature"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/internal/strictjson"
)

const (
	bundleType = "application/vnd.dev.sigstore.bundle.v0.3+json"
	simpleType = "application/vnd.dev.cosign.simplesigning.v1+json"
	// annotationPredicate tells what a bundle states, so that the many that are
	// about other things need not be read. The statement itself is what counts.
	annotationPredicate = "dev.sigstore.bundle.predicateType"
	signPredicate       = "https://sigstore.dev/cosign/sign/v1"
	// maxAtOnce is how many requests for signatures are under way at once.
	maxAtOnce = 4
)

// search looks for the signatures of an image while the rest of it is read.
type search struct {
	wanted bool
	cancel context.CancelFunc
	done   chan struct{}
	set    signature.Set
	err    error
}

// begin begins to look for signatures of the digests, if the request asks for
// them. Only registries have any.
func begin(ctx context.Context, from source, request wire.Request, digests []cas.Digest) *search {
	s := &search{done: make(chan struct{})}
	ctx, s.cancel = context.WithCancel(ctx)
	r, ok := from.(*registrySource)
	if s.wanted = ok && request.Source.Signatures; !s.wanted {
		close(s.done)
		return s
	}
	go func() {
		defer close(s.done)
		s.set, s.err = r.signatures(ctx, digests)
	}()
	return s
}

// end gives up what still goes on.
func (s *search) end() {
	s.cancel()
	<-s.done
}

// leave waits for what was found and writes it into the spool.
func (s *search) leave(out spool) error {
	if !s.wanted {
		return nil
	}
	<-s.done
	if s.err != nil {
		return fmt.Errorf("look for signatures: %w", s.err)
	}
	b, err := s.set.Encode()
	if err != nil {
		return err
	}
	return out.write(wire.SignaturesFile, b)
}

// signatures asks the endpoints in order, until one has signatures: a mirror may
// have the image only. They prove themselves, wherever they come from. That an
// endpoint cannot be asked is an error of the last one only.
func (r *registrySource) signatures(ctx context.Context, digests []cas.Digest) (set signature.Set, err error) {
	for _, i := range r.order() {
		set, err = signaturesAt(ctx, r.clients[i], digests)
		if err == nil && (len(set.Items) > 0 || set.More) || ctx.Err() != nil {
			return set, err
		}
	}
	return set, err
}

// place is where signatures of a digest may be.
type place func(ctx context.Context, c *registry.Client, d cas.Digest) ([]signature.Item, bool, error)

// signaturesAt looks everywhere at once and puts together what is found, in an
// order that does not depend on which answer comes first.
func signaturesAt(ctx context.Context, c *registry.Client, digests []cas.Digest) (signature.Set, error) {
	places := []place{bundles, simples}
	type found struct {
		items []signature.Item
		more  bool
		err   error
	}
	results := make([]found, len(places)*len(digests))
	var workers sync.WaitGroup
	for i := range results {
		workers.Go(func() {
			f := &results[i]
			f.items, f.more, f.err = places[i%len(places)](ctx, c, digests[i/len(places)])
		})
	}
	workers.Wait()
	var set signature.Set
	for _, f := range results {
		if f.err != nil {
			return signature.Set{}, f.err
		}
		set.More = set.More || f.more
		for _, item := range f.items {
			set.Add(item)
		}
	}
	return set, nil
}

// bundles finds the sigstore bundles that refer to a digest.
func bundles(ctx context.Context, c *registry.Client, d cas.Digest) ([]signature.Item, bool, error) {
	list, more, err := c.Referrers(ctx, d, bundleType, image.MaxManifest)
	if err != nil {
		return nil, false, err
	}
	list = slices.DeleteFunc(list, func(r registry.Referrer) bool {
		predicate, ok := r.Annotations[annotationPredicate]
		return ok && predicate != signPredicate
	})
	if len(list) > signature.MaxItems {
		list, more = list[:signature.MaxItems], true
	}
	items := make([]signature.Item, len(list))
	err = each(len(list), func(i int) error {
		b, err := bundle(ctx, c, list[i], d)
		items[i] = signature.Item{Form: signature.Bundle, Payload: b}
		return err
	})
	return items, more, err
}

// each calls do for 0 to n-1, a few at once.
func each(n int, do func(i int) error) error {
	errs := make([]error, n)
	slots := make(chan struct{}, maxAtOnce)
	var workers sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		workers.Go(func() {
			errs[i] = do(i)
			<-slots
		})
	}
	workers.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// artifact is what is read of a manifest that is no image's.
type artifact struct {
	Layers []struct {
		MediaType   string            `json:"mediaType"`
		Digest      cas.Digest        `json:"digest"`
		Size        int64             `json:"size"`
		Annotations map[string]string `json:"annotations"`
	} `json:"layers"`
	Subject *struct {
		Digest cas.Digest `json:"digest"`
	} `json:"subject"`
}

// bundle reads the bundle of a referrer. One that is too large or no bundle after
// all is empty, which no verifier takes for a signature: it must not hide others.
func bundle(ctx context.Context, c *registry.Client, r registry.Referrer, subject cas.Digest) ([]byte, error) {
	m, err := readArtifact(ctx, c, r.Digest.String())
	if fault.Code(err) == wire.CodeNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if m == nil || len(m.Layers) != 1 || m.Layers[0].MediaType != bundleType || m.Subject == nil || m.Subject.Digest != subject {
		return nil, nil
	}
	l := m.Layers[0]
	if l.Size <= 0 || l.Size > signature.MaxPayload {
		return nil, nil
	}
	return blobBytes(ctx, c, l.Digest, l.Size)
}

// readArtifact reads a manifest by digest or tag; nil if it cannot be understood.
func readArtifact(ctx context.Context, c *registry.Client, reference string) (*artifact, error) {
	doc, err := c.Manifest(ctx, reference, image.MaxManifest)
	if err != nil {
		return nil, err
	}
	if d, err := cas.ParseDigest(reference); err == nil && cas.Of(doc.Bytes) != d {
		return nil, fault.New(wire.CodeDigest, "%s sends a manifest with the digest %v, want %v", c.Host(), cas.Of(doc.Bytes), d)
	}
	m := &artifact{}
	if strictjson.Decode(doc.Bytes, m, strictjson.Options{AllowUnknown: true}) != nil {
		return nil, nil
	}
	return m, nil
}

// blobBytes reads a blob; nil if the registry does not have it any more.
func blobBytes(ctx context.Context, c *registry.Client, d cas.Digest, size int64) ([]byte, error) {
	b, err := c.Bytes(ctx, d, size)
	if fault.Code(err) == wire.CodeNotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if got := cas.Of(b); got != d {
		return nil, fault.New(wire.CodeDigest, "%s sends a signature with the digest %v, want %v", c.Host(), got, d)
	}
	return b, nil
}

// simples finds the signatures that cosign keeps under a tag made of the digest.
func simples(ctx context.Context, c *registry.Client, d cas.Digest) ([]signature.Item, bool, error) {
	m, err := readArtifact(ctx, c, "sha256-"+d.Hex()+".sig")
	if fault.Code(err) == wire.CodeNotFound || err == nil && m == nil {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	layers, more := m.Layers, false
	if len(layers) > signature.MaxItems {
		layers, more = layers[:signature.MaxItems], true
	}
	items := make([]signature.Item, len(layers))
	err = each(len(layers), func(i int) error {
		l := layers[i]
		items[i] = signature.Item{Form: signature.SimpleSigning, Annotations: map[string]string{}}
		if l.MediaType != simpleType || l.Size <= 0 || l.Size > signature.MaxPayload {
			return nil
		}
		for _, key := range signature.Annotations() {
			if v, ok := l.Annotations[key]; ok {
				items[i].Annotations[key] = v
			}
		}
		var err error
		items[i].Payload, err = blobBytes(ctx, c, l.Digest, l.Size)
		return err
	})
	return items, more, err
}
