package image

import "errors"

// ErrPlatform reports an image that has nothing for the platform.
var ErrPlatform = errors.New("no image for the platform")

// Platform is an operating system, a processor architecture (Go's names) and a
// variant of it.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
}

// String returns "linux/arm64" or "linux/arm/v7".
func (p Platform) String() string { return p.OS + "/" + p.Architecture }

// Host returns the platform of this machine.
func Host() Platform { return Platform{} }

// Runs reports whether a machine of platform p executes images of platform q.
func (p Platform) Runs(q Platform) bool { return false }

// Choose returns the descriptor of the image in the index that suits p best; the
// first one among equals. It may be an index again. The error is ErrPlatform
// and lists what there is.
func Choose(index *Index, p Platform) (Descriptor, error) { return Descriptor{}, ErrPlatform }
