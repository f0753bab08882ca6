package image

import "testing"

// What a run of an image that is present pays for the store.
func BenchmarkOpenLookupLoad(b *testing.B) {
	dir := b.TempDir()
	if err := save(dir, "layer"); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := OpenStore(dir, nil)
		if err != nil {
			b.Fatal(err)
		}
		r, err := s.Lookup(crashName)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := s.Load(r); err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
