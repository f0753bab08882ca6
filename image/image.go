// Package image knows what an image is: references, manifests and configs, the
// choice of a platform, and the records that give images of a store their
// names. Begin with ParseRef and Store.Lookup.
//
// Manifests and configs are the two formats that a privileged process parses
// although strangers wrote them: parsing is strict, bounded and typed, and a
// Config holds the few fields that may reach a pod, nothing else.
package image

import (
	"time"

	"rkt/cas"
	"rkt/image/trust"
)

// ID identifies an image: the digest of its config.
type ID = cas.Digest

// Record says what the store knows about an image under one name.
type Record struct {
	// Reference is the canonical name (Ref.String); "" for an image that lost
	// its name to a newer one and can be found by its ID only.
	Reference string     `json:"reference,omitempty"`
	ID        ID         `json:"id"`
	Manifest  cas.Digest `json:"manifest"`
	Index     cas.Digest `json:"index,omitzero"` // the index that led to Manifest, when it is stored
	Platform  Platform   `json:"platform"`
	// Size is the number of bytes of manifest, config and layer tars.
	Size int64 `json:"size"`
	// Layers are the diff IDs, bottom first.
	Layers   []cas.Digest `json:"layers"`
	Imported time.Time    `json:"imported"`
	// Source tells the state of the local file that the image was made from, so
	// that a changed file is read again; "" for an image of a registry.
	Source  string        `json:"source,omitempty"`
	Verdict trust.Verdict `json:"verdict,omitzero"`
	// Signatures are those that came with the image, as rkt-fetch wrote them down;
	// zero when they were never asked for. The verdict can be made anew from them.
	Signatures cas.Digest `json:"signatures,omitzero"`
	// ReadOnly is set by the store: the record is in a read-only one.
	ReadOnly bool `json:"-"`
}

// Image is an image of the store, loaded and verified.
type Image struct {
	Record
	Manifest *Manifest
	Config   *Config
}
