package image

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rkt/cas"
	"rkt/image/trust"
)

func openStore(t *testing.T, dir string, readOnly ...string) *Store {
	t.Helper()
	s, err := OpenStore(dir, readOnly)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// makeImage puts an image of the given layers into the store, under a name.
func makeImage(t *testing.T, s *Store, reference string, layers ...string) Record {
	t.Helper()
	in, err := s.CAS().Ingest(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	put := func(b []byte) cas.Digest {
		d, err := in.Put(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	r := Record{Reference: reference, Platform: Platform{OS: "linux", Architecture: "amd64"}, Size: 5}
	var descriptors []string
	for _, content := range layers {
		d := put([]byte(content))
		r.Layers = append(r.Layers, d)
		descriptors = append(descriptors, descriptor(typeOCILayer, content, len(content)))
	}
	config := configOf(t, map[string]any{"rootfs": map[string]any{"type": "layers", "diff_ids": r.Layers}})
	r.ID = put(config)
	r.Manifest = put([]byte(manifestOf(`"config":`+descriptor(typeOCIConfig, string(config), len(config)), `"layers":[`+strings.Join(descriptors, ",")+`]`)))
	r.Verdict = trust.Verdict{Action: trust.Accept, PolicyHash: "h", Manifest: r.Manifest}
	if err := s.Save(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return r
}

func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

func TestSaveLookupLoad(t *testing.T) {
	s := openStore(t, filepath.Join(t.TempDir(), "a/b/rkt"))
	a := makeImage(t, s, "docker.io/library/a:latest", "one", "two")
	local := makeImage(t, s, "oci:/some/where:tag", "one")
	for in, want := range map[string]Record{
		"a": a, "docker://a:latest": a, "docker.io/library/a": a,
		a.ID.String(): a, a.ID.String()[:20]: a, a.ID.Hex()[:12]: a, a.ID.Hex(): a,
		"oci:/some/where:tag": local,
	} {
		got, err := s.Lookup(in)
		if err != nil || got.ID != want.ID || got.Reference != want.Reference || got.Verdict != want.Verdict || !slices.Equal(got.Layers, want.Layers) || got.Imported.IsZero() {
			t.Errorf("Lookup(%q) = %+v, %v", in, got, err)
		}
	}
	for in, want := range map[string]error{
		"b": ErrNotFound, "a:other": ErrNotFound, "sha256:0000": ErrNotFound, strings.Repeat("0", 12): ErrNotFound,
		a.ID.Hex()[:11]: ErrNotFound, // a name as good as any
		"sha256:":       ErrReference, "sha256:../../x": ErrReference, "sha256:0123456789ABCDEF": ErrReference,
		"": ErrReference, "A B": ErrReference, a.ID.String() + "0": ErrReference,
	} {
		_, err := s.Lookup(in)
		wantError(t, "Lookup("+in+")", err, want)
	}
	img, err := s.Load(&a)
	if err != nil || img.ID != a.ID || len(img.Manifest.Layers) != 2 || img.Config.Platform.OS != "linux" {
		t.Errorf("Load() = %+v, %v", img, err)
	}
	if store, ok := s.Find(a.Layers[0]); !ok || store != s.CAS() {
		t.Error("Find() does not find a layer")
	}
}

func TestLookupOfAnIDThatIsNotUnique(t *testing.T) {
	s := openStore(t, t.TempDir())
	digits := map[byte][]string{}
	for i := range 20 { // two of 17 begin with the same digit
		r := makeImage(t, s, "", strings.Repeat("x", i+1))
		digits[r.ID.Hex()[0]] = append(digits[r.ID.Hex()[0]], r.ID.Hex())
	}
	for first, ids := range digits {
		if len(ids) > 1 {
			_, err := s.lookupID(string(first))
			wantError(t, "lookupID()", err, ErrAmbiguous)
		}
	}
}

func TestNameMoves(t *testing.T) {
	s := openStore(t, t.TempDir())
	old := makeImage(t, s, "docker.io/library/a:latest", "old")
	now := makeImage(t, s, "docker.io/library/a:latest", "new")
	if got, err := s.Lookup("a"); err != nil || got.ID != now.ID {
		t.Errorf("Lookup() = %+v, %v", got, err)
	}
	if got, err := s.Lookup(old.ID.String()); err != nil || got.ID != old.ID || got.Reference != "" {
		t.Errorf("Lookup() of the old ID = %+v, %v, want it without the name", got, err)
	}
	list, err := s.List()
	if err != nil || len(list) != 2 || list[0].ID != old.ID || list[0].Reference != "" || list[1].ID != now.ID {
		t.Errorf("List() = %+v, %v", list, err)
	}
	roots, err := s.Roots()
	if err != nil {
		t.Fatal(err)
	}
	if got := roots[old.Layers[0]]; !slices.Equal(got, []string{"image " + old.ID.String()}) {
		t.Errorf("the old layer stays because of %q", got)
	}
	for _, d := range now.blobs() {
		if got := roots[d]; !slices.Equal(got, []string{"image docker.io/library/a:latest"}) {
			t.Errorf("%v stays because of %q", d, got)
		}
	}
}

func TestUntagAndRemove(t *testing.T) {
	s := openStore(t, t.TempDir())
	r := makeImage(t, s, "docker.io/library/a:1", "x")
	makeImage(t, s, "docker.io/library/a:2", "x")
	other := makeImage(t, s, "docker.io/library/b:1", "y")
	if err := s.Untag(t.Context(), "a:1"); err != nil {
		t.Fatal(err)
	}
	wantError(t, "second Untag()", s.Untag(t.Context(), "a:1"), ErrNotFound)
	wantError(t, "Untag() of nonsense", s.Untag(t.Context(), "A B"), ErrReference)
	if got, err := s.Lookup(r.ID.String()); err != nil || got.ID != r.ID {
		t.Errorf("Lookup() by ID = %+v, %v after one of two names went", got, err)
	}
	if err := s.Untag(t.Context(), "a:2"); err != nil {
		t.Fatal(err)
	}
	_, err := s.Lookup(r.ID.String())
	wantError(t, "Lookup() after the last name went", err, ErrNotFound)
	if !s.CAS().Has(r.Layers[0]) {
		t.Error("Untag() removed bytes")
	}
	makeImage(t, s, "docker.io/library/b:2", "y")
	for range 2 {
		if err := s.Remove(t.Context(), other.ID); err != nil {
			t.Error(err)
		}
	}
	if list, err := s.List(); err != nil || len(list) != 0 {
		t.Errorf("List() = %+v, %v, want nothing", list, err)
	}
	if roots, err := s.Roots(); err != nil || len(roots) != 0 {
		t.Errorf("Roots() = %v, %v, want nothing", roots, err)
	}
}

func TestSaveNeedsBlobs(t *testing.T) {
	s := openStore(t, t.TempDir())
	r := makeImage(t, s, "", "x")
	for name, change := range map[string]func(*Record){
		"layer":    func(r *Record) { r.Layers = []cas.Digest{digestOf("absent")} },
		"manifest": func(r *Record) { r.Manifest = digestOf("absent") },
		"config":   func(r *Record) { r.ID = digestOf("absent") },
		"index":    func(r *Record) { r.Index = digestOf("absent") },
	} {
		changed := r
		changed.Reference = "docker.io/library/x:" + name
		change(&changed)
		wantError(t, "Save() without "+name, s.Save(t.Context(), changed), cas.ErrNotFound)
	}
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("List() = %+v, %v", list, err)
	}
}

func TestLoadRefusesABrokenChain(t *testing.T) {
	s := openStore(t, t.TempDir())
	a, b := makeImage(t, s, "", "a", "x"), makeImage(t, s, "", "b")
	for name, change := range map[string]func(*Record){
		"manifest of another": func(r *Record) { r.Manifest = b.Manifest },
		"ID of another":       func(r *Record) { r.ID = b.ID },
		"other layers":        func(r *Record) { r.Layers = b.Layers },
		"fewer layers":        func(r *Record) { r.Layers = r.Layers[:1] },
		"layers turned":       func(r *Record) { r.Layers = []cas.Digest{r.Layers[1], r.Layers[0]} },
	} {
		changed := a
		change(&changed)
		_, err := s.Load(&changed)
		wantError(t, "Load() with "+name, err, cas.ErrCorrupt)
	}
	path := filepath.Join(s.CAS().Dir(), "blobs/sha256", a.ID.Hex())
	if err := os.WriteFile(path, []byte("{}"), 0o400); err != nil {
		t.Fatal(err)
	}
	_, err := s.Load(&a)
	wantError(t, "Load() with a damaged config", err, cas.ErrCorrupt)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, err = s.Load(&a)
	wantError(t, "Load() without config", err, cas.ErrNotFound)
}

func TestDamagedRecords(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	good := makeImage(t, s, "docker.io/library/good:1", "x")
	b, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		"empty": "", "cut": string(b[:50]), "unknown": strings.Replace(string(b), `"id"`, `"new":1,"id"`, 1),
		"case": strings.Replace(string(b), `"id"`, `"ID"`, 1), "twice": strings.Replace(string(b), `{`, `{"size":1,`, 1),
		"other name": string(b), "no layers": strings.Replace(string(b), good.Layers[0].String(), "", 1),
	} {
		path := filepath.Join(dir, "images/refs/docker.io%2Flibrary%2Fbad%3A1.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := s.Lookup("bad:1")
		var damaged *RecordError
		if !errors.As(err, &damaged) || damaged.Path != path {
			t.Errorf("%s: Lookup() = %v, want a RecordError", name, err)
			continue
		}
		if list, err := s.List(); len(list) != 1 || !errors.As(err, &damaged) {
			t.Errorf("%s: List() = %+v, %v, want the good one and an error", name, list, err)
		}
		// Nobody knows what the record keeps, so nothing may be swept.
		if _, err := s.Roots(); !errors.As(err, &damaged) {
			t.Errorf("%s: Roots() = %v, want a RecordError", name, err)
		}
		if err := s.Discard(t.Context(), damaged); err != nil {
			t.Error(err)
		}
		if _, err := s.Roots(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Discard(t.Context(), &RecordError{Path: filepath.Join(dir, "version")}); err == nil {
		t.Error("Discard() removed what is no record")
	}
	if err := os.WriteFile(filepath.Join(dir, "images/ids/.ABC.tmp"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := s.List(); err != nil || len(list) != 1 {
		t.Errorf("List() with a half-written record = %+v, %v", list, err)
	}
	makeImage(t, s, "", "y")
	if _, err := os.Stat(filepath.Join(dir, "images/ids/.ABC.tmp")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what a killed writer left is still there: %v", err)
	}
}
