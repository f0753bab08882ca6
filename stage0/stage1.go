package stage0

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"rkt/stage0/plan"
	"rkt/stage1/contract"
)

// DefaultStage1 is the flavour of pods that ask for no other.
const DefaultStage1 = "native"

// stage1 is a flavour, found and understood.
type stage1 struct {
	contract.Stage1
	manifest *contract.Manifest
	// running is the program of the supervisor of a pod; nil = what is in Dir.
	running *os.File
}

// findStage1 finds a flavour by its name.
func (e *Env) findStage1(name string) (*stage1, error) {
	if name == "" {
		name = DefaultStage1
	}
	if !plan.ValidName(name) {
		return nil, fmt.Errorf("stage1 name %q: want lower-case letters, digits, dots, dashes and underscores", name)
	}
	for _, folder := range e.Stage1Dirs {
		s, err := openStage1(contract.Stage1{Name: name, Dir: filepath.Join(folder, name)})
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil && s.manifest.Contract < contract.Version {
			return nil, fmt.Errorf("stage1 %q in %s speaks contract %d, this rkt writes %d", name, folder, s.manifest.Contract, contract.Version)
		}
		return s, err
	}
	return nil, fmt.Errorf("stage1 %q is in none of %q", name, e.Stage1Dirs)
}

// openStage1 reads the manifest of a flavour.
func openStage1(s contract.Stage1) (*stage1, error) {
	m, err := contract.LoadManifest(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("open stage1 %q: %w", s.Name, err)
	}
	return &stage1{Stage1: s, manifest: m}, nil
}

// command is the argv of an entrypoint with further arguments. The first
// element is the absolute path of the program.
func (s *stage1) command(entry string, args ...string) ([]string, error) {
	argv := s.manifest.Entrypoints[entry]
	if len(argv) == 0 {
		return nil, fmt.Errorf("stage1 %q: %w %q", s.Name, errNoEntrypoint, entry)
	}
	if !filepath.IsLocal(argv[0]) {
		return nil, fmt.Errorf("stage1 %q: entrypoint %q is outside of its folder: %q", s.Name, entry, argv[0])
	}
	command := append([]string{filepath.Join(s.Dir, argv[0])}, argv[1:]...)
	return append(command, args...), nil
}

// stage1Environment is all that a stage1 gets of the caller's environment. One
// in Go does one thing at a time; with one processor its runtime starts sooner
// and takes 200 KiB less for as long as the pod lives.
func stage1Environment() []string {
	// A heap of a few hundred KiB in one huge page costs 2 MiB, where the host gives
	// huge pages to all.
	return []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "GOMAXPROCS=1", "GODEBUG=disablethp=1"}
}
