package ingest

import (
	"os"
	"testing"

	"rkt/fetch/wire"
)

// BenchmarkLayout brings the layers of the layout that RKT_BENCH_LAYOUT names.
func BenchmarkLayout(b *testing.B) {
	path := os.Getenv("RKT_BENCH_LAYOUT")
	if path == "" {
		b.Skip("RKT_BENCH_LAYOUT names no layout")
	}
	for b.Loop() {
		f, err := os.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		r := serveAll(b, wire.Request{Source: wire.Source{Kind: wire.Layout}}, f)
		if r.err != nil {
			b.Fatal(r.err)
		}
		var total int64
		entries, err := os.ReadDir(r.dir)
		if err != nil {
			b.Fatal(err)
		}
		for _, e := range entries {
			if info, err := e.Info(); err == nil {
				total += info.Size()
			}
		}
		b.SetBytes(total)
		os.RemoveAll(r.dir)
	}
}
