package stage0

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"rkt/image/rootfs"
)

// DamagedImageError reports images that are not started, because the store has
// other bytes of them than it should.
type DamagedImageError struct {
	// Images are as the user named them.
	Images []string
	Err    error
}

func (e *DamagedImageError) Error() string {
	list := make([]string, len(e.Images))
	for i, name := range e.Images {
		list[i] = strconv.Quote(name)
	}
	return fmt.Sprintf("image %s is damaged: %v", strings.Join(list, ", "), e.Err)
}

// Unwrap returns what is damaged.
func (e *DamagedImageError) Unwrap() error { return e.Err }

// Hint tells the commands that repair it.
func (e *DamagedImageError) Hint() string {
	return "rkt fsck --repair; rkt fetch " + strings.Join(e.Images, " ")
}

// damagedImage adds to an error about a damaged layer whose it is; other errors
// stay as they are.
func (p *Prepared) damagedImage(err error) error {
	var damage *rootfs.DamagedError
	if !errors.As(err, &damage) {
		return err
	}
	damaged := &DamagedImageError{Err: err}
	for _, a := range p.apps {
		name := cmp.Or(a.app.Image.Reference, a.app.Image.ID)
		if slices.Contains(a.app.Layers, damage.Layer.Hex()) && !slices.Contains(damaged.Images, name) {
			damaged.Images = append(damaged.Images, name)
		}
	}
	return damaged
}

// damagedIn is damagedImage for a layer of one image.
func damagedIn(image string, err error) error {
	var damage *rootfs.DamagedError
	if !errors.As(err, &damage) {
		return err
	}
	return &DamagedImageError{Images: []string{image}, Err: err}
}
