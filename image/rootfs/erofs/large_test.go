package erofs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"rkt/image/layer"
)

// manyFacts are n entries in folders of perDir.
func manyFacts(n, perDir int) []*layer.Fact {
	var facts []*layer.Fact
	for i := range n {
		if i%perDir == 0 {
			facts = append(facts, &layer.Fact{Path: fmt.Sprintf("usr/lib/dir%d", i/perDir), Kind: layer.Dir, Mode: 0o755, Seconds: int64(i)})
		}
		facts = append(facts, &layer.Fact{Path: fmt.Sprintf("usr/lib/dir%d/some-file-name-%d.js", i/perDir, i), Kind: layer.Regular,
			Mode: 0o644, Seconds: int64(i), Size: 600, Extents: []layer.Extent{{Offset: uint64(i) * 1536, Length: 600}}})
	}
	return facts
}

// 100,000 entries in one folder take well below a second and some megabytes.
func TestLargeLayerIsCheap(t *testing.T) {
	const entries = 100_000
	tar := bytes.NewReader(nil)
	var b bytes.Buffer
	w := layer.NewWriter(&b)
	for _, f := range manyFacts(entries, entries) {
		if err := w.Fact(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(layer.Summary{TarSize: entries * 1536}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "index"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	tree, err := layer.Build(layer.NewReader(&b), entries*1536)
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(t.Context(), f, tree, Tar{ReaderAt: tar, Size: entries * 1536}); err != nil {
		t.Fatal(err)
	}
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	t.Logf("%v, %d MB allocated", took, (after.TotalAlloc-before.TotalAlloc)>>20)
	if took > 5*time.Second { // 0.2 s on an idle machine
		t.Errorf("took %v", took)
	}
	if allocated := (after.TotalAlloc - before.TotalAlloc) >> 20; allocated > 150 {
		t.Errorf("allocated %d MB", allocated)
	}
	runtime.KeepAlive(tree)
}

func BenchmarkIndex60000(b *testing.B) {
	const entries = 60_000
	var facts bytes.Buffer
	w := layer.NewWriter(&facts)
	for _, f := range manyFacts(entries, 10) {
		if err := w.Fact(f); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(layer.Summary{TarSize: entries * 1536}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		tree, err := layer.Build(layer.NewReader(bytes.NewReader(facts.Bytes())), entries*1536)
		if err != nil {
			b.Fatal(err)
		}
		f, err := os.Create(filepath.Join(b.TempDir(), "index"))
		if err != nil {
			b.Fatal(err)
		}
		if err := Write(b.Context(), f, tree, Tar{ReaderAt: bytes.NewReader(nil), Size: entries * 1536}); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
}
