package cgroup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/internal/cgrouptree"
	"rkt/stage1/contract"
)

// Kill ends every process in the cgroups of the pod and returns when none is
// left, or with an error that names who is when ctx ends. Only for a pod whose
// supervisor is gone; a living one would start apps again.
func Kill(ctx context.Context, cg contract.Cgroup) error {
	own, err := Folders(cg)
	if err != nil {
		return err
	}
	if err := cgrouptree.Seal(own...); err != nil {
		return err
	}
	return cgrouptree.Kill(ctx, own...)
}

// Find looks for the folders of a pod in all hierarchies of the host by its
// UUID. It is for pods whose own record of them is missing: it walks everything.
func Find(uuid string) (contract.Cgroup, error) {
	cg := contract.Cgroup{V1: map[string]string{}}
	err := filepath.WalkDir(mountRoot, func(path string, e os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil // removed meanwhile
		}
		if err != nil || !e.IsDir() {
			return err
		}
		if strings.Count(path, "/") > maxDepth {
			return filepath.SkipDir
		}
		if e.Name() == podPrefix+uuid {
			// The kind of hierarchy does not matter for what is done with these.
			cg.V1[path] = path
			return filepath.SkipDir
		}
		if isPod(e.Name()) {
			return filepath.SkipDir // another pod's
		}
		if strings.HasPrefix(e.Name(), appPrefix) {
			if mark, err := markOf(path); err == nil && mark == uuid {
				cg.V1[path] = path
			}
			return filepath.SkipDir
		}
		return nil
	})
	if err != nil {
		return cg, fmt.Errorf("look for cgroups of pod %s: %w", uuid, err)
	}
	return cg, nil
}

// isPod says whether a folder of that name is a pod's. A unit may well be called
// rkt-redis.service, and have pods below it.
func isPod(name string) bool {
	uuid, ok := strings.CutPrefix(name, podPrefix)
	return ok && len(uuid) == 36 && strings.Trim(uuid, "0123456789abcdef-") == ""
}
