package stage0

import (
	"context"
	"errors"
	"fmt"

	"rkt/cas"
	"rkt/image"
	"rkt/stage0/pod"
)

// checkRecords follows every record to its blobs.
func (f *fsck) checkRecords(ctx context.Context, broken []*image.RecordError) error {
	var errs []error
	for _, e := range broken {
		errs = append(errs, f.add(
			Damage{Kind: DamagedRecord, What: e.Path, Problem: e.Err.Error()},
			func() error { return f.env.Images.Discard(ctx, e) }))
	}
	problems, err := f.incompleteRecords(ctx)
	errs = append(errs, err)
	for _, p := range problems {
		name := recordName(&p.record)
		errs = append(errs, f.add(
			Damage{Kind: DamagedRecord, What: name, Problem: p.err.Error(), Users: []string{name}},
			func() error { return f.dropRecord(ctx, &p.record) }))
	}
	return errors.Join(errs...)
}

// incompleteRecord is a record with what is missing.
type incompleteRecord struct {
	record image.Record
	err    error
}

// incompleteRecords returns the records that lead to something that is missing
// or wrong. It keeps sweeps away, so that what it misses was not just collected.
func (f *fsck) incompleteRecords(ctx context.Context) ([]incompleteRecord, error) {
	release, err := f.env.Images.CAS().Hold(ctx)
	if err != nil && !errors.Is(err, cas.ErrReadOnly) {
		return nil, err
	}
	if err == nil {
		defer release()
	}
	records, err := f.env.Images.List()
	if _, err = recordErrors(err); err != nil {
		return nil, err
	}
	var bad []incompleteRecord
	for _, r := range records {
		_, err := f.env.Images.Load(&r)
		for _, d := range recordDigests(&r) {
			if _, ok := f.env.Images.Find(d); !ok && err == nil {
				err = fmt.Errorf("blob %s: %w", d, cas.ErrNotFound)
			}
		}
		if err != nil {
			bad = append(bad, incompleteRecord{r, err})
		}
	}
	return bad, nil
}

// dropRecord removes a record, so that the next fetch brings the image anew.
func (f *fsck) dropRecord(ctx context.Context, r *image.Record) error {
	if r.ReadOnly {
		return cas.ErrReadOnly
	}
	if r.Reference == "" {
		return f.env.Images.Remove(ctx, r.ID)
	}
	err := f.env.Images.Untag(ctx, r.Reference)
	if errors.Is(err, image.ErrNotFound) {
		return nil
	}
	return err
}

// checkPods reads every pod, and looks for the layers of those that wait to be
// run.
func (f *fsck) checkPods() error {
	note := func(path string, err error) {
		f.report.Notes = append(f.report.Notes, fmt.Sprintf("%s: %v", path, err))
	}
	return f.env.Pods.Walk(note, func(p *pod.Pod) error {
		s, err := StatusOf(p)
		if errors.Is(err, pod.ErrNotFound) {
			return nil
		}
		var problems []string
		if err != nil {
			problems = []string{err.Error()}
		} else {
			problems = append(s.Problems, f.missingLayers(p, s)...)
		}
		for _, problem := range problems {
			f.report.Damage = append(f.report.Damage, Damage{Kind: DamagedPod, What: p.UUID().String(), Problem: problem})
		}
		return nil
	})
}

// missingLayers tells which layers a prepared pod cannot be run without.
func (f *fsck) missingLayers(p *pod.Pod, s *Status) []string {
	if s.State != pod.Prepared {
		return nil
	}
	var problems []string
	for _, app := range s.Apps {
		a, err := p.App(app.Name)
		if err != nil {
			continue // among the problems of the status
		}
		for _, hex := range a.Layers {
			d, err := cas.FromHex(hex)
			if err != nil {
				problems = append(problems, fmt.Sprintf("app %q: layer %q: %v", app.Name, hex, err))
				continue
			}
			if _, ok := f.env.Images.Find(d); !ok {
				problems = append(problems, fmt.Sprintf("app %q: layer %s of image %s is not in the store", app.Name, d, a.Image.Reference))
			}
		}
	}
	return problems
}

// noteStrays tells what has no business in the store.
func (f *fsck) noteStrays() error {
	strays, err := f.env.Images.CAS().Strays()
	for _, path := range strays {
		f.report.Notes = append(f.report.Notes, path+": not a part of the store")
	}
	return err
}

// recordErrors separates the records that cannot be understood from what else
// is in an error of Store.List.
func recordErrors(err error) (broken []*image.RecordError, rest error) {
	if err == nil {
		return nil, nil
	}
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range list.Unwrap() {
			b, r := recordErrors(e)
			broken, errs = append(broken, b...), append(errs, r)
		}
		return broken, errors.Join(errs...)
	}
	var e *image.RecordError
	if errors.As(err, &e) {
		return []*image.RecordError{e}, nil
	}
	return nil, err
}

// recordDigests are all blobs that a record names.
func recordDigests(r *image.Record) []cas.Digest {
	all := append([]cas.Digest{r.Manifest, r.ID}, r.Layers...)
	if !r.Index.IsZero() {
		all = append(all, r.Index)
	}
	return all
}

func recordName(r *image.Record) string {
	if r.Reference != "" {
		return r.Reference
	}
	return r.ID.String()
}
