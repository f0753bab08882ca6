package rootfs

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"rkt/cas"
)

// SweepRecords removes the records under the run directory that say nothing any more:
// those of other boots, of mount namespaces that are gone, and of layers that no
// store has. What is true stays.
func (l *Layers) SweepRecords(ctx context.Context) error {
	s, err := openState(l.o.RunDir)
	if err != nil {
		return err
	}
	defer s.Close()
	release, err := s.exclusive(ctx)
	if err != nil {
		return err
	}
	defer release()

	current := ""
	ns, err := openNamespace(s.dir)
	switch {
	case err == nil:
		defer ns.Close()
		current = s.mountedDir(ns)
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	return errors.Join(s.forgetOthers(current), s.forgetVerified(func(d cas.Digest) bool {
		_, ok := l.o.Stores.Find(d)
		return ok
	}))
}

// forgetOthers removes what is recorded of other boots and of other namespaces
// than the one whose records are in the folder current; "" = of all.
func (s *state) forgetOthers(current string) error {
	var errs []error
	for _, pattern := range []string{filepath.Join(s.dir, bootPrefix+"*"), filepath.Join(s.boot, mountPrefix+"*")} {
		old, err := filepath.Glob(pattern)
		errs = append(errs, err)
		for _, path := range old {
			if path != s.boot && path != current {
				errs = append(errs, os.RemoveAll(path))
			}
		}
	}
	return errors.Join(errs...)
}

// forgetVerified removes the records of layers that are not here.
func (s *state) forgetVerified(here func(cas.Digest) bool) error {
	dir := filepath.Join(s.boot, verifiedDir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		if d, err := cas.FromHex(e.Name()); err == nil && here(d) {
			continue
		}
		errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
	}
	return errors.Join(errs...)
}
