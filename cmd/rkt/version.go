package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rkt/fetch/confined"
	"rkt/fetch/wire"
	"rkt/internal/escape"
	"rkt/stage0/cgroup"
	"rkt/stage1/contract"
)

// versionOptions are the flags of "rkt version".
type versionOptions struct {
	verbose bool
}

func (o *versionOptions) flags(fs *pflag.FlagSet) {
	fs.BoolVarP(&o.verbose, "verbose", "v", false, "tell also what this host makes rkt choose")
}

func newVersionCommand(env *environment) *cobra.Command {
	var o versionOptions
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  rkt version --verbose",
		Args:    exactArgs(0, "no arguments"),
		RunE:    func(*cobra.Command, []string) error { return showVersion(env, o) },
	}
	o.flags(c.Flags())
	return c
}

func showVersion(env *environment, o versionOptions) error {
	fmt.Fprintf(env.stdout, "rkt %s\n", buildVersion())
	fmt.Fprintf(env.stdout, "stage1 contract %d\n", contract.Version)
	fmt.Fprintf(env.stdout, "go %s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if !o.verbose {
		return nil
	}
	return describeHost(env)
}

// describeHost prints what this host makes rkt choose, one "name value" a line.
func describeHost(env *environment) error {
	host, err := cgroup.Detect()
	if err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "cgroups %s\n", host.Mode)
	for _, c := range []cgroup.Controller{cgroup.CPU, cgroup.Memory, cgroup.Pids} {
		fmt.Fprintf(env.stdout, "limit of %s %s\n", c, yesNo(host.Has(c)))
	}
	if err := env.setUp(); err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "data %s\n", env.dataDir)
	if os.Geteuid() != 0 {
		fmt.Fprintln(env.stdout, "driver unknown (needs root)")
		return nil
	}
	layers, err := env.layers()
	if err != nil {
		return err
	}
	fmt.Fprintf(env.stdout, "driver %s (%s)\n", layers.Driver(), layers.Why())
	return describeConfinement(env)
}

// describeConfinement prints which lines of the confinement of rkt-fetch this host
// grants: of the part that reads layers, which has them all.
func describeConfinement(env *environment) error {
	program, err := env.fetchProgram()
	if err != nil {
		return err
	}
	lines, why, err := confined.Check(context.Background(), program, wire.ReadLayer)
	if err != nil {
		return fmt.Errorf("find out how rkt-fetch is confined: %w", err)
	}
	for _, l := range lines {
		granted := "granted"
		if !l.Granted {
			granted = "refused"
		}
		fmt.Fprintf(env.stdout, "rkt-fetch: %s %s\n", l.Name, granted)
	}
	if why != "" {
		fmt.Fprintf(env.stdout, "rkt-fetch: refused because of: %s\n", escape.Text(why))
	}
	return nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// version is set by the linker, to what git describe says.
var version string

// buildVersion is the version of this program, or the commit it was built from.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version
}
