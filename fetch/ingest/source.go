package ingest

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"rkt/cas"
	"rkt/fetch/ingest/fault"
	"rkt/fetch/ingest/registry"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/internal/mutant"
)

// document is an index or a manifest with what its source says about it.
type document struct {
	bytes     []byte
	mediaType string // "" or a general one when the source does not know
}

// source is where an image comes from. What it delivers is not verified, but
// never longer than asked for.
type source interface {
	// root reads the document that the request names.
	root(ctx context.Context) (document, error)
	// read reads the manifest or config that d describes.
	read(ctx context.Context, d image.Descriptor) ([]byte, error)
	// layer returns the ways to get a layer, best first. Each gives at most as
	// many bytes as d says, and an error if there are more.
	layer(d image.Descriptor) []blob
	close()
}

// blob is a way to get the bytes of a layer.
type blob struct {
	where string // for messages; "" when there is just one
	open  func(ctx context.Context) (io.ReadCloser, error)
	// adopt is set where the bytes are a file of the spool already: it gives the
	// file another name, by which alone it can be found then.
	adopt func(name string) error
}

// openSource opens what the request names.
func openSource(ctx context.Context, request wire.Request, file *os.File, files *grants, pause time.Duration, out spool, report *reporter) (source, error) {
	s := request.Source
	if s.Kind == wire.Registry {
		return newRegistrySource(s, registry.Options{
			Stall: time.Duration(request.StallSeconds) * time.Second, Pause: pause, Note: report.note,
		}, report)
	}
	if s.Kind == wire.Layout {
		return newLayoutSource(layoutFolder{files}, s)
	}
	archive, err := openArchive(ctx, file, out)
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	if s.Kind == wire.DockerArchive || s.Kind == wire.AnyArchive && !archive.has(layoutFile) {
		return newDockerSource(archive, s)
	}
	return newLayoutSource(archive, s)
}

// registrySource is a registry and its mirrors.
type registrySource struct {
	source  wire.Source
	clients []*registry.Client
	report  *reporter
	best    int // the one that had the document
}

func newRegistrySource(s wire.Source, o registry.Options, report *reporter) (*registrySource, error) {
	r := &registrySource{source: s, report: report}
	for i, end := range s.Endpoints {
		o.Spare = i < len(s.Endpoints)-1
		client, err := registry.New(end, s.Repository, o)
		if err != nil {
			r.close()
			return nil, err
		}
		r.clients = append(r.clients, client)
	}
	return r, nil
}

func (r *registrySource) close() {
	for _, c := range r.clients {
		c.Close()
	}
}

// root asks the endpoints in order. The first one that answers decides what the
// tag means, and this is the only time that anybody is asked for a tag.
func (r *registrySource) root(ctx context.Context) (document, error) {
	reference := r.source.Digest
	if reference == "" {
		reference = r.source.Tag
	}
	var doc document
	if mutant.On("tagtwice") {
		_, _ = r.clients[0].Manifest(ctx, reference, image.MaxManifest)
	}
	err := r.each(ctx, func(i int) error {
		got, err := r.clients[i].Manifest(ctx, reference, image.MaxManifest)
		if err != nil {
			return err
		}
		d := cas.Of(got.Bytes)
		if !got.Digest.IsZero() && got.Digest != d {
			return fault.New(wire.CodeDigest, "%s says that manifest %q has the digest %v, it has %v", r.clients[i].Host(), reference, got.Digest, d)
		}
		if r.source.Digest != "" && r.source.Digest != d.String() {
			return fault.New(wire.CodeDigest, "%s sends a manifest with the digest %v, want %s", r.clients[i].Host(), d, r.source.Digest)
		}
		doc, r.best = document{got.Bytes, got.MediaType}, i
		return nil
	})
	if err == nil {
		r.settle()
	}
	return doc, err
}

// settle leaves out the endpoints that are the same host as the one that had
// the document, asked in another way (https, where it speaks http): their
// failures say nothing about the image.
func (r *registrySource) settle() {
	best := r.clients[r.best]
	r.clients = slices.DeleteFunc(r.clients, func(c *registry.Client) bool {
		same := c != best && c.Host() == best.Host()
		if same {
			c.Close()
		}
		return same
	})
	r.best = slices.Index(r.clients, best)
}

func (r *registrySource) read(ctx context.Context, d image.Descriptor) (b []byte, err error) {
	err = r.each(ctx, func(i int) error {
		c := r.clients[i]
		if d.IsManifest() || d.IsIndex() {
			doc, err := c.Manifest(ctx, d.Digest.String(), image.MaxManifest)
			if err != nil {
				return err
			}
			b = doc.Bytes
		} else if b, err = c.Bytes(ctx, d.Digest, d.Size); err != nil {
			return err
		}
		return checkBytes(b, d)
	})
	return b, err
}

func (r *registrySource) layer(d image.Descriptor) []blob {
	var list []blob
	for _, i := range r.order() {
		c := r.clients[i]
		list = append(list, blob{where: c.Host(), open: func(ctx context.Context) (io.ReadCloser, error) {
			return c.Blob(ctx, d.Digest, d.Size), nil
		}})
	}
	return list
}

// order is the endpoint that had the document, then the others.
func (r *registrySource) order() []int {
	list := []int{r.best}
	for i := range r.clients {
		if i != r.best {
			list = append(list, i)
		}
	}
	return list
}

// each tries the endpoints until one succeeds. The error is that of the last
// one, the registry itself; those of the mirrors are told.
func (r *registrySource) each(ctx context.Context, try func(i int) error) error {
	var last error
	for n, i := range r.order() {
		if n > 0 {
			r.report.note(fmt.Sprintf("%v; going on with %s", last, r.clients[i].Host()))
		}
		if last = try(i); last == nil || ctx.Err() != nil {
			return last
		}
	}
	return last
}

// checkBytes compares b with its descriptor.
func checkBytes(b []byte, d image.Descriptor) error {
	if int64(len(b)) != d.Size {
		return fault.New(wire.CodeDigest, "%v has %d bytes, want %d", d.Digest, len(b), d.Size)
	}
	if got := cas.Of(b); got != d.Digest {
		return fault.New(wire.CodeDigest, "got the digest %v, want %v", got, d.Digest)
	}
	return nil
}
