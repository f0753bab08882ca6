package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// fetchOptions are the flags of "rkt fetch".
type fetchOptions struct {
	pull   string
	format string
}

func (o *fetchOptions) flags(fs *pflag.FlagSet) {
	fs.StringVar(&o.pull, "pull-policy", "", "when to ask the registry: new, update or never (default new)")
	fs.StringVar(&o.format, "format", "", `"json": write what happens as JSON lines instead of the IDs`)
}

func newFetchCommand(env *environment) *cobra.Command {
	var o fetchOptions
	c := &cobra.Command{
		Use:        "fetch REF...",
		Short:      "Bring images into the store",
		SuggestFor: []string{"pull"},
		Long: `Bring images into the store, verified, and print the ID of each on a line.

A REF is one of
  [docker://][HOST/]REPOSITORY[:TAG][@DIGEST]   in a registry; docker.io without a HOST
  oci:DIR[:TAG]                                 in an OCI image layout
  oci-archive:FILE[:TAG]                        in an archive of one
  docker-archive:FILE[:TAG]                     in an archive made by docker save
  a path beginning with / or . , or -           what is there or on stdin, one of the above

The pull policy "new" asks nobody when the image is in the store, "update" always
asks and brings what has changed, "never" is content with the store.

An image from a registry needs a rule of "rkt trust".`,
		Example: `  rkt fetch docker.io/library/busybox:latest
  docker save app | rkt fetch -`,
		Args: minimumArgs(1, "the name of an image"),
		RunE: func(c *cobra.Command, args []string) error { return fetchImages(c.Context(), env, o, args) },
	}
	o.flags(c.Flags())
	c.Flags().Var(&env.platform, "platform", platformUsage)
	return c
}

func fetchImages(ctx context.Context, env *environment, o fetchOptions, refs []string) error {
	if err := requireRoot("fetch"); err != nil {
		return err
	}
	pull, err := env.pullPolicy(o.pull)
	if err != nil {
		return &usageError{message: err.Error(), help: "rkt fetch --help"}
	}
	show := newProgress(env.stderr)
	switch o.format {
	case "":
	case "json":
		show = &jsonProgress{out: env.stdout}
	default:
		return &usageError{message: fmt.Sprintf("unknown format %q, known is json", o.format), help: "rkt fetch --help"}
	}
	fetcher, err := env.fetcher(ctx, show)
	if err != nil {
		return err
	}
	for _, ref := range refs {
		img, err := fetcher.Image(ctx, ref, pull)
		show.settle()
		if err != nil {
			return reportEvent(env, o, ref, err)
		}
		if o.format != "" {
			continue
		}
		if _, err := fmt.Fprintln(env.stdout, img.ID); err != nil {
			return fmt.Errorf("print image ID: %w", err)
		}
	}
	return nil
}

// reportEvent writes the failure as the last event where events are written.
func reportEvent(env *environment, o fetchOptions, ref string, failure error) error {
	if o.format != "json" {
		return failure
	}
	line := eventLine{Event: "error", Reference: ref, Error: failure.Error()}
	var h hinter
	if errors.As(failure, &h) {
		line.Hint = h.Hint()
	}
	writeEvent(env.stdout, line)
	return failure
}
