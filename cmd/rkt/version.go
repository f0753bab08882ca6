package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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
		RunE:    func(*cobra.Command, []string) error { return version(env, o) },
	}
	o.flags(c.Flags())
	return c
}

func version(env *environment, _ versionOptions) error {
	fmt.Fprintf(env.stdout, "rkt %s\n", buildVersion())
	fmt.Fprintf(env.stdout, "stage1 contract %d\n", contract.Version)
	fmt.Fprintf(env.stdout, "go %s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

// buildVersion is the module's version, or the commit it was built from.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return "devel"
}
