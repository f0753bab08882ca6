package registries

import (
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"rkt/internal/confdir"
	"rkt/internal/strictjson"
)

// hostFile is the format of registries.d/*.json: one registry per file. Unknown
// and repeated keys are refused; docs/registries.md is its description.
type hostFile struct {
	// Host is the registry as references name it: host[:port].
	Host string `json:"host"`
	reach
	// TokenHosts are further hosts that may see the registry's credential, when
	// the registry names them as its token server.
	TokenHosts []string `json:"tokenHosts,omitempty"`
	// Mirrors are asked before the registry, in order.
	Mirrors []mirror `json:"mirrors,omitempty"`
}

// reach says how a host is talked to.
type reach struct {
	// CA is a file of certificates in PEM form that are trusted for this host
	// besides the system's; relative to the folder of this file.
	CA string `json:"ca,omitempty"`
	// PlainHTTP says that the host does not speak TLS.
	PlainHTTP bool `json:"plainHTTP,omitempty"`

	cas string // the certificates in the file CA
}

// mirror is another place that has what the registry has.
type mirror struct {
	Host string `json:"host"`
	reach
	// DigestOnly keeps a mirror from saying what a tag means.
	DigestOnly bool `json:"digestOnly,omitempty"`
}

// hostEntry is what one file says.
type hostEntry struct {
	hostFile
	level int // of the folder
	path  string
}

// hostRE is host[:port] as references write it: a DNS name in lower case, an
// IPv4 address, or an IPv6 address in brackets.
var hostRE = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$`)
})

// loadHosts reads registries.d of both folders.
func (c Config) loadHosts() (map[string]hostEntry, error) {
	hosts := make(map[string]hostEntry)
	err := c.Folders.Each("registries.d", func(path string, level int) error {
		entry, err := readHost(path)
		if err != nil || entry.Host == "" {
			return err
		}
		entry.level = level
		before, taken := hosts[entry.Host]
		if taken && before.level == level {
			return &Refused{Path: path, Problem: fmt.Sprintf("%q describes the registry %q too", before.path, entry.Host)}
		}
		if !taken {
			hosts[entry.Host] = entry
		}
		return nil
	})
	return hosts, err
}

// readHost reads and checks one file; an empty one gives an empty entry.
func readHost(path string) (hostEntry, error) {
	data, err := confdir.Read(path, confdir.Public)
	if err != nil || len(data) == 0 {
		return hostEntry{}, err
	}
	entry := hostEntry{path: path}
	if err := entry.parse(data); err != nil {
		return hostEntry{}, fmt.Errorf("read %q: %w", path, err)
	}
	if err := entry.readCAs(path); err != nil {
		return hostEntry{}, err
	}
	for i := range entry.Mirrors {
		if err := entry.Mirrors[i].readCAs(path); err != nil {
			return hostEntry{}, err
		}
	}
	return entry, nil
}

// parse decodes and checks the content of a file, but for the certificates that
// it names.
func (e *hostEntry) parse(data []byte) error {
	if err := strictjson.Decode(data, &e.hostFile, strictjson.Options{MaxBytes: confdir.MaxFile}); err != nil {
		return err
	}
	return e.check()
}

func (e *hostEntry) check() error {
	if err := e.reach.check(e.Host); err != nil {
		return err
	}
	hosts := append([]string{e.Host}, e.TokenHosts...)
	for _, m := range e.Mirrors {
		if err := m.reach.check(m.Host); err != nil {
			return err
		}
		hosts = append(hosts, m.Host)
	}
	for _, h := range hosts {
		if !hostRE().MatchString(h) {
			return fmt.Errorf("%q is not host[:port] in lower case", h)
		}
	}
	return nil
}

func (r *reach) check(host string) error {
	if r.PlainHTTP && r.CA != "" {
		return fmt.Errorf("%q has both plainHTTP and ca", host)
	}
	return nil
}

// readCAs reads the certificates that the file at path names.
func (r *reach) readCAs(path string) error {
	if r.CA == "" {
		return nil
	}
	file := r.CA
	if !filepath.IsAbs(file) {
		file = filepath.Join(filepath.Dir(path), file)
	}
	data, err := confdir.Read(file, confdir.Public)
	if err != nil {
		return fmt.Errorf("read ca of %q: %w", path, err)
	}
	if r.cas, err = certificates(data); err != nil {
		return fmt.Errorf("read ca %q: %w", file, err)
	}
	return nil
}

// certificates returns the certificates in PEM data and leaves out the rest: a
// key, say, that lies in the same file.
func certificates(data []byte) (string, error) {
	var certs strings.Builder
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		certs.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
	}
	if certs.Len() == 0 {
		return "", errors.New("no certificate in PEM form")
	}
	return certs.String(), nil
}
