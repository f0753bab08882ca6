package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rkt/cas"
)

const (
	idPrefix = "sha256:"
	// minBare is how many digits make a name without "sha256:" an ID: fewer
	// could be meant as the name of a repository.
	minBare = 12
	minID   = 4 // digits after "sha256:"
	hexChar = "0123456789abcdef"
)

// Lookup finds an image by a name, by "sha256:" and the beginning of its ID, or
// by at least 12 digits of it. A name wins over an ID. The errors are
// ErrNotFound, ErrAmbiguous, and ErrReference for what can be neither.
func (s *Store) Lookup(nameOrID string) (*Record, error) {
	digits, explicit := strings.CutPrefix(nameOrID, idPrefix)
	if !explicit {
		ref, err := ParseRef(nameOrID)
		if err == nil {
			var r *Record
			if r, err = s.LookupRef(ref); err == nil || !errors.Is(err, ErrNotFound) {
				return r, err
			}
		}
		if len(digits) < minBare || strings.Trim(digits, hexChar) != "" {
			return nil, err
		}
	}
	if len(digits) < minID || len(digits) > 64 || strings.Trim(digits, hexChar) != "" {
		return nil, fmt.Errorf("%w %.100q: want at least %d hex digits of an ID", ErrReference, nameOrID, minID)
	}
	return s.lookupID(digits)
}

// LookupRef finds the image recorded under a reference. The error is ErrNotFound.
func (s *Store) LookupRef(ref Ref) (*Record, error) {
	reference := ref.String()
	for _, f := range s.layers {
		r, err := f.read(f.refPath(reference))
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return r, err
		}
	}
	return nil, fmt.Errorf("%w: %q", ErrNotFound, reference)
}

// lookupID finds an image by the first digits of its ID.
func (s *Store) lookupID(digits string) (*Record, error) {
	var found []ID
	for _, f := range s.layers {
		err := f.walk(idsDir, func(path string) error {
			name := strings.TrimSuffix(filepath.Base(path), recordSuffix)
			if id, err := cas.FromHex(name); err == nil && strings.HasPrefix(name, digits) && !slices.Contains(found, id) {
				found = append(found, id)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("%w: %q", ErrNotFound, idPrefix+digits)
	case 1:
		return s.byID(found[0])
	}
	return nil, fmt.Errorf("%w has an ID that begins with %q", ErrAmbiguous, digits)
}

// byID reads the record of an ID. It keeps its name as long as that still means
// this image.
func (s *Store) byID(id ID) (*Record, error) {
	for _, f := range s.layers {
		r, err := f.read(f.idPath(id))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil && r.Reference != "" {
			if named, err := f.read(f.refPath(r.Reference)); err != nil || named.ID != id {
				r.Reference = ""
			}
		}
		return r, err
	}
	return nil, fmt.Errorf("%w: %q", ErrNotFound, id.String())
}

// List returns one record per name, sorted, and those of images without a name.
// Records that cannot be understood are in the error, each as a *RecordError;
// the others are still returned.
func (s *Store) List() ([]Record, error) {
	var list []Record
	var errs []error
	names, ids := map[string]bool{}, map[ID]bool{}
	for _, f := range s.layers {
		records, err := f.list()
		errs = append(errs, err)
		for _, r := range records {
			// A name of an earlier store hides the same one of a later one.
			if r.Reference != "" && !names[r.Reference] {
				names[r.Reference], ids[r.ID] = true, true
				list = append(list, r)
			}
		}
		for _, r := range records {
			if r.Reference == "" && !ids[r.ID] {
				ids[r.ID] = true
				list = append(list, r)
			}
		}
	}
	slices.SortFunc(list, func(a, b Record) int {
		if c := strings.Compare(a.Reference, b.Reference); c != 0 {
			return c
		}
		return strings.Compare(a.ID.Hex(), b.ID.Hex())
	})
	return list, errors.Join(errs...)
}

// list reads all records of a folder; those by ID have no Reference.
func (f *folder) list() ([]Record, error) {
	var records []Record
	var errs []error
	for _, dir := range []string{refsDir, idsDir} {
		err := f.walk(dir, func(path string) error {
			r, err := f.read(path)
			switch {
			case errors.Is(err, os.ErrNotExist): // removed just now
			case err != nil:
				errs = append(errs, err)
			default:
				if dir == idsDir {
					r.Reference = ""
				}
				records = append(records, *r)
			}
			return nil
		})
		errs = append(errs, err)
	}
	return records, errors.Join(errs...)
}

// Roots returns what the images of the writable store keep from being swept. A
// record that cannot be understood is an error: nobody knows what it keeps.
func (s *Store) Roots() (cas.Roots, error) {
	records, err := s.writable().list()
	if err != nil {
		return nil, err
	}
	roots := cas.Roots{}
	for _, r := range records {
		reason := "image " + r.Reference
		if r.Reference == "" {
			reason = "image " + r.ID.String()
		}
		for _, d := range r.blobs() {
			// Records by ID come last; where a name keeps the blob, it says enough.
			if r.Reference == "" && len(roots[d]) > 0 {
				continue
			}
			if !slices.Contains(roots[d], reason) {
				roots[d] = append(roots[d], reason)
			}
		}
	}
	return roots, nil
}

// Load reads and verifies manifest and config of a record: the chain from the
// manifest's digest to the config's to the diff IDs. The errors are
// cas.ErrNotFound, cas.ErrCorrupt and ErrMalformed.
func (s *Store) Load(r *Record) (*Image, error) {
	img := &Image{Record: *r}
	b, err := s.document(r.Manifest)
	if err == nil {
		img.Manifest, err = ParseManifest(b)
	}
	if err != nil {
		return nil, fmt.Errorf("load manifest of image %s: %w", r.ID, err)
	}
	if img.Manifest.Config.Digest != r.ID {
		return nil, fmt.Errorf("load image %s: its manifest is of %s: %w", r.ID, img.Manifest.Config.Digest, cas.ErrCorrupt)
	}
	b, err = s.document(r.ID)
	if err == nil {
		img.Config, err = ParseConfig(b)
	}
	if err != nil {
		return nil, fmt.Errorf("load config of image %s: %w", r.ID, err)
	}
	if !slices.Equal(img.Config.DiffIDs, r.Layers) || len(img.Manifest.Layers) != len(r.Layers) {
		return nil, fmt.Errorf("load image %s: record, manifest and config name different layers: %w", r.ID, cas.ErrCorrupt)
	}
	return img, nil
}

// document reads a manifest or config from the first store that has it.
func (s *Store) document(d cas.Digest) ([]byte, error) {
	store, ok := s.Find(d)
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", d, cas.ErrNotFound)
	}
	return store.Read(d, MaxManifest)
}
