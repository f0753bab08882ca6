package contract

import (
	"errors"
	"reflect"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

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
