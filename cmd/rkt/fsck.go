package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rkt/internal/escape"
	"rkt/stage0"
)

// fsckOptions are the flags of "rkt fsck".
type fsckOptions struct {
	formatOption
	repair bool
}

func (o *fsckOptions) flags(fs *pflag.FlagSet) {
	o.formatOption.flags(fs)
	fs.BoolVar(&o.repair, "repair", false, "remove what is damaged, so that the next fetch brings it anew")
}

func newFsckCommand(env *environment) *cobra.Command {
	var o fsckOptions
	c := &cobra.Command{
		Use:   "fsck",
		Short: "Check the stored images and pods for damage",
		Long: `Check the stored images and pods for damage: hash every blob, make the index of
every layer again and compare, follow every record, read every pod.

With --repair, damaged blobs, indexes and records are removed; fetching the
images that are named restores them. Running pods keep what they use.

Exit status: 0 when nothing is damaged, 125 when something is or was.`,
		Example: `  rkt fsck
  rkt fsck --repair`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error { return fsck(c.Context(), env, o) },
	}
	o.flags(c.Flags())
	return c
}

func fsck(ctx context.Context, env *environment, o fsckOptions) error {
	if err := o.check("rkt fsck --help"); err != nil {
		return err
	}
	if err := requireRoot("fsck"); err != nil {
		return err
	}
	on, err := env.fullEnv()
	if err != nil {
		return err
	}
	report, err := stage0.Fsck(ctx, on, o.repair)
	if o.json() {
		err = errors.Join(o.writeJSON(env.stdout, report), err)
	} else {
		writeFsck(env, report)
	}
	if err != nil || len(report.Damage) == 0 {
		return err
	}
	found := fmt.Errorf("%d damaged", len(report.Damage))
	if o.repair {
		return withHint(found, "rkt fetch the images that are named")
	}
	return withHint(found, "rkt fsck --repair")
}

func writeFsck(env *environment, r *stage0.Report) {
	for _, d := range r.Damage {
		users := ""
		if len(d.Users) > 0 && !slices.Equal(d.Users, []string{d.What}) {
			users = " (needed by " + strings.Join(d.Users, ", ") + ")"
		}
		outcome := "damaged"
		if d.Repaired {
			outcome = "removed damaged"
		}
		fmt.Fprintln(env.stdout, escape.Text(fmt.Sprintf("%s %s %s%s: %s", outcome, d.Kind, d.What, users, d.Problem)))
	}
	for _, note := range r.Notes {
		fmt.Fprintln(env.stdout, escape.Text("note: "+note))
	}
	fmt.Fprintf(env.stdout, "checked %d blobs and %d layers\n", r.Blobs, r.Layers)
}
