package image

import "rkt/cas"

// Limits of what is parsed.
const (
	MaxManifest = 4 << 20 // bytes of an index, a manifest or a config
	MaxLayers   = 500     // what overlayfs can stack
	MaxLayer    = 1 << 40 // bytes that the descriptor of a layer may claim
	MaxEntries  = 10000   // manifests of an index
)

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
func (d Descriptor) IsIndex() bool { return false }

// IsManifest reports whether the descriptor is that of an image manifest.
func (d Descriptor) IsManifest() bool { return false }

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

// IsIndex tells which of the two a document is, by its members. It is an error
// when that is not clear.
func IsIndex(b []byte) (bool, error) { return false, nil }

// ParseIndex parses an OCI image index or a Docker manifest list.
func ParseIndex(b []byte) (*Index, error) { return nil, nil }

// ParseManifest parses an image manifest. Every media type must be known.
func ParseManifest(b []byte) (*Manifest, error) { return nil, nil }
