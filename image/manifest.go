package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"rkt/cas"
	"rkt/internal/strictjson"
)

// Limits of what is parsed.
const (
	MaxManifest = 4 << 20 // bytes of an index, a manifest or a config
	MaxLayers   = 500     // what overlayfs can stack
	MaxLayer    = 1 << 40 // bytes that the descriptor of a layer may claim
	MaxEntries  = 10000   // manifests of an index
)

// ErrMalformed reports a document that is not what an image is made of.
var ErrMalformed = errors.New("malformed image")

// The media types that are understood. Whatever is not listed is refused.
const (
	typeOCIIndex       = "application/vnd.oci.image.index.v1+json"
	typeOCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	typeOCIConfig      = "application/vnd.oci.image.config.v1+json"
	typeOCILayer       = "application/vnd.oci.image.layer.v1.tar"
	typeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeDockerConfig   = "application/vnd.docker.container.image.v1+json"
	typeDockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
)

// Compression is how the bytes of a layer are packed.
type Compression string

// The compressions.
const (
	Plain Compression = ""
	Gzip  Compression = "gzip"
	Zstd  Compression = "zstd"
)

// layerTypes are the media types of layers. Those for layers that may not be
// distributed, and encrypted ones, are not among them.
func layerTypes() map[string]Compression {
	return map[string]Compression{
		typeOCILayer:              Plain,
		typeOCILayer + "+gzip":    Gzip,
		typeOCILayer + "+zstd":    Zstd,
		typeDockerLayer:           Plain,
		typeDockerLayer + ".gzip": Gzip,
		typeDockerLayer + ".zstd": Zstd,
	}
}

// annotationRefName is the only annotation that is read.
const annotationRefName = "org.opencontainers.image.ref.name"

// Descriptor names bytes elsewhere.
type Descriptor struct {
	MediaType string
	Digest    cas.Digest
	Size      int64
	Platform  *Platform // nil when not given
	// RefName is the annotation org.opencontainers.image.ref.name: the tag in a layout.
	RefName string
	// Artifact is true for what says by itself that it is no image.
	Artifact bool
}

// IsIndex reports whether the descriptor is that of an index.
func (d Descriptor) IsIndex() bool {
	return d.MediaType == typeOCIIndex || d.MediaType == typeDockerList
}

// IsManifest reports whether the descriptor is that of an image manifest.
func (d Descriptor) IsManifest() bool {
	return d.MediaType == typeOCIManifest || d.MediaType == typeDockerManifest
}

// Compression returns how a layer is packed; false if it is no layer.
func (d Descriptor) Compression() (Compression, bool) {
	c, ok := layerTypes()[d.MediaType]
	return c, ok
}

// Index is a parsed OCI image index or Docker manifest list.
type Index struct {
	MediaType string
	Manifests []Descriptor
}

// Manifest is a parsed image manifest, OCI or Docker schema 2.
type Manifest struct {
	MediaType string
	Config    Descriptor
	Layers    []Descriptor // bottom first
}

// document is what both an index and a manifest may have. The members that only
// one may have are kept raw until it is clear which of them it is.
type document struct {
	SchemaVersion int             `json:"schemaVersion"`
	MediaType     string          `json:"mediaType"`
	ArtifactType  string          `json:"artifactType"`
	Manifests     json.RawMessage `json:"manifests"`
	Config        json.RawMessage `json:"config"`
	Layers        json.RawMessage `json:"layers"`
	FSLayers      json.RawMessage `json:"fsLayers"` // Docker schema 1
}

type rawDescriptor struct {
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType"`
	Digest       cas.Digest        `json:"digest"`
	Size         *int64            `json:"size"`
	Platform     *rawPlatform      `json:"platform"`
	Annotations  map[string]string `json:"annotations"`
}

type rawPlatform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
}

// IsIndex tells which of the two a document is, by its members. It is an error
// when that is not clear. The error is ErrMalformed.
func IsIndex(b []byte) (bool, error) {
	doc, err := parseDocument(b)
	if err != nil {
		return false, err
	}
	return doc.Manifests != nil, nil
}

func parseDocument(b []byte) (*document, error) {
	doc := &document{}
	if err := decode(b, doc); err != nil {
		return nil, err
	}
	switch {
	case doc.FSLayers != nil || doc.SchemaVersion == 1:
		return nil, malformed("Docker schema 1 is not supported")
	case doc.SchemaVersion != 2:
		return nil, malformed("schemaVersion is %d, want 2", doc.SchemaVersion)
	case doc.Manifests != nil && (doc.Layers != nil || doc.Config != nil):
		// One that different readers take for different images.
		return nil, malformed("it is both an index and a manifest")
	case doc.Manifests == nil && (doc.Layers == nil || doc.Config == nil):
		return nil, malformed("it is neither an index nor an image manifest, but %.100q", doc.MediaType)
	}
	return doc, nil
}

// ParseIndex parses an OCI image index or a Docker manifest list. The error is
// ErrMalformed.
func ParseIndex(b []byte) (*Index, error) {
	doc, err := parseDocument(b)
	if err != nil {
		return nil, err
	}
	index := &Index{MediaType: doc.MediaType}
	if doc.MediaType == "" {
		index.MediaType = typeOCIIndex
	}
	if doc.Manifests == nil || !(Descriptor{MediaType: index.MediaType}).IsIndex() {
		return nil, malformed("it is no index, but %.100q", doc.MediaType)
	}
	index.Manifests, err = parseDescriptors(doc.Manifests, MaxEntries, MaxManifest)
	return index, err
}

// ParseManifest parses an image manifest. Every media type must be known. The
// error is ErrMalformed.
func ParseManifest(b []byte) (*Manifest, error) {
	doc, err := parseDocument(b)
	if err != nil {
		return nil, err
	}
	m := &Manifest{MediaType: doc.MediaType}
	if doc.MediaType == "" {
		m.MediaType = typeOCIManifest
	}
	if doc.Manifests != nil || !(Descriptor{MediaType: m.MediaType}).IsManifest() {
		return nil, malformed("it is no image manifest, but %.100q", doc.MediaType)
	}
	if doc.ArtifactType != "" {
		return nil, malformed("it is an artifact of the type %.100q, not an image", doc.ArtifactType)
	}
	var config rawDescriptor
	if err := decode(doc.Config, &config); err != nil {
		return nil, err
	}
	if m.Config, err = config.parse(MaxManifest); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if !slices.Contains([]string{typeOCIConfig, typeDockerConfig}, m.Config.MediaType) {
		return nil, malformed("its config is of the type %.100q, not that of an image", m.Config.MediaType)
	}
	if m.Layers, err = parseDescriptors(doc.Layers, MaxLayers, MaxLayer); err != nil {
		return nil, err
	}
	return m, m.checkLayers()
}

func (m *Manifest) checkLayers() error {
	if len(m.Layers) == 0 {
		return malformed("it has no layers")
	}
	for i, l := range m.Layers {
		if _, ok := l.Compression(); !ok {
			return malformed("layer %d is of the unknown type %.100q", i+1, l.MediaType)
		}
	}
	return nil
}

// parseDescriptors parses a list of at most count descriptors of bytes of at
// most size bytes each.
func parseDescriptors(b json.RawMessage, count int, size int64) ([]Descriptor, error) {
	var raws []rawDescriptor
	if err := decode(b, &raws); err != nil {
		return nil, err
	}
	if len(raws) > count {
		return nil, malformed("%d entries, limit is %d", len(raws), count)
	}
	list := make([]Descriptor, len(raws))
	for i, raw := range raws {
		var err error
		if list[i], err = raw.parse(size); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
	}
	return list, nil
}

func (r *rawDescriptor) parse(size int64) (Descriptor, error) {
	switch {
	case r.Digest.IsZero():
		return Descriptor{}, malformed("a descriptor without digest")
	case r.MediaType == "":
		return Descriptor{}, malformed("a descriptor without media type")
	case r.Size == nil:
		return Descriptor{}, malformed("a descriptor without size")
	case *r.Size < 0 || *r.Size > size:
		return Descriptor{}, malformed("%s claims %d bytes, limit is %d", r.Digest, *r.Size, size)
	}
	d := Descriptor{
		MediaType: r.MediaType, Digest: r.Digest, Size: *r.Size,
		RefName: r.Annotations[annotationRefName], Artifact: r.ArtifactType != "",
	}
	if r.Platform != nil {
		d.Platform = new(normalize(r.Platform.OS, r.Platform.Architecture, r.Platform.Variant))
	}
	return d, nil
}

// decode decodes a document of a stranger.
func decode(b []byte, v any) error {
	if err := strictjson.Decode(b, v, strictjson.Options{MaxBytes: MaxManifest, AllowUnknown: true}); err != nil {
		return malformed("%w", err)
	}
	return nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}
