package ingest

import (
	"context"
	"fmt"

	"rkt/cas"
	"rkt/fetch/ingest/fault"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/internal/mutant"
)

// resolve finds out which image the request means and leaves index, manifest and
// config in the spool, each verified against what named it; and the signatures, if
// they are asked for.
func resolve(ctx context.Context, from source, request wire.Request, out spool) (*image.Manifest, error) {
	doc, err := from.root(ctx)
	if err != nil {
		return nil, err
	}
	signed := []cas.Digest{cas.Of(doc.bytes)}
	isIndex, err := image.IsIndex(doc.bytes)
	if err != nil {
		return nil, fault.New(wire.CodeType, "read manifest: %w", err)
	}
	if isIndex {
		if doc, err = throughIndex(ctx, from, doc, request.Platform, out); err != nil {
			return nil, err
		}
		signed = append(signed, cas.Of(doc.bytes))
	}
	manifest, err := image.ParseManifest(doc.bytes)
	if err != nil {
		return nil, fault.New(wire.CodeType, "read manifest: %w", err)
	}
	if err := sameType(doc.mediaType, manifest.MediaType); err != nil {
		return nil, err
	}
	if err := out.write(wire.ManifestFile, doc.bytes); err != nil {
		return nil, err
	}
	signatures := begin(ctx, from, request, signed)
	defer signatures.end()
	config, err := from.read(ctx, manifest.Config)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	if err := checkConfig(manifest, config); err != nil {
		return nil, err
	}
	if err := out.write(wire.ConfigFile, config); err != nil {
		return nil, err
	}
	return manifest, signatures.leave(out)
}

// throughIndex follows an index to the manifest for the platform. The index is
// kept: it proves that the manifest is what the reference means.
func throughIndex(ctx context.Context, from source, doc document, p wire.Platform, out spool) (document, error) {
	index, err := image.ParseIndex(doc.bytes)
	if err != nil {
		return document{}, fault.New(wire.CodeType, "read index: %w", err)
	}
	if err := sameType(doc.mediaType, index.MediaType); err != nil {
		return document{}, err
	}
	chosen, err := image.Choose(index, image.Platform{OS: p.OS, Architecture: p.Arch, Variant: p.Variant})
	if err != nil {
		return document{}, err
	}
	if !chosen.IsManifest() && !mutant.On("nestedindex") {
		// An index in an index is allowed by the specification; nobody makes
		// them, and each level is one more document to keep for the proof.
		return document{}, fault.New(wire.CodeType, "index leads to %.100q, not to an image manifest", chosen.MediaType)
	}
	if chosen.Size > image.MaxManifest {
		return document{}, fault.New(wire.CodeTooLarge, "manifest has %d bytes, limit is %d", chosen.Size, image.MaxManifest)
	}
	b, err := from.read(ctx, chosen)
	if err != nil {
		return document{}, fmt.Errorf("read manifest: %w", err)
	}
	return document{b, chosen.MediaType}, out.write(wire.IndexFile, doc.bytes)
}

// sameType compares what a source says that a document is with what the document
// says itself. Sources that do not know say something general.
func sameType(said, is string) error {
	if mutant.On("anytype") {
		return nil
	}
	switch said {
	case is, "", "application/json", "application/octet-stream", "text/plain":
		return nil
	}
	return fault.New(wire.CodeType, "manifest is of the type %.100q and was announced as %.100q", is, said)
}

// checkConfig finds early what would fail late: it parses the config and counts
// the layers.
func checkConfig(m *image.Manifest, b []byte) error {
	config, err := image.ParseConfig(b)
	if err != nil {
		return fault.New(wire.CodeType, "read config: %w", err)
	}
	if len(config.DiffIDs) != len(m.Layers) {
		return fault.New(wire.CodeDigest, "config has %d diff IDs for the %d layers of the manifest", len(config.DiffIDs), len(m.Layers))
	}
	return nil
}
