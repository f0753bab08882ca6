package registries

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"rkt/internal/confdir"
)

// userConfig is what rkt reads of docker's config.json and of containers'
// auth.json. They are other programs' files, so other keys are allowed.
type userConfig struct {
	Auths       map[string]userAuth `json:"auths"`
	CredsStore  string              `json:"credsStore"`
	CredHelpers map[string]string   `json:"credHelpers"`
}

type userAuth struct {
	Auth          string `json:"auth"` // base64 of user:password
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// userFile returns the credential for repository on host that the file at path
// has, or that the helper has which it names. A file that is not there has
// none, but for the one that $REGISTRY_AUTH_FILE names.
func (c Config) userFile(ctx context.Context, path, host, repository string) (credential, error) {
	f, info, err := confdir.Open(path)
	if errors.Is(err, fs.ErrNotExist) && path != c.AuthFile {
		return credential{}, nil
	}
	if err != nil {
		return credential{}, err
	}
	defer f.Close()

	if !confdir.Ours(info) {
		// With a kept $HOME, sudo leads to the file of another user. What that
		// one wrote must not make root run a helper.
		c.note("%s is not used: it belongs to another user", path)
		return credential{}, nil
	}
	config, err := parseUserConfig(f, path)
	if err != nil {
		return credential{}, err
	}
	cred, err := c.fromUserConfig(ctx, config, host, repository)
	if err != nil {
		return credential{}, fmt.Errorf("read %q: %w", path, err)
	}
	if cred.written && info.Mode().Perm()&confdir.Secret != 0 {
		return credential{}, confdir.ModeRefused(path, info, confdir.Secret)
	}
	return cred.credential, nil
}

// parseUserConfig reads an open file of another program.
func parseUserConfig(f *os.File, path string) (*userConfig, error) {
	data, err := confdir.ReadBounded(f, path)
	if err != nil {
		return nil, err
	}
	config := &userConfig{}
	if err := json.Unmarshal(data, config); err != nil {
		return nil, fmt.Errorf("read %q: %w", path, plainJSONError(err))
	}
	return config, nil
}

// found is a credential, and whether it was written in the file itself.
type found struct {
	credential
	written bool
}

// fromUserConfig asks the helper of the host, then what is written down, then
// the helper of all hosts.
func (c Config) fromUserConfig(ctx context.Context, config *userConfig, host, repository string) (found, error) {
	for key, helper := range config.CredHelpers {
		if normalHost(key) != host {
			continue
		}
		cred, err := c.askHelper(ctx, helper, key)
		if err != nil || cred != (credential{}) {
			return found{credential: cred}, err
		}
	}
	cred, err := config.written(host, repository)
	if err != nil || cred != (credential{}) {
		return found{credential: cred, written: true}, err
	}
	if config.CredsStore == "" {
		return found{}, nil
	}
	cred, err = c.askHelper(ctx, config.CredsStore, helperKey(host))
	if err != nil && ctx.Err() == nil {
		// It is the helper of everything, public images included.
		c.note("no credential for %s: %v", host, err)
		return found{}, nil
	}
	return found{credential: cred}, err
}

// written returns what the file says about the longest name that covers
// repository on host: a host, or a host with the first components of a path.
func (u *userConfig) written(host, repository string) (credential, error) {
	best, bestKey := -1, ""
	for key := range u.Auths {
		if n := covers(key, host, repository); n > best || n == best && n >= 0 && key < bestKey {
			best, bestKey = n, key
		}
	}
	if best < 0 {
		return credential{}, nil
	}
	return u.Auths[bestKey].credential(bestKey)
}

// covers returns how much of repository the key names, or -1 when the key is
// about something else.
func covers(key, host, repository string) int {
	if normalHost(key) != host {
		return -1
	}
	if strings.Contains(key, "://") {
		return 0 // docker's form, in which the path says nothing
	}
	_, path, _ := strings.Cut(key, "/")
	path = strings.Trim(path, "/")
	switch {
	case path == "" || path == "v1" || path == "v2":
		return 0
	case path == repository || strings.HasPrefix(repository, path+"/"):
		return len(path)
	}
	return -1
}

func (a userAuth) credential(key string) (credential, error) {
	cred := credential{
		User: a.Username, Password: a.Password,
		IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	}
	if a.Auth == "" {
		return cred, nil
	}
	plain, err := base64.StdEncoding.DecodeString(a.Auth)
	if err != nil {
		return credential{}, fmt.Errorf("auth of %q is not base64", key)
	}
	user, password, ok := strings.Cut(string(plain), ":")
	if !ok || user == "" {
		return credential{}, fmt.Errorf("auth of %q is not user:password", key)
	}
	cred.User, cred.Password = user, strings.TrimRight(password, "\x00")
	if cred.IdentityToken != "" {
		cred.User, cred.Password = "", ""
	}
	return cred, nil
}

// plainJSONError keeps the text of the file, which may be a secret, out of an
// error about it.
func plainJSONError(err error) error {
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("not JSON at byte %d", syntax.Offset)
	}
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fmt.Errorf("%q is of the wrong type at byte %d", kind.Field, kind.Offset)
	}
	return errors.New("not JSON")
}
