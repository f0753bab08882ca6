package ingest

import (
	"context"
	"fmt"
	"io"
	"strings"

	"rkt/cas"
	"rkt/fetch/ingest/fault"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/internal/strictjson"
)

// Files of an OCI image layout.
const (
	layoutFile = "oci-layout"
	indexFile  = "index.json"
	blobFolder = "blobs/sha256/"
)

// layoutSource is an OCI image layout.
type layoutSource struct {
	in     folder
	source wire.Source
}

func newLayoutSource(in folder, s wire.Source) (_ *layoutSource, err error) {
	defer func() {
		if err != nil {
			in.close()
		}
	}()
	b, err := readAll(in, layoutFile, 4<<10)
	if err != nil {
		return nil, fmt.Errorf("read image layout: %w", err)
	}
	var head struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := strictjson.Decode(b, &head, strictjson.Options{AllowUnknown: true}); err != nil {
		return nil, fault.New(wire.CodeType, "read image layout: %w", err)
	}
	if !strings.HasPrefix(head.Version, "1.") {
		return nil, fault.New(wire.CodeType, "image layout has the version %.40q, want 1", head.Version)
	}
	return &layoutSource{in: in, source: s}, nil
}

func (l *layoutSource) close() { l.in.close() }

// root reads what the tag or digest means, the one image if none is given.
func (l *layoutSource) root(ctx context.Context) (document, error) {
	b, err := readAll(l.in, indexFile, image.MaxManifest)
	if err != nil {
		return document{}, fmt.Errorf("read image layout: %w", err)
	}
	index, err := image.ParseIndex(b)
	if err != nil {
		return document{}, fault.New(wire.CodeType, "read %s of the image layout: %w", indexFile, err)
	}
	if l.source.Digest != "" {
		return l.byDigest(index)
	}
	d, whole, err := choose(index, l.source.Tag)
	if err != nil || whole {
		return document{bytes: b}, err
	}
	b, err = l.read(ctx, d)
	return document{b, d.MediaType}, err
}

// byDigest reads a document by its digest, whether the layout lists it or not.
func (l *layoutSource) byDigest(index *image.Index) (document, error) {
	want, err := cas.ParseDigest(l.source.Digest)
	if err != nil {
		return document{}, err
	}
	var doc document
	for _, d := range index.Manifests {
		if d.Digest == want {
			doc.mediaType = d.MediaType
		}
	}
	if doc.bytes, err = readAll(l.in, blobFolder+want.Hex(), image.MaxManifest); err != nil {
		return document{}, err
	}
	if got := cas.Of(doc.bytes); got != want {
		return document{}, fault.New(wire.CodeDigest, "got the digest %v, want %v", got, want)
	}
	return doc, nil
}

// choose finds the image with the tag, or the only one. A layout whose entries
// are one image for several platforms is its index itself: whole is true then.
func choose(index *image.Index, tag string) (_ image.Descriptor, whole bool, err error) {
	var found []image.Descriptor
	var names []string
	platforms := true
	for _, d := range index.Manifests {
		if tag == "" || d.RefName == tag {
			found = append(found, d)
		}
		platforms = platforms && d.Platform != nil && d.RefName == index.Manifests[0].RefName
		names = append(names, d.RefName)
	}
	switch {
	case len(found) == 1:
		return found[0], false, nil
	case len(found) > 1 && platforms:
		return image.Descriptor{}, true, nil
	case tag != "":
		return image.Descriptor{}, false, fault.New(wire.CodeNotFound, "%d images have the tag %q; there are %s", len(found), tag, listed(names))
	}
	return image.Descriptor{}, false, fault.New(wire.CodeNotFound, "%d images are in it, say which one: %s", len(found), listed(names))
}

// listed quotes the first few of names that a stranger gave.
func listed(names []string) string {
	const most = 10
	var quoted []string
	for i, n := range names {
		if i == most {
			quoted = append(quoted, fmt.Sprintf("and %d more", len(names)-most))
			break
		}
		quoted = append(quoted, fmt.Sprintf("%.100q", n))
	}
	if len(quoted) == 0 {
		return "none"
	}
	return strings.Join(quoted, ", ")
}

func (l *layoutSource) read(_ context.Context, d image.Descriptor) ([]byte, error) {
	b, err := readAll(l.in, blobFolder+d.Digest.Hex(), image.MaxManifest)
	if err != nil {
		return nil, err
	}
	return b, checkBytes(b, d)
}

func (l *layoutSource) layer(d image.Descriptor) []blob {
	return []blob{fileBlob(l.in, blobFolder+d.Digest.Hex(), d)}
}

// fileBlob is a layer that is a file.
func fileBlob(in folder, path string, d image.Descriptor) blob {
	b := blob{open: func(context.Context) (io.ReadCloser, error) {
		c, err := in.open(path)
		if err != nil {
			return nil, err
		}
		if c.size != d.Size {
			c.Close()
			return nil, fault.New(wire.CodeDigest, "it has %d bytes, want %d", c.size, d.Size)
		}
		return c, nil
	}}
	packing, _ := d.Compression()
	if a, ok := in.(*archive); ok && a.tar == nil && packing == image.Plain {
		b.adopt = func(name string) error { return a.adopt(path, d.Size, name) }
	}
	return b
}
