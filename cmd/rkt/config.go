package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"rkt/fetch"
	"rkt/fetch/registries"
	"rkt/image/trust"
	"rkt/stage0/settings"
	"rkt/stage1/contract"
)

func newConfigCommand(env *environment) *cobra.Command {
	var o tableOptions
	c := &cobra.Command{
		Use:   "config",
		Short: "Print the configuration in force",
		Long: `Print the configuration in force, and for each value the file or flag that it
comes from. Secrets are not printed.

The files are *.json in auth.d, registries.d, paths.d, stage1.d, defaults.d and
trust.d of /usr/lib/rkt, of /etc/rkt and of the folder that --user-config names. A
later one wins, and hides a file of the same name. A file with an unknown key is
refused, and so is one with a credential that others can read.`,
		Example: `  rkt config
  rkt --user-config=./test config --format=json`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error { return showConfig(env, o) },
	}
	o.flags(c.Flags())
	return c
}

// shownConfig is what is printed. Its JSON form keeps its keys.
type shownConfig struct {
	Folders     []string                         `json:"folders"`
	Settings    []shownSetting                   `json:"settings"`
	Registries  []registries.DescribedRegistry   `json:"registries"`
	Credentials []registries.DescribedCredential `json:"credentials"`
	Trust       []configRule                     `json:"trust"`
}

type shownSetting struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	From  string `json:"from"` // a file, "flag" or "default"
}

type configRule struct {
	Prefix string `json:"prefix"`
	Action string `json:"action"`
	From   string `json:"from"`
}

func showConfig(env *environment, o tableOptions) error {
	if err := o.check("rkt config --help"); err != nil {
		return err
	}
	if err := env.setUp(); err != nil {
		return err
	}
	c, err := env.describeConfig()
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	return o.write(env.stdout, c, []string{"KEY", "VALUE", "FROM"}, c.rows())
}

// describeConfig reads everything.
func (e *environment) describeConfig() (*shownConfig, error) {
	c := &shownConfig{Folders: []string{}, Registries: []registries.DescribedRegistry{}, Credentials: []registries.DescribedCredential{}, Trust: []configRule{}}
	for _, folder := range e.folders() {
		if folder != "" {
			c.Folders = append(c.Folders, folder)
		}
	}
	c.Settings = e.shownSettings()
	d, err := registries.System(e.folders(), os.Getenv).Describe()
	if err != nil {
		return nil, err
	}
	c.Registries = append(c.Registries, d.Registries...)
	c.Credentials = append(c.Credentials, d.Credentials...)
	dirs, err := e.trustDirs()
	if err != nil {
		return nil, err
	}
	policy, err := trust.Load(dirs...)
	if err != nil {
		return nil, err
	}
	for _, r := range policy.Rules() {
		c.Trust = append(c.Trust, configRule{Prefix: r.Prefix, Action: string(r.Action), From: r.Path})
	}
	return c, nil
}

// shownSettings are the settings with their defaults.
func (e *environment) shownSettings() []shownSetting {
	var all []shownSetting
	add := func(key, inForce string, v settings.Value, given bool) {
		from := "default"
		switch {
		case given:
			from = "flag"
		case v.From != "":
			from = v.From
		}
		all = append(all, shownSetting{Key: key, Value: inForce, From: from})
	}
	s := e.config
	add("data", e.dataDir, s.Data, e.given["dir"])
	add("run", e.runDir, s.Run, e.given["run-dir"])
	for _, store := range s.Stores {
		text := store.Path
		if store.Verify != "" {
			text += " verify=" + string(store.Verify)
		}
		add("store", text, settings.Value{From: store.From}, false)
	}
	for _, dir := range e.readOnly {
		add("store", dir, settings.Value{}, true)
	}
	add("stage1", e.stage1Name(""), s.Stage1, false)
	for _, dir := range s.Stage1Dirs {
		add("stage1-dir", dir.Text, dir, false)
	}
	add("net", s.Net.Or(string(contract.NetNone)), s.Net, false)
	add("pull-policy", s.PullPolicy.Or(string(fetch.PullNew)), s.PullPolicy, false)
	add("verify", string(e.verify()), s.Verify, false)
	driver := e.driver
	if driver == "" {
		driver = "what the store can do"
	}
	add("driver", driver, s.Driver, e.driver != s.Driver.Text)
	return all
}

// rows are the lines of the table.
func (c *shownConfig) rows() [][]string {
	var rows [][]string
	for _, s := range c.Settings {
		rows = append(rows, []string{s.Key, s.Value, s.From})
	}
	for _, r := range c.Registries {
		var about []string
		for _, pair := range [][2]string{{"ca", r.CA}, {"mirrors", strings.Join(r.Mirrors, ",")}, {"token-hosts", strings.Join(r.TokenHosts, ",")}} {
			if pair[1] != "" {
				about = append(about, pair[0]+"="+pair[1])
			}
		}
		if r.PlainHTTP {
			about = append(about, "plain-http")
		}
		rows = append(rows, []string{"registry " + r.Host, strings.Join(about, " "), r.From})
	}
	for _, cred := range c.Credentials {
		secret := cred.Kind + " ********"
		if cred.Kind == "helper" {
			secret = "helper " + cred.Helper
		}
		if cred.User != "" {
			secret = "user " + cred.User + ", " + secret
		}
		name := cred.Registry
		if name == "" {
			name = "*"
		}
		rows = append(rows, []string{"credential " + name, secret, cred.From})
	}
	for _, r := range c.Trust {
		rows = append(rows, []string{"trust " + r.Prefix, r.Action, r.From})
	}
	return rows
}
