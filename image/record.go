package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/internal/atomicfile"
	"rkt/internal/escape"
	"rkt/internal/strictjson"
)

const (
	recordSuffix = ".json"
	maxRecord    = 1 << 20 // bytes
)

// RecordError reports a record that cannot be understood. The image behind it
// can be fetched again after Store.Discard.
type RecordError struct {
	Path string
	Err  error
}

func (e *RecordError) Error() string { return fmt.Sprintf("read record %q: %v", e.Path, e.Err) }

// Unwrap returns what is wrong with the record.
func (e *RecordError) Unwrap() error { return e.Err }

func (f *folder) refPath(reference string) string {
	return filepath.Join(f.dir, refsDir, escape.FileName(reference)+recordSuffix)
}

func (f *folder) idPath(id ID) string {
	return filepath.Join(f.dir, idsDir, id.Hex()+recordSuffix)
}

// read reads one record. The error may be os.ErrNotExist, or a *RecordError for
// one that is there and means nothing. Any other says nothing of the record: the
// disk may have failed just now.
func (f *folder) read(path string) (*Record, error) {
	r, err := readRecord(path)
	if unread(err) {
		return nil, err
	}
	if err == nil && path != f.idPath(r.ID) && (r.Reference == "" || path != f.refPath(r.Reference)) {
		err = errors.New("it is about another image than its name says")
	}
	if err != nil {
		return nil, &RecordError{path, err}
	}
	r.ReadOnly = f.blobs.ReadOnly()
	return r, nil
}

// unread tells errors of reading from those of what was read. What is no file at
// all was never written by us.
func unread(err error) bool {
	var e *os.PathError
	return errors.As(err, &e) && !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.ENXIO)
}

func readRecord(path string) (*Record, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b, err := io.ReadAll(io.LimitReader(file, maxRecord+1))
	if err != nil {
		return nil, err
	}
	r := &Record{}
	if err := strictjson.Decode(b, r, strictjson.Options{MaxBytes: maxRecord}); err != nil {
		return nil, err
	}
	return r, r.check()
}

func (r *Record) check() error {
	switch {
	case r.ID.IsZero():
		return errors.New("it has no ID")
	case r.Manifest.IsZero():
		return errors.New("it has no manifest")
	case len(r.Layers) == 0 || len(r.Layers) > MaxLayers:
		return fmt.Errorf("it has %d layers", len(r.Layers))
	}
	for _, d := range r.Layers {
		if d.IsZero() {
			return errors.New("it has an empty layer ID")
		}
	}
	return nil
}

// Save records an image durably under its Reference, if it has one, and under
// its ID. All its blobs must be in the store, protected by an open Ingest or by
// Hold, or the error is cas.ErrNotFound. The record under the same name is
// replaced. A zero time of import becomes now.
func (s *Store) Save(ctx context.Context, r Record) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("internal error: save record: %w", err)
	}
	for _, d := range r.blobs() {
		if _, ok := s.Find(d); !ok {
			return fmt.Errorf("save record of %q: blob %s: %w", r.Reference, d, cas.ErrNotFound)
		}
	}
	if r.Imported.IsZero() {
		r.Imported = time.Now()
	}
	r.Imported = r.Imported.UTC().Truncate(time.Millisecond)
	unlock, err := s.lock(ctx)
	if err != nil {
		return fmt.Errorf("save record of %q: %w", r.Reference, err)
	}
	defer unlock()
	f := s.writable()
	// The ID first: a name leads to an image that can be found by its ID.
	paths := []string{f.idPath(r.ID)}
	if r.Reference != "" {
		paths = append(paths, f.refPath(r.Reference))
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("internal error: encode record: %w", err)
	}
	for _, path := range paths {
		err := atomicfile.Write(filepath.Dir(path), filepath.Base(path), append(b, '\n'), 0o600, true)
		if errors.Is(err, unix.EROFS) {
			err = fmt.Errorf("%w: %w", cas.ErrReadOnly, err)
		}
		if err != nil {
			return fmt.Errorf("save record of %q: %w", r.Reference, err)
		}
	}
	return nil
}

// blobs returns everything the image needs.
func (r *Record) blobs() []cas.Digest {
	blobs := append([]cas.Digest{r.ID, r.Manifest}, r.Layers...)
	if !r.Index.IsZero() {
		blobs = append(blobs, r.Index)
	}
	if !r.Signatures.IsZero() {
		blobs = append(blobs, r.Signatures)
	}
	return blobs
}

// Untag removes the name of an image, and its record by ID when that was its
// last name. The bytes stay until a sweep. The errors are ErrNotFound and
// cas.ErrReadOnly.
func (s *Store) Untag(ctx context.Context, reference string) error {
	ref, err := ParseRef(reference)
	if err != nil {
		return err
	}
	reference = ref.String()
	r, err := s.LookupRef(ref)
	if err == nil && r.ReadOnly {
		err = cas.ErrReadOnly
	}
	if err != nil {
		return fmt.Errorf("remove name %q: %w", reference, err)
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return fmt.Errorf("remove name %q: %w", reference, err)
	}
	defer unlock()
	f := s.writable()
	doomed := []string{f.refPath(reference)}
	names, _, err := f.namesOf(r.ID)
	if err != nil {
		return fmt.Errorf("remove name %q: %w", reference, err)
	}
	if len(names) == 0 || len(names) == 1 && names[0] == reference {
		doomed = append(doomed, f.idPath(r.ID))
	}
	if err := removeRecords(doomed); err != nil {
		return fmt.Errorf("remove name %q: %w", reference, err)
	}
	return nil
}

// Remove removes the image with all its names. The bytes stay until a sweep. A
// nil error means that it is not there now; the error may be cas.ErrReadOnly.
func (s *Store) Remove(ctx context.Context, id ID) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	defer unlock()
	f := s.writable()
	_, doomed, err := f.namesOf(id)
	if err != nil {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	// The ID last: as long as it is there, Remove can be called again.
	if err := removeRecords(append(doomed, f.idPath(id))); err != nil {
		return fmt.Errorf("remove image %s: %w", id, err)
	}
	for _, behind := range s.layers[1:] {
		if _, err := behind.read(behind.idPath(id)); err == nil {
			return fmt.Errorf("remove image %s from %q: %w", id, behind.dir, cas.ErrReadOnly)
		}
	}
	return nil
}

// Discard removes a record that cannot be understood.
func (s *Store) Discard(ctx context.Context, e *RecordError) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return fmt.Errorf("discard record %q: %w", e.Path, err)
	}
	defer unlock()
	dir := s.writable().dir
	if d := filepath.Dir(e.Path); d != filepath.Join(dir, refsDir) && d != filepath.Join(dir, idsDir) {
		return fmt.Errorf("discard record %q: %w", e.Path, cas.ErrReadOnly)
	}
	return removeRecords([]string{e.Path})
}

// namesOf returns the names of an image and the paths of their records.
// Records that cannot be understood are nobody's.
func (f *folder) namesOf(id ID) (names, paths []string, err error) {
	err = f.walk(refsDir, func(path string) error {
		r, err := f.read(path)
		if err == nil && r.ID == id {
			names, paths = append(names, r.Reference), append(paths, path)
		}
		if unread(err) && !errors.Is(err, os.ErrNotExist) {
			return err // it may be one of them
		}
		return nil
	})
	return names, paths, err
}

// removeRecords removes files durably, in order.
func removeRecords(paths []string) error {
	for _, path := range paths {
		err := os.Remove(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if errors.Is(err, unix.EROFS) {
			return fmt.Errorf("%w: %w", cas.ErrReadOnly, err)
		}
		if err != nil {
			return err
		}
		if err := atomicfile.SyncDir(filepath.Dir(path)); err != nil {
			return err
		}
	}
	return nil
}

// walk calls fn for the paths of the records in one of the folders of records.
func (f *folder) walk(dir string, fn func(path string) error) error {
	dir = filepath.Join(f.dir, dir)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) && f.blobs.ReadOnly() {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, recordSuffix) && name[0] != '.' {
			if err := fn(filepath.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	return nil
}
