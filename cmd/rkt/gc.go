package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rkt/cas"
	"rkt/internal/escape"
	"rkt/stage0"
)

// gcOptions are the flags of "rkt gc".
type gcOptions struct {
	formatOption
	grace          time.Duration
	expirePrepared time.Duration
	markOnly       bool
	images         bool
	dryRun         bool
	quiet          bool
}

func (o *gcOptions) flags(fs *pflag.FlagSet) {
	o.formatOption.flags(fs)
	fs.DurationVar(&o.grace, "grace-period", stage0.DefaultGrace, "how long a pod stays after its end")
	fs.DurationVar(&o.expirePrepared, "expire-prepared", stage0.DefaultExpirePrepared, "how long a prepared pod waits to be run")
	fs.BoolVar(&o.markOnly, "mark-only", false, "move the pods that are over aside, remove nothing")
	fs.BoolVar(&o.images, "images", false, "remove the image data that nothing needs, instead of pods")
	fs.BoolVar(&o.dryRun, "dry-run", false, "with --images: tell what would be removed")
	fs.BoolVar(&o.quiet, "quiet", false, "with --images: tell the sums only")
}

func newGCCommand(env *environment) *cobra.Command {
	var o gcOptions
	c := &cobra.Command{
		Use:        "gc",
		Short:      "Remove pods that are over, or image data that nothing needs",
		SuggestFor: []string{"prune"},
		Long: `Remove the pods that are over, after a grace period that counts from their end,
prepared pods that were not run in time, and what crashes left behind. What is
alive without a supervisor is killed. Nothing is removed under something alive.

With --images, remove instead the image data that no image, pod or running fetch
needs, and tell why each piece stays.`,
		Example: `  rkt gc --grace-period=0
  rkt gc --mark-only
  rkt gc --images --dry-run`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return gc(c.Context(), env, o) },
	}
	o.flags(c.Flags())
	return c
}

func gc(ctx context.Context, env *environment, o gcOptions) error {
	const help = "rkt gc --help"
	if err := o.check(help); err != nil {
		return err
	}
	switch {
	case o.grace < 0 || o.expirePrepared < 0:
		return &usageError{message: "a duration cannot be negative", help: help}
	case o.images && o.markOnly:
		return &usageError{message: "--images and --mark-only exclude each other", help: help}
	case o.dryRun && !o.images:
		return &usageError{message: "--dry-run needs --images", help: help}
	case o.quiet && !o.images:
		return &usageError{message: "--quiet needs --images", help: help}
	}
	if err := requireRoot("gc"); err != nil {
		return err
	}
	if o.images {
		return gcImages(ctx, env, o)
	}
	return gcPods(ctx, env, o)
}

func gcPods(ctx context.Context, env *environment, o gcOptions) error {
	on, err := env.podEnv()
	if err != nil {
		return err
	}
	done, gcErr := stage0.GC(ctx, on, stage0.GCOptions{Grace: o.grace, ExpirePrepared: o.expirePrepared, MarkOnly: o.markOnly})
	if o.json() {
		if done == nil {
			done = []stage0.Collected{}
		}
		return errors.Join(o.writeJSON(env.stdout, done), gcErr)
	}
	for _, c := range done {
		if c.Action == stage0.GCFailed || c.Action == stage0.GCKept && !env.debug {
			continue // the failures are in the error
		}
		killed := ""
		if c.Killed {
			killed = ", killed its processes"
		}
		fmt.Fprintf(env.stdout, "%s %s: %s%s\n", c.Action, c.UUID, escape.Text(c.Why), killed)
	}
	return gcErr
}

// sweptJSON is a blob as `rkt gc --images --format=json` shows it.
type sweptJSON struct {
	Digest  cas.Digest `json:"digest"`
	Size    int64      `json:"size"`
	Removed bool       `json:"removed"`
	Reasons []string   `json:"reasons,omitempty"` // why it stays
}

func gcImages(ctx context.Context, env *environment, o gcOptions) error {
	on, err := env.fullEnv()
	if err != nil {
		return err
	}
	swept, gcErr := stage0.GCImages(ctx, on, o.dryRun)
	rows := []sweptJSON{}
	for _, s := range swept {
		rows = append(rows, sweptJSON{Digest: s.Digest, Size: s.Size, Removed: len(s.Reasons) == 0, Reasons: s.Reasons})
	}
	if o.json() {
		return errors.Join(o.writeJSON(env.stdout, rows), gcErr)
	}
	if gcErr == nil || len(rows) > 0 {
		writeSwept(env.stdout, rows, o)
	}
	return gcErr
}

// writeSwept tells what went, then what stays, side by side what stays for the
// same reasons and the largest first, then the sums.
func writeSwept(out io.Writer, rows []sweptJSON, o gcOptions) {
	each := out
	if o.quiet {
		each = io.Discard
	}
	removed := "removed"
	if o.dryRun {
		removed = "would remove"
	}
	for _, r := range rows {
		slices.Sort(r.Reasons)
	}
	slices.SortFunc(rows, func(a, b sweptJSON) int {
		return cmp.Or(slices.Compare(a.Reasons, b.Reasons), cmp.Compare(b.Size, a.Size), strings.Compare(a.Digest.Hex(), b.Digest.Hex()))
	})
	var freed, left int64
	for _, r := range rows {
		if r.Removed {
			freed += r.Size
			fmt.Fprintf(each, "%s %s (%s)\n", removed, shortID(r.Digest), byteSize(r.Size))
			continue
		}
		left += r.Size
		fmt.Fprintf(each, "kept %s (%s): %s\n", shortID(r.Digest), byteSize(r.Size), escape.Text(strings.Join(r.Reasons, "; ")))
	}
	fmt.Fprintf(out, "%s %s, kept %s\n", removed, byteSize(freed), byteSize(left))
}
