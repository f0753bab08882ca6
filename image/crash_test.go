package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"rkt/cas"
	"rkt/internal/crashtest"
)

func TestMain(m *testing.M) {
	crashtest.Main(map[string]func(string) error{"save": saveWork, "remove": removeWork})
	os.Exit(m.Run())
}

const crashName = "docker.io/library/crash:1"

// crashRecord puts the blobs of an image into the store and returns its record.
func crashRecord(ctx context.Context, in *cas.Ingest, layer string) (r Record, err error) {
	put := func(s string) (d cas.Digest) {
		if err == nil {
			d, err = in.Put(ctx, []byte(s))
		}
		return d
	}
	r = Record{Reference: crashName, Platform: Platform{OS: "linux", Architecture: "amd64"}}
	r.Layers = []cas.Digest{put(layer)}
	config := `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["` + cas.Of([]byte(layer)).String() + `"]}}`
	r.ID = put(config)
	r.Manifest = put(manifestOf(`"config":`+descriptor(typeOCIConfig, config, len(config)), `"layers":[`+descriptor(typeOCILayer, layer, len(layer))+`]`))
	return r, err
}

// save saves the image of a layer under crashName.
func save(dir, layer string) (err error) {
	ctx := context.Background()
	s, err := OpenStore(dir, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	in, err := s.CAS().Ingest(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	r, err := crashRecord(ctx, in, layer)
	if err != nil {
		return err
	}
	return s.Save(ctx, r)
}

// saveWork makes a store and gives a name to one image, then to another.
func saveWork(dir string) error { return errors.Join(save(dir, "first"), save(dir, "second")) }

// removeWork removes one image by its name and the other by its ID.
func removeWork(dir string) error {
	ctx := context.Background()
	s, err := OpenStore(dir, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Untag(ctx, crashName); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	list, err := s.List()
	for _, r := range list {
		err = errors.Join(err, s.Remove(ctx, r.ID))
	}
	if err != nil {
		return err
	}
	_, err = s.CAS().Sweep(ctx, func(context.Context) (cas.Roots, error) { return s.Roots() }, false)
	return err
}

// wantConsistent checks that every image of the store is whole, also after a
// sweep, that the work can be done again, and that all of it can be removed.
func wantConsistent(t *testing.T, dir string) {
	t.Helper()
	s, err := OpenStore(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	wantImagesWhole(t, s)
	if _, err := s.CAS().Sweep(t.Context(), func(context.Context) (cas.Roots, error) { return s.Roots() }, false); err != nil {
		t.Error(err)
	}
	wantImagesWhole(t, s)
	if err := saveWork(dir); err != nil {
		t.Error(err)
	}
	if r, err := s.Lookup(crashName); err != nil || r.Layers[0] != digestOf("second") {
		t.Errorf("Lookup() = %+v, %v", r, err)
	}
	if err := removeWork(dir); err != nil {
		t.Error(err)
	}
	for _, sub := range []string{"images/refs", "images/ids", "cas/blobs/sha256", "cas/tmp"} {
		if left, err := os.ReadDir(filepath.Join(dir, sub)); err != nil || len(left) != 0 {
			t.Errorf("%s has %v, %v", sub, left, err)
		}
	}
}

func wantImagesWhole(t *testing.T, s *Store) {
	t.Helper()
	list, err := s.List()
	if err != nil {
		t.Error(err)
	}
	for _, r := range list {
		img, err := s.Load(&r)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, d := range img.blobs() {
			if err := s.CAS().Check(t.Context(), d); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestKilledSaveLeavesWholeImages(t *testing.T) {
	base, n := t.TempDir(), 0
	crashtest.Kill(t, "save", func() string {
		n++
		return filepath.Join(base, fmt.Sprint(n))
	}, wantConsistent)
}

func TestKilledRemoveLeavesWholeImages(t *testing.T) {
	base, n := t.TempDir(), 0
	crashtest.Kill(t, "remove", func() string {
		n++
		dir := filepath.Join(base, fmt.Sprint(n))
		if err := saveWork(dir); err != nil {
			t.Fatal(err)
		}
		return dir
	}, wantConsistent)
}

// An image that was saved is there, whole, after a power cut; one that was
// removed is not.
func TestPowerCut(t *testing.T) {
	disk := crashtest.NewDisk(t, 32<<20)
	dir := filepath.Join(disk.Dir, "rkt")
	for round, layer := range []string{"first", "second", "first"} {
		if err := save(dir, layer); err != nil {
			t.Fatal(err)
		}
		disk.Cut(nil)
		s := openStore(t, dir)
		r, err := s.Lookup(crashName)
		if err != nil || r.Layers[0] != digestOf(layer) {
			t.Fatalf("round %d: Lookup() = %+v, %v", round, r, err)
		}
		wantImagesWhole(t, s)
		s.Close()
	}
	s := openStore(t, dir)
	if err := s.Untag(t.Context(), crashName); err != nil {
		t.Fatal(err)
	}
	s.Close()
	disk.Cut(nil)
	s = openStore(t, dir)
	_, err := s.Lookup(crashName)
	wantError(t, "Lookup() of what was removed", err, ErrNotFound)
	wantImagesWhole(t, s)
	s.Close()
}
