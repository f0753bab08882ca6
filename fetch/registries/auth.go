package registries

import (
	"errors"
	"fmt"
	"strings"

	"rkt/internal/confdir"
	"rkt/internal/strictjson"
)

// authFile is the format of auth.d/*.json, which rkt has always had. Unknown
// and repeated keys are refused; docs/registries.md is its description.
type authFile struct {
	Kind        string          `json:"rktKind"`    // "dockerAuth"
	Version     string          `json:"rktVersion"` // "v1"
	Registries  []string        `json:"registries"`
	Credentials authCredentials `json:"credentials"`
}

// authCredentials has a user and a password, or one of the tokens.
type authCredentials struct {
	User          string `json:"user,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identityToken,omitempty"`
	RegistryToken string `json:"registryToken,omitempty"`
}

// authD returns the credential for host that auth.d has. All files are read and
// checked, so that a mistake in one shows before it matters.
func (c Config) authD(host string) (credential, error) {
	known, err := c.loadAuth()
	return known[host].cred, err
}

// authEntry is the credential that a file has for a registry.
type authEntry struct {
	path  string
	level int
	cred  credential
}

// loadAuth reads auth.d of all folders, by registry.
func (c Config) loadAuth() (map[string]authEntry, error) {
	known := make(map[string]authEntry)
	err := c.Folders.Each("auth.d", func(path string, level int) error {
		file, err := readAuth(path)
		if err != nil || file == nil {
			return err
		}
		for _, name := range file.Registries {
			h := normalHost(name)
			before, taken := known[h]
			if taken && before.level == level {
				return &Refused{Path: path, Problem: fmt.Sprintf("%q has a credential for %q too", before.path, h)}
			}
			if !taken {
				known[h] = authEntry{path, level, credential(file.Credentials)}
			}
		}
		return nil
	})
	return known, err
}

// readAuth reads and checks one file of auth.d; an empty one gives nil.
func readAuth(path string) (*authFile, error) {
	data, err := confdir.Read(path, confdir.Secret)
	if err != nil || len(data) == 0 {
		return nil, err
	}
	var file authFile
	if err := file.parse(data); err != nil {
		return nil, fmt.Errorf("read %q: %w", path, err)
	}
	return &file, nil
}

// parse decodes and checks the content of a file.
func (f *authFile) parse(data []byte) error {
	if err := strictjson.Decode(data, f, strictjson.Options{MaxBytes: confdir.MaxFile}); err != nil {
		return err
	}
	return f.check()
}

func (f *authFile) check() error {
	if f.Kind != "dockerAuth" || f.Version != "v1" {
		return fmt.Errorf(`rktKind is %q and rktVersion %q, want "dockerAuth" and "v1"`, f.Kind, f.Version)
	}
	if len(f.Registries) == 0 {
		return errors.New("it names no registries")
	}
	for _, name := range f.Registries {
		if !hostRE().MatchString(normalHost(name)) {
			return fmt.Errorf("%q is not a registry", name)
		}
	}
	ways := 0
	for _, s := range []string{f.Credentials.User, f.Credentials.IdentityToken, f.Credentials.RegistryToken} {
		if s != "" {
			ways++
		}
	}
	if ways != 1 || (f.Credentials.User == "" && f.Credentials.Password != "") {
		return errors.New("credentials need a user with a password, or an identityToken, or a registryToken")
	}
	return nil
}

// normalHost returns the host[:port] that name means in the files of docker,
// which write Docker Hub in many ways and others with a scheme or a path.
func normalHost(name string) string {
	host := name
	if _, rest, ok := strings.Cut(host, "://"); ok {
		host = rest
	}
	host, _, _ = strings.Cut(host, "/")
	host = strings.ToLower(host)
	switch host {
	case "index.docker.io", dockerHubAPI, dockerHub:
		return dockerHub
	}
	return host
}
