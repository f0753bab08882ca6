// Package signature decides whether an image is signed by somebody who is
// trusted. It is given bytes and says who, or why not: it opens nothing, asks
// nobody, does not look at the clock, and needs no privilege. It is the only
// package that links a sigstore library, and rkt-fetch the only program that
// links it. Begin with Verify.
package signature

import (
	"encoding/json"
	"fmt"

	"rkt/fetch/wire"
	"rkt/internal/mutant"
	"rkt/internal/strictjson"
)

// Form is how a signature is written down.
type Form string

// The forms.
const (
	// Bundle is a sigstore bundle: a referrer of the image.
	Bundle Form = "bundle"
	// SimpleSigning is what cosign kept under the tag sha256-<digest>.sig: a
	// payload, and annotations with the signature and its proofs.
	SimpleSigning Form = "simplesigning"
)

// Limits of what is looked at. A registry may list any number of signatures.
const (
	MaxItems   = 32
	MaxPayload = 1 << 20 // bytes of a bundle or payload
	MaxTotal   = 4 << 20 // bytes of a set, before it is encoded
)

// Item is one signature as it came, not verified in any way.
type Item struct {
	Form        Form              `json:"form"`
	Payload     []byte            `json:"payload"`
	Annotations map[string]string `json:"annotations,omitempty"` // of SimpleSigning
}

// size is what an item counts towards MaxTotal.
func (i Item) size() int {
	n := len(i.Payload)
	for k, v := range i.Annotations {
		n += len(k) + len(v)
	}
	return n
}

// Set is the signatures that were found for one image.
type Set struct {
	Items []Item `json:"signatures"`
	// More is set when there were more than are kept.
	More bool `json:"more,omitempty"`
}

// Add adds an item, or notes that there is no room for it.
func (s *Set) Add(item Item) {
	total := item.size()
	for _, i := range s.Items {
		total += i.size()
	}
	if len(s.Items) == MaxItems && !mutant.On("endlesssignatures") || len(item.Payload) > MaxPayload || total > MaxTotal {
		s.More = true
		return
	}
	s.Items = append(s.Items, item)
}

// Encode returns the set in the form that Decode reads.
func (s Set) Encode() ([]byte, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode signatures: %w", err)
	}
	if len(b) > wire.MaxSignatures {
		return nil, fmt.Errorf("signatures have %d bytes, limit is %d", len(b), wire.MaxSignatures)
	}
	return b, nil
}

// Decode reads a set, strictly.
func Decode(b []byte) (Set, error) {
	var s Set
	if err := strictjson.Decode(b, &s, strictjson.Options{MaxBytes: wire.MaxSignatures}); err != nil {
		return Set{}, fmt.Errorf("read signatures: %w", err)
	}
	if len(s.Items) > MaxItems && !mutant.On("endlesssignatures") {
		return Set{}, fmt.Errorf("read signatures: %d of them, limit is %d", len(s.Items), MaxItems)
	}
	for _, i := range s.Items {
		if i.Form != Bundle && i.Form != SimpleSigning || len(i.Payload) > MaxPayload {
			return Set{}, fmt.Errorf("read signatures: one of the form %.40q with %d bytes", i.Form, len(i.Payload))
		}
	}
	return s, nil
}
