package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rkt/stage0/pod"
	"rkt/stage1/contract"
)

// catManifestOptions are the flags of "rkt cat-manifest".
type catManifestOptions struct {
	podSelection
	pretty bool
}

func (o *catManifestOptions) flags(fs *pflag.FlagSet) {
	o.podSelection.flags(fs)
	fs.BoolVar(&o.pretty, "pretty-print", true, "indent the JSON")
}

func newCatManifestCommand(env *environment) *cobra.Command {
	var o catManifestOptions
	c := &cobra.Command{
		Use:   "cat-manifest POD",
		Short: "Print the contract of a pod",
		Long: `Print what stage0 decided for a pod, as one JSON value: "pod" is pod.json, "host"
is host.json (what this host lent to the run), and "apps" holds app.json,
config.json and limits of each app by its name.`,
		Example:           `  rkt cat-manifest web | jq .apps.web.config.process.args`,
		ValidArgsFunction: env.completeOnePod,
		RunE:              func(_ *cobra.Command, args []string) error { return catPodManifest(env, o, args) },
	}
	o.flags(c.Flags())
	return c
}

// podManifest is the contract of a pod in one value.
type podManifest struct {
	Pod  json.RawMessage        `json:"pod"`
	Host json.RawMessage        `json:"host,omitempty"`
	Apps map[string]appManifest `json:"apps"`
}

// appManifest is the contract of an app.
type appManifest struct {
	App    json.RawMessage `json:"app"`
	Config json.RawMessage `json:"config"`
	Limits json.RawMessage `json:"limits,omitempty"`
}

func catPodManifest(env *environment, o catManifestOptions, args []string) error {
	const help = "rkt cat-manifest --help"
	words, err := o.words(args, help)
	if err != nil {
		return err
	}
	if len(words) != 1 {
		return &usageError{message: fmt.Sprintf("expected one pod, got %d", len(words)), help: help}
	}
	if err := requireRoot("cat-manifest"); err != nil {
		return err
	}
	p, err := env.findPod(words[0])
	if err != nil {
		return err
	}
	defer p.Close()
	m, err := readManifest(p)
	if err != nil {
		return fmt.Errorf("cat-manifest of pod %s: %w", p.UUID(), err)
	}
	format := formatOption{"json"}
	if o.pretty {
		format.format = "json-pretty"
	}
	return format.writeJSON(env.stdout, m)
}

// readManifest reads the files of the contract as they are, each checked to be
// one that this rkt understands.
func readManifest(p *pod.Pod) (*podManifest, error) {
	c, err := p.Contract()
	if err != nil {
		return nil, err
	}
	m := &podManifest{Apps: map[string]appManifest{}}
	if m.Pod, err = p.Read(contract.PodFile); err != nil {
		return nil, err
	}
	if m.Host, err = readOptional(p, contract.HostFile); err != nil {
		return nil, err
	}
	for _, name := range c.Apps {
		if _, err := p.App(name); err != nil {
			return nil, fmt.Errorf("app %q: %w", name, err)
		}
		var a appManifest
		folder := contract.AppsDir + "/" + name + "/"
		if a.App, err = p.Read(folder + contract.AppFile); err != nil {
			return nil, err
		}
		if a.Config, err = p.Read(folder + contract.SpecFile); err != nil {
			return nil, err
		}
		if a.Limits, err = readOptional(p, folder+contract.LimitsFile); err != nil {
			return nil, err
		}
		m.Apps[name] = a
	}
	return m, nil
}

// readOptional reads a file that need not be there.
func readOptional(p *pod.Pod, name string) ([]byte, error) {
	b, err := p.Read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}
