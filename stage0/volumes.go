package stage0

import (
	"fmt"
	"path/filepath"
	"strings"

	"rkt/stage0/pod"
)

// VolumeInUseError reports a volume that a pod mounts.
type VolumeInUseError struct {
	Name string
	Pod  pod.UUID
}

func (e *VolumeInUseError) Error() string {
	return fmt.Sprintf("volume %q is mounted by pod %s", e.Name, e.Pod)
}

// Hint says what to do about it.
func (e *VolumeInUseError) Hint() string { return fmt.Sprintf("rkt stop %s", e.Pod) }

// CheckVolumeUnused returns a VolumeInUseError if a pod that is not over mounts
// path, which is that of the volume name, or something below it.
func CheckVolumeUnused(pods *pod.Dir, name, path string) error {
	return pods.Walk(nil, func(p *pod.Pod) error {
		state, err := p.State()
		if err != nil || state.Over() {
			return err
		}
		apps, err := p.AppNames()
		if err != nil {
			return err
		}
		for _, app := range apps {
			spec, err := p.Spec(app)
			if err != nil {
				return fmt.Errorf("look for volume %q in pod %s: %w", name, p.UUID(), err)
			}
			for _, m := range spec.Mounts {
				if source := filepath.Clean(m.Source); source == path || strings.HasPrefix(source, path+"/") {
					return &VolumeInUseError{Name: name, Pod: p.UUID()}
				}
			}
		}
		return nil
	})
}
