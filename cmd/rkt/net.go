package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"rkt/stage0"
)

func newNetCommand(env *environment) *cobra.Command {
	c := &cobra.Command{
		Use:        "net",
		Short:      "Look after the networks of pods",
		SuggestFor: []string{"network"},
		Long: `Look after the networks of pods. What a pod is attached to is said by "rkt run
--net"; "rkt status" shows its addresses.`,
		Example: `  rkt net reload`,
		Args:    noSubcommand,
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newNetReloadCommand(env))
	return c
}

func newNetReloadCommand(env *environment) *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Write rkt's rules of the firewall again",
		Long: `Write rkt's rules of the firewall again, as after something else has flushed all
rules. They are in a table of rkt's own and are replaced at once: no connection
of a pod is lost. Ports that are published on loopback need no rules.`,
		Example: `  rkt net reload`,
		Args:    exactArgs(0, "no arguments"),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := requireRoot("net reload"); err != nil {
				return err
			}
			on, err := env.podEnv()
			if err != nil {
				return err
			}
			return on.ReloadNetworks(c.Context())
		},
	}
}

// networks is what attaches pods to networks. That it is missing is an error of
// those pods that need it.
func (e *environment) networks() stage0.Networks {
	n := stage0.Networks{
		ConfigDirs: []string{filepath.Join(e.localConfig, "net.d"), filepath.Join(e.systemConfig, "net.d"), "/etc/cni/net.d"},
		PluginDirs: []string{"/usr/lib/rkt/plugins/net", "/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"},
	}
	if program, err := e.companion("rkt-net"); err == nil {
		n.Program = program
	}
	return n
}
