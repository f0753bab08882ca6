package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rkt/stage0"
	"rkt/stage0/plan"
	"rkt/stage0/volume"
)

func newVolumeCommand(env *environment) *cobra.Command {
	c := &cobra.Command{
		Use:   "volume",
		Short: "Keep volumes that outlive pods",
		Long: `Keep volumes that outlive pods: folders below the data folder, by name. A pod
mounts one by its path, which "rkt volume list" shows.`,
		Example: `  rkt volume create db
  rkt run docker://docker.io/library/redis --volume=/var/lib/rkt/volumes/db:/data`,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
		Args: noSubcommand,
	}
	c.AddCommand(newVolumeCreateCommand(env), newVolumeListCommand(env), newVolumeRemoveCommand(env))
	return c
}

// volumeCreateOptions are the flags of "rkt volume create".
type volumeCreateOptions struct {
	uid, gid uint32
	mode     string
	labels   []string
}

func (o *volumeCreateOptions) flags(fs *pflag.FlagSet) {
	fs.Uint32Var(&o.uid, "uid", 0, "number of the user that owns the folder, on the host and in pods")
	fs.Uint32Var(&o.gid, "gid", 0, "number of its group")
	fs.StringVar(&o.mode, "mode", "0755", "mode of the folder, in octal")
	fs.StringArrayVar(&o.labels, "label", nil, "NAME=VALUE, for \"rkt volume list\"")
}

func newVolumeCreateCommand(env *environment) *cobra.Command {
	var o volumeCreateOptions
	c := &cobra.Command{
		Use:     "create NAME...",
		Short:   "Make empty volumes, and print their paths",
		Long:    `Make empty volumes, and print the path of each. One that is there stays as it is.`,
		Example: "  rkt volume create --uid=999 --gid=999 db",
		Args:    minimumArgs(1, "the name of a volume"),
		RunE:    func(_ *cobra.Command, args []string) error { return volumeCreate(env, o, args) },
	}
	o.flags(c.Flags())
	return c
}

func volumeCreate(env *environment, o volumeCreateOptions, names []string) error {
	mode, err := parseUint32(o.mode, 8, 0o7777)
	if err != nil {
		return fmt.Errorf("--mode: %q is not a mode in octal", o.mode)
	}
	if max(o.uid, o.gid) > plan.MaxID(false) {
		return fmt.Errorf("--uid and --gid: the highest number is %d", plan.MaxID(false))
	}
	labels, err := parseLabels("--label", o.labels)
	if err != nil {
		return err
	}
	if err := requireRoot("volume create"); err != nil {
		return err
	}
	if _, err := env.images(); err != nil { // makes the data folder
		return err
	}
	store := volume.Open(env.dataDir)
	for _, name := range names {
		if _, err := store.Create(name, volume.Options{UID: o.uid, GID: o.gid, Mode: mode, Labels: labels}); err != nil {
			return fmt.Errorf("create volume: %w", err)
		}
		fmt.Fprintln(env.stdout, store.Path(name))
	}
	return nil
}

// parseLabels makes a map of words NAME=VALUE. The later of two counts.
func parseLabels(flag string, words []string) (map[string]string, error) {
	var labels map[string]string
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%s: %q is not NAME=VALUE", flag, w)
		}
		if labels == nil {
			labels = make(map[string]string)
		}
		labels[name] = value
	}
	return labels, nil
}

func newVolumeListCommand(env *environment) *cobra.Command {
	var o tableOptions
	c := &cobra.Command{
		Use:     "list",
		Short:   "List the volumes",
		Example: "  rkt volume list --format=json-pretty",
		Args:    exactArgs(0, "no arguments"),
		RunE:    func(*cobra.Command, []string) error { return volumeList(env, o) },
	}
	o.flags(c.Flags())
	return c
}

func volumeList(env *environment, o tableOptions) error {
	if err := o.check("rkt volume list --help"); err != nil {
		return err
	}
	if err := env.setUp(); err != nil {
		return err
	}
	volumes, err := volume.Open(env.dataDir).List()
	if err != nil {
		return fmt.Errorf("list volumes: %w", err)
	}
	rows, cells := []volume.Volume{}, [][]string{}
	for _, v := range volumes {
		rows = append(rows, v)
		created := age(v.Created, time.Now())
		if o.full {
			created = exactTime(v.Created)
		}
		cells = append(cells, []string{v.Name, created, v.Path})
	}
	return o.write(env.stdout, rows, []string{"NAME", "CREATED", "PATH"}, cells)
}

func newVolumeRemoveCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:     "rm NAME...",
		Short:   "Remove volumes with what is in them",
		Long:    `Remove volumes with what is in them. One that a pod mounts is not removed.`,
		Example: "  rkt volume rm db",
		Args:    minimumArgs(1, "the name of a volume"),
		RunE:    func(_ *cobra.Command, args []string) error { return volumeRemove(env, args) },
	}
}

func volumeRemove(env *environment, names []string) error {
	if err := requireRoot("volume rm"); err != nil {
		return err
	}
	pods, err := env.pods()
	if err != nil {
		return err
	}
	store := volume.Open(env.dataDir)
	for _, name := range names {
		err := stage0.CheckVolumeUnused(pods, name, store.Path(name))
		if err == nil {
			err = store.Remove(name)
		}
		if errors.Is(err, volume.ErrNotFound) {
			return withHint(fmt.Errorf("remove volume %q: %w", name, err), "rkt volume list")
		}
		if err != nil {
			return fmt.Errorf("remove volume %q: %w", name, err)
		}
	}
	return nil
}
