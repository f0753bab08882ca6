package rootfs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/stage1/contract"
)

// Ensure mounts those of the layers that are not mounted, and tells where all
// are, by the hex digits of their diff IDs. They are hashed when their tier says
// so; the error is a *DamagedError when one is damaged, cas.ErrNotFound when it is
// in no store, *NoVerityError when the tier is not to be had. The layers stay mounted until Release.
func (l *Layers) Ensure(ctx context.Context, diffIDs []cas.Digest) (map[string]contract.Mounted, error) {
	s, err := openState(l.o.RunDir)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	missing, err := l.missing(ctx, s, diffIDs)
	if err != nil {
		return nil, err
	}
	if len(missing) > 0 {
		sources, err := l.prepareAll(ctx, s, missing)
		if err != nil {
			return nil, err
		}
		defer sources.Close()
		if err := l.mountAll(ctx, s, sources); err != nil {
			return nil, err
		}
	}
	mounted := make(map[string]contract.Mounted, len(diffIDs))
	for _, d := range diffIDs {
		mounted[d.Hex()] = contract.Mounted{Namespace: filepath.Join(s.dir, nsFile), Path: mountPoint(d)}
	}
	return mounted, nil
}

// mountPoint is where a layer is in the namespace.
func mountPoint(d cas.Digest) string { return "/" + d.Hex() }

// missing returns those of the layers that something must be done for, each once:
// those that are not mounted, or not from the files in the store, or must be
// hashed.
func (l *Layers) missing(ctx context.Context, s *state, diffIDs []cas.Digest) ([]cas.Digest, error) {
	// The lock waits for a Release that is under way: what is mounted when it
	// is over stays.
	release, err := s.shared(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	ns, err := openNamespace(s.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if ns != nil {
		defer ns.Close()
	}
	var missing []cas.Digest
	seen := make(map[cas.Digest]bool, len(diffIDs))
	for _, d := range diffIDs {
		if !seen[d] && !l.served(s, ns, d) {
			missing = append(missing, d)
		}
		seen[d] = true
	}
	return missing, nil
}

// served tells whether a layer is mounted as its tier wants it. ns may be nil.
func (l *Layers) served(s *state, ns *namespace, d cas.Digest) bool {
	if ns == nil {
		return false
	}
	record, ok := s.mounted(ns, d)
	if !ok {
		return false
	}
	want, err := l.standing(d)
	return err == nil && record.serves(want)
}

// sources are what layers are mounted from, by layer.
type sources map[cas.Digest]source

func (s sources) Close() {
	for _, one := range s {
		one.Close()
	}
}

// prepareAll derives and verifies layers, several at once.
func (l *Layers) prepareAll(ctx context.Context, s *state, layers []cas.Digest) (_ sources, err error) {
	layers, total := l.bySize(layers)
	m := newMeter(l.o.Hashing, total)
	defer m.end()
	prepared := make([]source, len(layers))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxParallel())
	for i, d := range layers {
		group.Go(func() (err error) {
			prepared[i], err = l.prepare(ctx, s, d, m)
			if err != nil {
				return damaged(d, fmt.Errorf("prepare layer %s: %w", d, err))
			}
			return nil
		})
	}
	err = group.Wait()
	all := make(sources, len(layers))
	for i, d := range layers {
		all[d] = prepared[i]
	}
	if err != nil {
		all.Close()
		return nil, err
	}
	return all, nil
}

// mountAll mounts what is still not mounted.
func (l *Layers) mountAll(ctx context.Context, s *state, from sources) error {
	release, err := s.exclusive(ctx)
	if err != nil {
		return err
	}
	defer release()
	ns, err := l.namespace(s)
	if err != nil {
		return err
	}
	defer ns.Close()

	mounts := map[cas.Digest]*os.File{}
	records := map[cas.Digest]mountRecord{}
	defer func() {
		for _, m := range mounts {
			m.Close()
		}
	}()
	for d, one := range from {
		store, ok := l.o.Stores.Find(d)
		if !ok {
			return fmt.Errorf("mount layer %s: %w", d, cas.ErrNotFound)
		}
		want := mountRecord{tier: l.tierOf(store), print: one.print}
		records[d] = want
		if record, ok := s.mounted(ns, d); ok && record.canBe(want) {
			continue // by another process, meanwhile, or for another tier
		}
		m, err := mount(l.choice.Driver, l.choice.DirectIO && want.tier != Kernel, one)
		if err != nil {
			return fmt.Errorf("mount layer %s: %w", d, err)
		}
		mounts[d] = m
	}
	if len(mounts) > 0 {
		if err := ns.inside(func() error { return attachAll(mounts) }); err != nil {
			return err
		}
	}
	for d, record := range records {
		if err := s.recordMounted(ns, d, record); err != nil {
			return fmt.Errorf("record mount of layer %s: %w", d, err)
		}
	}
	return nil
}

// namespace opens the namespace of the layers, made if there is none.
func (l *Layers) namespace(s *state) (*namespace, error) {
	ns, err := openNamespace(s.dir)
	if errors.Is(err, os.ErrNotExist) {
		if err := s.renew(); err != nil {
			return nil, fmt.Errorf("renew state of layers: %w", err)
		}
		ns, err = createNamespace(s.dir)
	}
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.mountedDir(ns), 0o700); err != nil {
		ns.Close()
		return nil, err
	}
	return ns, nil
}

// attachAll puts mounts to their places. It runs inside the namespace.
func attachAll(mounts map[cas.Digest]*os.File) error {
	for d, m := range mounts {
		point := mountPoint(d)
		// One that is there belongs to somebody who was killed before he recorded
		// it, or is of other files. It stays below, for who has just been told of it.
		err := os.Mkdir(point, 0o700)
		if err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make mount point of layer %s: %w", d, err)
		}
		if err := unix.MoveMount(int(m.Fd()), "", unix.AT_FDCWD, point, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("attach layer %s: %w", d, err)
		}
	}
	return nil
}

// detach takes all mounts from a mount point; who uses them keeps them.
func detach(point string) error {
	for {
		switch err := unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err {
		case nil:
		case unix.EINVAL: // it is no mount point any more
			return nil
		default:
			return fmt.Errorf("unmount %q: %w", point, err)
		}
	}
}
