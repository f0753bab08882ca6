package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"

	"rkt/cas"
)

// Release unmounts the layers that keep does not want, lazily: pods that run
// from clones are not disturbed. When none is left, nothing stays mounted on
// the host. keep is called while nobody else can pass Ensure: it finds then
// every pod that was made before its Ensure.
func (l *Layers) Release(ctx context.Context, keep func(cas.Digest) bool) error {
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
	ns, err := openNamespace(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		return removeNamespace(s.dir) // what a kill may have left
	}
	if err != nil {
		return err
	}
	defer ns.Close()

	there, err := ns.layers()
	if err != nil {
		return err
	}
	var unwanted []cas.Digest
	for _, d := range there {
		if keep(d) {
			continue
		}
		if err := s.forgetMounted(ns, d); err != nil {
			return fmt.Errorf("forget mount of layer %s: %w", d, err)
		}
		unwanted = append(unwanted, d)
	}
	if len(unwanted) == len(there) {
		// The namespace takes along what is mounted in it.
		return removeNamespace(s.dir)
	}
	return ns.detach(unwanted)
}

// layers lists the layers that have a mount point in the namespace.
func (n *namespace) layers() ([]cas.Digest, error) {
	var layers []cas.Digest
	err := n.inside(func() error {
		entries, err := os.ReadDir("/")
		if err != nil {
			return fmt.Errorf("list mounted layers: %w", err)
		}
		for _, e := range entries {
			if d, err := cas.FromHex(e.Name()); err == nil {
				layers = append(layers, d)
			}
		}
		return nil
	})
	return layers, err
}

// detach unmounts layers and removes their mount points, so that nobody clones
// an empty folder for a layer.
func (n *namespace) detach(layers []cas.Digest) error {
	if len(layers) == 0 {
		return nil
	}
	return n.inside(func() error {
		for _, d := range layers {
			if err := detach(mountPoint(d)); err != nil {
				return err
			}
			if err := os.Remove(mountPoint(d)); err != nil {
				return fmt.Errorf("remove mount point of layer %s: %w", d, err)
			}
		}
		return nil
	})
}
