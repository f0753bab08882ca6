package contract

import (
	"errors"
	"reflect"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// specFile is the part of the runtime-spec that the contract has: a start has no
// use for its words for every other system.
type specFile struct {
	Version  string         `json:"ociVersion"`
	Process  *specs.Process `json:"process,omitempty"`
	Root     *specs.Root    `json:"root,omitempty"`
	Hostname string         `json:"hostname,omitempty"`
	Mounts   []specs.Mount  `json:"mounts,omitempty"`
	Linux    *specLinux     `json:"linux,omitempty"`
}

type specLinux struct {
	Namespaces    []specs.LinuxNamespace `json:"namespaces,omitempty"`
	MaskedPaths   []string               `json:"maskedPaths,omitempty"`
	ReadonlyPaths []string               `json:"readonlyPaths,omitempty"`
}

// ParseSpec parses the text of config.json. What the runtime-spec has and the
// contract has not is an error.
func ParseSpec(b []byte) (*specs.Spec, error) {
	var f specFile
	if err := parse(SpecFile, b, &f); err != nil {
		return nil, err
	}
	s := &specs.Spec{Version: f.Version, Process: f.Process, Root: f.Root, Hostname: f.Hostname, Mounts: f.Mounts}
	if f.Linux != nil {
		s.Linux = &specs.Linux{
			Namespaces: f.Linux.Namespaces, MaskedPaths: f.Linux.MaskedPaths, ReadonlyPaths: f.Linux.ReadonlyPaths,
		}
	}
	return s, nil
}

// EncodeSpec is the text of config.json. A spec that says more than the contract
// has words for is an error: a setting must not get lost between the halves.
func EncodeSpec(s *specs.Spec) ([]byte, error) {
	f := specFile{Version: s.Version, Process: s.Process, Root: s.Root, Hostname: s.Hostname, Mounts: s.Mounts}
	rest := *s
	rest.Version, rest.Process, rest.Root, rest.Hostname, rest.Mounts, rest.Linux = "", nil, nil, "", nil, nil
	if s.Linux != nil {
		linux := *s.Linux
		f.Linux = &specLinux{
			Namespaces: linux.Namespaces, MaskedPaths: linux.MaskedPaths, ReadonlyPaths: linux.ReadonlyPaths,
		}
		linux.Namespaces, linux.MaskedPaths, linux.ReadonlyPaths = nil, nil, nil
		if !reflect.ValueOf(linux).IsZero() {
			return nil, errors.New("the linux section has more than namespaces, masked and read-only paths")
		}
	}
	if !reflect.ValueOf(rest).IsZero() {
		return nil, errors.New("the spec has more than process, root, hostname, mounts and linux")
	}
	return Encode(f)
}
