package stage0

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"

	"rkt/cas"
	"rkt/image"
	"rkt/stage0/pod"
)

// DamageKind is what is damaged.
type DamageKind string

// The kinds of damage.
const (
	DamagedBlob    DamageKind = "blob"    // its bytes are not those of its digest
	DamagedDerived DamageKind = "derived" // not what its layer gives
	DamagedRecord  DamageKind = "record"  // unreadable, or something it names is missing
	DamagedPod     DamageKind = "pod"     // its contract cannot be read, or its layers are missing
)

// Damage is one thing that Fsck found.
type Damage struct {
	Kind DamageKind `json:"kind"`
	// What is a digest, a reference, a path or a UUID.
	What    string `json:"what"`
	Problem string `json:"problem"`
	// Users are the images and pods that need it.
	Users []string `json:"users,omitempty"`
	// Repaired is true when it was removed, so that the next fetch or start
	// makes it anew.
	Repaired bool `json:"repaired"`
}

// Report is what Fsck found.
type Report struct {
	Damage []Damage `json:"damage"`
	// Notes are things that have no business where they are and do no harm.
	Notes []string `json:"notes,omitempty"`
	// Blobs and Layers are how many were checked.
	Blobs  int `json:"blobs"`
	Layers int `json:"layers"`
}

// fsck is one run of Fsck.
type fsck struct {
	env    *Env
	repair bool
	report *Report
	users  map[cas.Digest][]string
	// bad are the digests whose blob or derived data was removed.
	bad map[cas.Digest]bool
}

// Fsck checks the whole data directory: every blob is hashed, what was derived
// from layers is derived again and compared, every record must lead to all its
// blobs, and every pod must be readable. With repair, damaged blobs, derived
// data and records are removed, so that the next fetch or start brings them
// anew; what a running pod uses stays with it, since its files are only
// unlinked. Pods are left to the user. The error is about what could not be
// checked.
func Fsck(ctx context.Context, env *Env, repair bool) (*Report, error) {
	f := &fsck{
		env: env, repair: repair, bad: map[cas.Digest]bool{},
		report: &Report{Damage: []Damage{}}, users: map[cas.Digest][]string{},
	}
	records, broken, err := f.readUsers()
	if err != nil {
		return f.report, err
	}
	errs := []error{
		f.checkBlobs(ctx, records),
		f.checkDerived(ctx),
		f.checkRecords(ctx, broken),
		f.checkPods(),
		f.noteStrays(),
	}
	if len(f.bad) > 0 && f.repair {
		// What was removed must not be used through a mount of before.
		errs = append(errs, env.Layers.Release(ctx, func(d cas.Digest) bool { return !f.bad[d] }))
	}
	return f.report, errors.Join(errs...)
}

// add records damage and, when asked to, repairs it.
func (f *fsck) add(d Damage, repair func() error) error {
	var err error
	if f.repair && repair != nil {
		if err = repair(); err == nil {
			d.Repaired = true
		} else {
			err = fmt.Errorf("repair %s %s: %w", d.Kind, d.What, err)
		}
	}
	f.report.Damage = append(f.report.Damage, d)
	return err
}

// readUsers finds out who needs what, as far as it can be read, and returns the
// records of images and those that cannot be understood.
func (f *fsck) readUsers() ([]image.Record, []*image.RecordError, error) {
	records, err := f.env.Images.List()
	broken, err := recordErrors(err)
	if err != nil {
		return nil, nil, err
	}
	for _, r := range records {
		for _, d := range recordDigests(&r) {
			f.users[d] = append(f.users[d], recordName(&r))
		}
	}
	err = f.env.Pods.Walk(nil, func(p *pod.Pod) error {
		names, err := p.AppNames()
		if err != nil {
			return nil // checkPods tells
		}
		for _, name := range names {
			roots := cas.Roots{}
			a, err := p.App(name)
			if err == nil {
				err = addRoots(roots, p.UUID(), a)
			}
			if err != nil {
				continue // checkPods tells
			}
			for d, reasons := range roots {
				f.users[d] = append(f.users[d], reasons...)
			}
		}
		return nil
	})
	return records, broken, err
}

// blobAt is a blob of one of the stores.
type blobAt struct {
	store  *cas.Store
	digest cas.Digest
}

// checkBlobs hashes the blobs of the writable store and those of read-only ones
// that records name.
func (f *fsck) checkBlobs(ctx context.Context, records []image.Record) error {
	own := f.env.Images.CAS()
	var blobs []blobAt
	seen := map[cas.Digest]bool{}
	err := own.WalkBlobs(func(d cas.Digest, _ int64) error {
		blobs = append(blobs, blobAt{own, d})
		seen[d] = true
		return nil
	})
	if err != nil {
		return err
	}
	for _, r := range records {
		for _, d := range recordDigests(&r) {
			if store, ok := f.env.Images.Find(d); ok && !seen[d] {
				blobs = append(blobs, blobAt{store, d})
				seen[d] = true
			}
		}
	}
	f.report.Blobs = len(blobs)
	failures, err := inParallel(ctx, blobs, func(b blobAt) error { return b.store.Check(ctx, b.digest) })
	errs := []error{err}
	for i, failure := range failures {
		b := blobs[i]
		if failure == nil || errors.Is(failure, cas.ErrNotFound) {
			continue // sound, or collected meanwhile
		}
		// Bytes that cannot be read are damaged as well.
		f.bad[b.digest] = true
		errs = append(errs, f.add(
			Damage{Kind: DamagedBlob, What: b.digest.String(), Problem: failure.Error(), Users: f.users[b.digest]},
			func() error { return b.store.Remove(ctx, b.digest) }))
	}
	return errors.Join(errs...)
}

// inParallel does work for all items, as many at once as there are processors,
// and returns the error of each.
func inParallel[T any](ctx context.Context, items []T, work func(T) error) ([]error, error) {
	failures := make([]error, len(items))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(items)) {
		workers.Go(func() {
			for i := range next {
				failures[i] = work(items[i])
			}
		})
	}
	for i := range items {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	workers.Wait()
	if err := context.Cause(ctx); err != nil {
		return nil, err // the failures may be of the interruption
	}
	return failures, nil
}

// checkDerived derives what is stored of layers again.
func (f *fsck) checkDerived(ctx context.Context) error {
	layers := map[cas.Digest]bool{}
	err := f.env.Images.CAS().WalkDerived(func(_ string, d cas.Digest) error {
		if _, ok := f.env.Images.Find(d); ok && !f.bad[d] {
			layers[d] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	all := slices.Collect(maps.Keys(layers))
	f.report.Layers = len(all)
	failures, err := inParallel(ctx, all, func(d cas.Digest) error { return f.env.Layers.Check(ctx, d) })
	errs := []error{err}
	for i, failure := range failures {
		d := all[i]
		switch {
		case failure == nil, errors.Is(failure, cas.ErrNotFound):
		case !errors.Is(failure, cas.ErrCorrupt):
			errs = append(errs, failure)
		default:
			f.bad[d] = true
			errs = append(errs, f.add(
				Damage{Kind: DamagedDerived, What: d.String(), Problem: failure.Error(), Users: f.users[d]},
				func() error { return f.env.Layers.Forget(ctx, d) }))
		}
	}
	return errors.Join(errs...)
}
