package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"rkt/cas"
	"rkt/image"
	"rkt/internal/escape"
)

// catKind is a document of an image that can be written out.
type catKind struct {
	verb   string
	what   string
	digest func(*image.Record) cas.Digest
}

// catKinds are the documents of an image.
func catKinds() []catKind {
	return []catKind{
		{"cat-manifest", "manifest", func(r *image.Record) cas.Digest { return r.Manifest }},
		{"cat-config", "config", func(r *image.Record) cas.Digest { return r.ID }},
	}
}

func newImageCatCommand(env *environment, kind catKind) *cobra.Command {
	var pretty bool
	c := &cobra.Command{
		Use:     kind.verb + " REF|ID",
		Short:   "Write out the " + kind.what + " of an image",
		Example: "  rkt image " + kind.verb + " docker.io/library/busybox:latest",
		Args:    exactArgs(1, "the name or the ID of an image"),
		RunE: func(_ *cobra.Command, args []string) error {
			return imageCat(env, kind, args[0], pretty)
		},
	}
	c.Flags().BoolVar(&pretty, "pretty-print", false, "indent the JSON")
	return c
}

// imageCat writes the bytes as they are stored, so that they have their digest.
// On a terminal, characters that could steer it are written as JSON escapes.
func imageCat(env *environment, kind catKind, text string, pretty bool) error {
	if err := requireRoot("image " + kind.verb); err != nil {
		return err
	}
	store, err := env.images()
	if err != nil {
		return err
	}
	rec, err := lookupImage(store, text)
	if err != nil {
		return err
	}
	digest := kind.digest(rec)
	blobs, ok := store.Find(digest)
	if !ok {
		return withHint(fmt.Errorf("the %s of %q is not in the store", kind.what, text), "rkt fetch --pull-policy=update %s", text)
	}
	data, err := blobs.Read(digest, image.MaxManifest)
	if err != nil {
		return fmt.Errorf("read %s of %q: %w", kind.what, text, err)
	}
	return writeDocument(env.stdout, data, pretty, isTerminal(env.stdout))
}

// writeDocument writes a JSON document that a stranger made.
func writeDocument(w io.Writer, data []byte, pretty, terminal bool) error {
	if pretty {
		var out bytes.Buffer
		if err := json.Indent(&out, bytes.TrimSpace(data), "", "  "); err != nil {
			return fmt.Errorf("indent: %w", err)
		}
		out.WriteByte('\n')
		data = out.Bytes()
	}
	if terminal {
		// Between values, a carriage return is no more than a new line.
		data = escape.JSON(bytes.ReplaceAll(data, []byte{'\r'}, []byte{'\n'}))
	}
	_, err := w.Write(data)
	return err
}
