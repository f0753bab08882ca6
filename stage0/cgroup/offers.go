package cgroup

import (
	"path/filepath"
	"slices"
)

// Offers says whether limits that need c can be set for a pod in a cgroup that
// is delegated to it, which is not that of this process.
func (h *Host) Offers(c Controller) bool {
	if h.Mode != V2 {
		return h.Has(c)
	}
	there, err := words(filepath.Join(h.root, "cgroup.controllers"))
	return err == nil && slices.Contains(there, string(c))
}
