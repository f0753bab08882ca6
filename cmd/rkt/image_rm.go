package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rkt/image"
	"rkt/internal/escape"
)

func newImageRemoveCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "rm REF|ID...",
		Short: "Remove names of images",
		Long: `Remove a name of an image, or all its names when the ID is given.

Pods that run from the image are not disturbed. The bytes stay until "rkt gc --images",
which keeps what another image or a pod needs.`,
		Example: "  rkt image rm docker.io/library/busybox:latest",
		Args:    minimumArgs(1, "the name or the ID of an image"),
		RunE:    func(c *cobra.Command, args []string) error { return imageRemove(c.Context(), env, args) },
	}
}

func imageRemove(ctx context.Context, env *environment, texts []string) error {
	if err := requireRoot("image rm"); err != nil {
		return err
	}
	store, err := env.images()
	if err != nil {
		return err
	}
	for _, text := range texts {
		rec, err := lookupImage(store, text)
		if err != nil {
			return err
		}
		if err := removeNames(ctx, store, rec, text); err != nil {
			return fmt.Errorf("remove image %q: %w", text, err)
		}
		tellRemoved(env, store, rec)
	}
	return nil
}

// removeNames removes the name that the user gave, or all of an image that was
// given by its ID or has no name.
func removeNames(ctx context.Context, store *image.Store, rec *image.Record, text string) error {
	digits := strings.TrimPrefix(text, "sha256:")
	if rec.Reference == "" || strings.HasPrefix(rec.ID.Hex(), digits) {
		return store.Remove(ctx, rec.ID)
	}
	return store.Untag(ctx, rec.Reference)
}

// tellRemoved says what is left of the image.
func tellRemoved(env *environment, store *image.Store, rec *image.Record) {
	var names []string
	records, _ := store.List() // a record that cannot be read is not a name to tell
	for _, r := range records {
		if r.ID == rec.ID {
			names = append(names, escape.Text(nameText(r.Reference)))
		}
	}
	if len(names) > 0 {
		fmt.Fprintf(env.stderr, "rkt: removed %s, the image still has the names %s\n", escape.Text(rec.Reference), strings.Join(names, ", "))
		return
	}
	fmt.Fprintf(env.stderr, "rkt: removed %s, \"rkt gc --images\" frees its bytes\n", shortID(rec.ID))
}
