// Package registries knows what the operator says about registries: where a
// registry is reached (mirrors, certificate authorities, plain http) and which
// credential may be sent to it. It reads configuration and asks credential
// helpers; it talks to no registry. Start with Config.Endpoints.
//
// Three rules hold whatever the configuration says: a credential goes only to
// the host[:port] that it is written down for, never over an unverified
// connection, and never from a file that others can read.
package registries

import (
	"context"
	"fmt"
	"path/filepath"

	"rkt/fetch/wire"
	"rkt/internal/confdir"
)

// dockerHub is the host in references to Docker Hub; dockerHubAPI answers there.
const (
	dockerHub    = "docker.io"
	dockerHubAPI = "registry-1.docker.io"
)

// Config says where configuration is and what this one command does without.
// The zero value of a path means that there is no such place.
type Config struct {
	// Folders are those with auth.d and registries.d, for example /usr/lib/rkt and
	// /etc/rkt. What a later one says about a registry replaces what earlier ones
	// say.
	Folders confdir.Folders
	// AuthFile is $REGISTRY_AUTH_FILE: read instead of the files in the home
	// folder and in /run/containers.
	AuthFile string
	// Runtime is the folder of containers' auth.json for this boot.
	Runtime string
	// Home is the home folder with .docker and .config/containers.
	Home string
	// HelperDirs are searched for docker-credential-NAME, in order.
	HelperDirs []string
	// AllowHTTP lets a registry be asked over plain http when it does not speak
	// TLS; SkipTLSVerify lets its certificate be wrong. Neither holds for
	// mirrors, and no credential is sent then.
	AllowHTTP, SkipTLSVerify bool
	// Note is told what the user should know although it is not an error; nil = nobody.
	Note func(text string)
}

// System is the Config of a command run by a user of this machine.
func System(folders confdir.Folders, getenv func(string) string) Config {
	return Config{
		Folders:    folders,
		AuthFile:   getenv("REGISTRY_AUTH_FILE"),
		Runtime:    "/run/containers/0",
		Home:       getenv("HOME"),
		HelperDirs: []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"},
	}
}

// Endpoints returns the hosts to ask for repository on the registry host, in
// order, with what may be sent to each: mirrors first, then the registry
// itself. byDigest says that the image is asked for by digest, which lets
// mirrors answer that are not trusted with tags. Files are read anew each time.
func (c Config) Endpoints(ctx context.Context, host, repository string, byDigest bool) ([]wire.Endpoint, error) {
	hosts, err := c.loadHosts()
	if err != nil {
		return nil, err
	}
	entry := hosts[host]

	var ends []wire.Endpoint
	for _, m := range entry.Mirrors {
		if m.DigestOnly && !byDigest {
			continue
		}
		end := wire.Endpoint{Host: m.Host, HTTP: m.PlainHTTP, CAs: m.cas}
		if err := c.addCredential(ctx, &end, m.Host, repository); err != nil {
			return nil, err
		}
		ends = append(ends, end)
	}
	own, err := c.own(ctx, host, repository, entry)
	if err != nil {
		return nil, err
	}
	return append(ends, own...), nil
}

// own returns the endpoints of the registry itself.
func (c Config) own(ctx context.Context, host, repository string, entry hostEntry) ([]wire.Endpoint, error) {
	end := wire.Endpoint{
		Host:          apiHost(host),
		HTTP:          entry.PlainHTTP,
		CAs:           entry.cas,
		TokenHosts:    entry.TokenHosts,
		SkipTLSVerify: c.SkipTLSVerify && !entry.PlainHTTP,
	}
	if err := c.addCredential(ctx, &end, host, repository); err != nil {
		return nil, err
	}
	if !c.AllowHTTP || end.HTTP {
		return []wire.Endpoint{end}, nil
	}
	return []wire.Endpoint{end, {Host: end.Host, HTTP: true}}, nil
}

// addCredential gives end the credential of host, if there is one and the
// connection is such that it may be sent.
func (c Config) addCredential(ctx context.Context, end *wire.Endpoint, host, repository string) error {
	cred, err := c.credential(ctx, host, repository)
	if err != nil {
		return fmt.Errorf("find credential for %q: %w", host, err)
	}
	if cred == (credential{}) {
		return nil
	}
	if end.HTTP || end.SkipTLSVerify {
		c.note("the credential for %s is not used: the connection is not verified", host)
		return nil
	}
	end.User, end.Password = cred.User, cred.Password
	end.IdentityToken, end.RegistryToken = cred.IdentityToken, cred.RegistryToken
	return nil
}

// credential returns what the first place that knows host says; the zero
// credential means that none does.
func (c Config) credential(ctx context.Context, host, repository string) (credential, error) {
	cred, err := c.authD(host)
	if err != nil || cred != (credential{}) {
		return cred, err
	}
	for _, path := range c.userFiles() {
		cred, err := c.userFile(ctx, path, host, repository)
		if err != nil || cred != (credential{}) {
			return cred, err
		}
	}
	return credential{}, nil
}

// userFiles lists the files that docker and podman write when a user logs in.
func (c Config) userFiles() []string {
	if c.AuthFile != "" {
		return []string{c.AuthFile}
	}
	var files []string
	if c.Runtime != "" {
		files = append(files, filepath.Join(c.Runtime, "auth.json"))
	}
	if c.Home != "" {
		files = append(files,
			filepath.Join(c.Home, ".config/containers/auth.json"),
			filepath.Join(c.Home, ".docker/config.json"))
	}
	return files
}

// Refused is a configuration file that may not be used as it is.
type Refused = confdir.Refused

func (c Config) note(format string, args ...any) {
	if c.Note != nil {
		c.Note(fmt.Sprintf(format, args...))
	}
}

// apiHost is the host that answers for the host in a reference.
func apiHost(host string) string {
	if host == dockerHub {
		return dockerHubAPI
	}
	return host
}

// credential is a way to prove who asks. The zero value is nobody.
type credential struct {
	User, Password string
	IdentityToken  string // a refresh token
	RegistryToken  string // a bearer token that is ready for use
}
