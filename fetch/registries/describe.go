package registries

import (
	"cmp"
	"errors"
	"io/fs"
	"slices"

	"rkt/internal/confdir"
)

// Described is what the files say about registries, without its secrets.
type Described struct {
	Registries  []DescribedRegistry
	Credentials []DescribedCredential
}

// DescribedRegistry is a registry of registries.d.
type DescribedRegistry struct {
	Host       string   `json:"host"`
	PlainHTTP  bool     `json:"plainHTTP,omitempty"`
	CA         string   `json:"ca,omitempty"`
	TokenHosts []string `json:"tokenHosts,omitempty"`
	Mirrors    []string `json:"mirrors,omitempty"` // hosts, in order
	From       string   `json:"from"`
}

// DescribedCredential is a credential, or a helper that is asked for one.
type DescribedCredential struct {
	// Registry is a host[:port], or with a path of it; "" = any.
	Registry string `json:"registry,omitempty"`
	Kind     string `json:"kind"` // password, identityToken, registryToken or helper
	User     string `json:"user,omitempty"`
	Helper   string `json:"helper,omitempty"`
	From     string `json:"from"`
}

// Describe reads all files. A credential that others could read is an error, a
// *Refused, as it would be in a fetch. No helper is asked.
func (c Config) Describe() (*Described, error) {
	hosts, err := c.loadHosts()
	if err != nil {
		return nil, err
	}
	d := &Described{}
	for _, h := range hosts {
		one := DescribedRegistry{Host: h.Host, PlainHTTP: h.PlainHTTP, CA: h.CA, TokenHosts: h.TokenHosts, From: h.path}
		for _, m := range h.Mirrors {
			one.Mirrors = append(one.Mirrors, m.Host)
		}
		d.Registries = append(d.Registries, one)
	}
	known, err := c.loadAuth()
	if err != nil {
		return nil, err
	}
	for host, entry := range known {
		d.Credentials = append(d.Credentials, DescribedCredential{Registry: host, Kind: entry.cred.kind(), User: entry.cred.User, From: entry.path})
	}
	for _, path := range c.userFiles() {
		if err := c.describeUserFile(d, path); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(d.Registries, func(a, b DescribedRegistry) int { return cmp.Compare(a.Host, b.Host) })
	slices.SortStableFunc(d.Credentials, func(a, b DescribedCredential) int {
		return cmp.Or(cmp.Compare(a.Registry, b.Registry), cmp.Compare(a.Kind, b.Kind))
	})
	return d, nil
}

// describeUserFile adds what another program's file has.
func (c Config) describeUserFile(d *Described, path string) error {
	f, info, err := confdir.Open(path)
	if errors.Is(err, fs.ErrNotExist) && path != c.AuthFile {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if !confdir.Ours(info) {
		return nil // a fetch does not use it either
	}
	config, err := parseUserConfig(f, path)
	if err != nil {
		return err
	}
	if len(config.Auths) > 0 && info.Mode().Perm()&confdir.Secret != 0 {
		return confdir.ModeRefused(path, info, confdir.Secret)
	}
	for key, auth := range config.Auths {
		cred, err := auth.credential(key)
		if err != nil {
			return err
		}
		if cred != (credential{}) {
			d.Credentials = append(d.Credentials, DescribedCredential{Registry: key, Kind: cred.kind(), User: cred.User, From: path})
		}
	}
	for key, helper := range config.CredHelpers {
		d.Credentials = append(d.Credentials, DescribedCredential{Registry: key, Kind: "helper", Helper: helper, From: path})
	}
	if config.CredsStore != "" {
		d.Credentials = append(d.Credentials, DescribedCredential{Kind: "helper", Helper: config.CredsStore, From: path})
	}
	return nil
}

// kind says what the secret of a credential is.
func (c credential) kind() string {
	switch {
	case c.IdentityToken != "":
		return "identityToken"
	case c.RegistryToken != "":
		return "registryToken"
	}
	return "password"
}
