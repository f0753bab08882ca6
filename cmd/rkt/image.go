package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"rkt/image"
)

func newImageCommand(env *environment) *cobra.Command {
	c := &cobra.Command{
		Use:     "image",
		Short:   "Look at the images in the store and remove them",
		Example: "  rkt image list",
		Args:    noSubcommand,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newImageListCommand(env), newImageRemoveCommand(env))
	for _, kind := range catKinds() {
		c.AddCommand(newImageCatCommand(env, kind))
	}
	return c
}

// lookupImage finds an image of the store by what a user calls it.
func lookupImage(store *image.Store, text string) (*image.Record, error) {
	rec, err := store.Lookup(text)
	switch {
	case errors.Is(err, image.ErrNotFound):
		return nil, withHint(fmt.Errorf("image %q is not in the store", text), "rkt image list")
	case errors.Is(err, image.ErrAmbiguous):
		return nil, withHint(fmt.Errorf("%q fits more than one image", text), "rkt image list --full")
	case err != nil:
		return nil, fmt.Errorf("find image %q: %w", text, err)
	}
	return rec, nil
}
