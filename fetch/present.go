package fetch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"rkt/cas"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/image/trust"
	"rkt/internal/mutant"
)

// present returns the image if the store has it and the pull policy is content
// with that; nil if it must be brought. An image that is there passes the trust
// policy as it is now, or is an error.
func (f *Fetcher) present(ctx context.Context, ref image.Ref, pull Pull) (*image.Image, error) {
	if pull == PullUpdate && ref.Digest.IsZero() {
		return nil, nil // a digest cannot mean anything new
	}
	rec, err := f.find(ref)
	if rec == nil || err != nil {
		return nil, err
	}
	if !f.o.Platform.Runs(rec.Platform) && rec.Platform.OS != "" {
		if pull == PullNever {
			return nil, fmt.Errorf("%w in the store is for %v, not for %v", image.ErrPlatform, rec.Platform, f.o.Platform)
		}
		return nil, nil
	}
	if pull != PullNever && ref.IsLocal() && rec.Source != stamp(ref) {
		return nil, nil
	}
	return f.usable(ctx, ref, rec, pull)
}

// presentSince is present for a Get that has waited for another process: what
// that one brought after begin is new enough for Update.
func (f *Fetcher) presentSince(ctx context.Context, ref image.Ref, pull Pull, begin time.Time) (*image.Image, error) {
	if pull == PullUpdate {
		rec, err := f.find(ref)
		if rec == nil || err != nil || rec.Imported.Before(begin) {
			return nil, err
		}
	}
	return f.present(ctx, ref, PullNew)
}

// find returns the record that answers for ref, or nil. A reference with a
// digest is answered by any image that has it: bytes have no other name.
func (f *Fetcher) find(ref image.Ref) (*image.Record, error) {
	rec, err := f.o.Store.LookupRef(ref)
	if err == nil || !errors.Is(err, image.ErrNotFound) {
		return rec, err
	}
	if ref.Digest.IsZero() {
		return nil, nil
	}
	records, err := f.o.Store.List()
	for i, r := range records {
		if r.Manifest == ref.Digest || r.Index == ref.Digest && f.o.Platform.Runs(r.Platform) {
			rec := records[i]
			rec.Reference = ref.String()
			rec.Source, rec.Verdict = "", trust.Verdict{} // they are about the other name
			return &rec, nil
		}
	}
	return nil, nil // a record that cannot be read (err) is not this one's failure
}

// usable loads the image of a record and holds it against the trust policy. It
// returns nil when something of it is gone or damaged and may be brought again.
func (f *Fetcher) usable(ctx context.Context, ref image.Ref, rec *image.Record, pull Pull) (*image.Image, error) {
	img, err := f.load(rec)
	if err != nil && isMissing(err) && pull != PullNever {
		f.emit(Note{fmt.Sprintf("the image of %q is not whole in the store and is fetched again: %v", ref.String(), err)})
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	switch err := f.confirm(ctx, ref, img, pull); {
	case errors.Is(err, errNoSignatures):
		f.emit(Note{fmt.Sprintf("the signatures of %q are not in the store and are asked for", ref.String())})
		return nil, nil
	case err != nil:
		return nil, err
	}
	return img, nil
}

// errNoSignatures is an image that must be signed and whose signatures are to be
// had from the registry only.
var errNoSignatures = errors.New("its signatures are not in the store")

// signaturesOnly returns the reference by which an image of the store is to be
// brought again for its signatures: it stays the same image even if the tag has
// moved, as the user did not ask for another.
func (f *Fetcher) signaturesOnly(ref image.Ref, pull Pull) image.Ref {
	if pull != PullNew || !ref.Digest.IsZero() {
		return ref
	}
	rec, err := f.o.Store.LookupRef(ref)
	if err != nil || !rec.Signatures.IsZero() {
		return ref
	}
	ref.Digest = rec.Manifest
	if !rec.Index.IsZero() {
		ref.Digest = rec.Index
	}
	return ref
}

// load loads the image of a record and looks that its layers are there.
func (f *Fetcher) load(rec *image.Record) (*image.Image, error) {
	img, err := f.o.Store.Load(rec)
	if err != nil {
		return nil, err
	}
	for i, d := range img.Layers {
		if _, ok := f.o.Store.Find(d); !ok {
			return nil, fmt.Errorf("layer %d of %d, %v: %w", i+1, len(img.Layers), d, cas.ErrNotFound)
		}
	}
	return img, nil
}

// confirm holds a present image against the policy and records a verdict that
// is new.
func (f *Fetcher) confirm(ctx context.Context, ref image.Ref, img *image.Image, pull Pull) error {
	policy, err := f.policy()
	if err != nil {
		return err
	}
	s := f.subjectIn(subjectOf(ref, img.Record.Manifest, img.Record.Index), &img.Record)
	ok, err := f.holds(policy, img.Verdict, s)
	if err != nil || ok || mutant.On("policyfetchonly") {
		return err
	}
	d, err := f.decide(policy, s.name, s.pinned, s.local)
	if err != nil {
		return err
	}
	asks := d.Action == trust.Signed || d.Action == trust.Ask && f.o.Ask != nil
	if asks && s.signatures == nil && pull != PullNever && !f.o.Insecure {
		return errNoSignatures
	}
	img.Verdict, err = f.judge(ctx, policy, s)
	if err != nil || img.Verdict.Insecure {
		return err // what one command was allowed is not for the next one
	}
	return f.rerecord(ctx, img)
}

// subjectIn is s with the signatures that are in the store.
func (f *Fetcher) subjectIn(s subject, rec *image.Record) subject {
	if !s.local {
		s.fetch = s.reference
	}
	if d := rec.Signatures; !d.IsZero() {
		s.signatures = func() ([]byte, error) {
			store, ok := f.o.Store.Find(d)
			if !ok {
				return nil, fmt.Errorf("signatures of %q: %w", s.name, cas.ErrNotFound)
			}
			return store.Read(d, wire.MaxSignatures)
		}
	}
	return s
}

// rerecord saves the record of an image that is in the store already.
func (f *Fetcher) rerecord(ctx context.Context, img *image.Image) error {
	release, err := f.o.Store.CAS().Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	if _, err := f.load(&img.Record); err != nil {
		return err
	}
	err = f.o.Store.Save(ctx, img.Record)
	if errors.Is(err, cas.ErrReadOnly) {
		return nil // the next command decides again
	}
	return err
}

// checkName refuses a name that is the beginning of the ID of an image here and
// nothing else that is here. It would be looked for in a registry.
func (f *Fetcher) checkName(ref image.Ref, text string) error {
	const few = 6 // digits; there are repositories called cafe
	if ref.IsLocal() || len(text) < few || strings.Trim(text, "0123456789abcdef") != "" {
		return nil
	}
	if _, err := f.o.Store.LookupRef(ref); !errors.Is(err, image.ErrNotFound) {
		return nil
	}
	rec, err := f.o.Store.Lookup("sha256:" + text)
	if err != nil {
		return nil // no ID either
	}
	return &Error{
		Reference: text, Code: wire.CodeNotFound,
		Err:  fmt.Errorf("no image has that name; it is how the ID of %s begins", rec.Reference),
		hint: fmt.Sprintf("for the ID write sha256:%s, for a repository docker://%s", text, text),
	}
}

// isID reports whether text can only be the ID of an image, or its beginning.
func isID(text string) bool { return strings.HasPrefix(text, "sha256:") }

// byID finds a present image by its ID. It may be used if the policy lets in one
// of the names that it has.
func (f *Fetcher) byID(ctx context.Context, id string) (*image.Image, error) {
	rec, err := f.o.Store.Lookup(id)
	if err != nil {
		return nil, fmt.Errorf("find image %q: %w", id, err)
	}
	policy, err := f.policy()
	if err != nil {
		return nil, err
	}
	verdict, err := f.judgeID(ctx, policy, rec, id == rec.ID.String())
	if err != nil {
		return nil, err
	}
	img, err := f.load(rec)
	if err != nil {
		return nil, fmt.Errorf("load image %q: %w", id, err)
	}
	img.Verdict = verdict
	return img, nil
}

// judgeID decides about an image by all the names that its manifest has in the
// store. pinned: the user gave its whole ID, which is a digest.
func (f *Fetcher) judgeID(ctx context.Context, policy *trust.Policy, rec *image.Record, pinned bool) (trust.Verdict, error) {
	records, _ := f.o.Store.List() // one that cannot be read lets nothing in
	var first error
	for _, r := range append([]image.Record{*rec}, records...) {
		if r.Manifest != rec.Manifest {
			continue
		}
		s := subject{
			reference: r.Reference, name: nameOf(&r), pinned: pinned, local: r.Source != "",
			manifest: r.Manifest, index: r.Index, quiet: true,
		}
		s = f.subjectIn(s, &r)
		ok, err := f.holds(policy, r.Verdict, s)
		if ok {
			return r.Verdict, nil
		}
		verdict := trust.Verdict{}
		if err == nil {
			verdict, err = f.judge(ctx, policy, s)
		}
		if err == nil {
			return verdict, nil
		}
		if first == nil {
			first = err
		}
	}
	return trust.Verdict{}, first
}

// nameOf returns the name by which the policy knows the image of a record; ""
// for one without, about which only the rule for all names can be.
func nameOf(rec *image.Record) string {
	ref, err := image.ParseRef(rec.Reference)
	if err != nil {
		return ""
	}
	return ref.Name()
}
