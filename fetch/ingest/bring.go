package ingest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"rkt/cas"
	"rkt/fetch/ingest/fault"
	"rkt/fetch/ingest/tarball"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/image/layer"
)

const (
	// defaultParallel keeps two processors busy while a third layer waits for
	// the network.
	defaultParallel = 3
	// maxTars bounds the tars of an image in bytes; what a disk holds is usually
	// less.
	maxTars = 256 << 30
	// windowMemory bounds the memory for windows of all zstd layers in bytes. A
	// single window may be larger; it is then the only one.
	windowMemory = 40 << 20
)

// bringer brings the layers of one image into the spool.
type bringer struct {
	from     source
	out      spool
	report   *reporter
	manifest *image.Manifest
	parallel int
	keepBlob bool
	room     *budget
	windows  *shares
	wanted   map[cas.Digest]int // how often each layer is wanted
}

// bring brings what the order wants, several layers at once and the biggest
// first, so that the end is not spent waiting for one of them.
func (b *bringer) bring(ctx context.Context, order wire.Order) error {
	layers := b.manifest.Layers
	b.wanted = map[cas.Digest]int{}
	var queue []int
	for i, want := range order.Want {
		if want {
			queue = append(queue, i)
			b.wanted[layers[i].Digest]++
		}
	}
	slices.SortStableFunc(queue, func(i, j int) int { return cmp.Compare(layers[j].Size, layers[i].Size) })
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int, len(queue))
	for _, i := range queue {
		next <- i
	}
	close(next)
	parallel := b.parallel
	if parallel == 0 {
		parallel = defaultParallel
	}
	var workers sync.WaitGroup
	for range min(parallel, len(queue)) {
		workers.Go(func() {
			for i := range next {
				if ctx.Err() != nil {
					return
				}
				if err := b.layer(ctx, i); err != nil {
					cancel(fmt.Errorf("layer %d of %d: %w", i+1, len(layers), err))
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// layer brings one layer from the first place that has it right.
func (b *bringer) layer(ctx context.Context, i int) error {
	d := b.manifest.Layers[i]
	var last error
	for _, from := range b.from.layer(d) {
		if last != nil {
			b.report.note(fmt.Sprintf("layer %d: %v; going on with %s", i+1, last, from.where))
		}
		if last = b.try(ctx, i, d, from); last == nil {
			return b.report.send(wire.Message{Type: wire.Layer, Layer: uint32(i)})
		}
		// A layer that is what the manifest means is the same everywhere, and so
		// is our disk.
		if code := fault.Code(last); ctx.Err() != nil || code == wire.CodeSpace || code == wire.CodeLayer || code == wire.CodeTooLarge {
			break
		}
	}
	return last
}

func (b *bringer) try(ctx context.Context, i int, d image.Descriptor, from blob) error {
	if from.adopt != nil && !b.keepBlob && b.wanted[d.Digest] == 1 {
		return b.adopt(i, d, from)
	}
	a := &attempt{b: b, index: i, d: d, from: from}
	return a.run(ctx)
}

// adopt makes an uncompressed layer that lies in the spool already the layer's
// tar: it is read, but not copied.
func (b *bringer) adopt(i int, d image.Descriptor, from blob) (err error) {
	name := fmt.Sprintf(wire.LayerTar, i)
	if err := from.adopt(name); err != nil {
		return err
	}
	tar, err := b.out.open(name)
	if err != nil {
		return err
	}
	defer closeInto(&err, tar)
	facts, err := b.out.create(fmt.Sprintf(wire.LayerFacts, i))
	if err != nil {
		return err
	}
	defer closeInto(&err, facts)
	scanner := tarball.NewScanner(layer.NewWriter(facts))
	told := progress{r: b.report, layer: uint32(i), total: d.Size}
	hash := sha256.New()
	buf := make([]byte, plainSize)
	for {
		n, err := fill(tar, buf)
		hash.Write(buf[:n])
		told.add(n)
		if _, err := scanner.Write(buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if err := checkSum(hash.Sum(nil), d.Digest); err != nil {
		return err
	}
	_, err = scanner.Close()
	return err
}

// open opens a file of the spool.
func (s spool) open(name string) (*os.File, error) { return openPlain(s.dir, name) }

// budget is a number of bytes that may be used up.
type budget struct {
	mu          sync.Mutex
	left, limit int64
}

func newBudget(limit int64) *budget { return &budget{left: limit, limit: limit} }

func (b *budget) take(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left -= n; b.left < 0 {
		return fault.New(wire.CodeTooLarge, "layers have more than %d GiB when decompressed", b.limit>>30)
	}
	return nil
}

func (b *budget) giveBack(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
}

// shares is memory that layers reserve before they use it.
type shares struct {
	mu          sync.Mutex
	freed       chan struct{} // closed and made anew when some is given back
	used, limit int64
}

func newShares(limit int64) *shares { return &shares{freed: make(chan struct{}), limit: limit} }

// acquire waits until n bytes are free, or all if n is more than there are, and
// returns how many it has reserved.
func (s *shares) acquire(ctx context.Context, n int64) (int64, error) {
	n = min(n, s.limit)
	for {
		s.mu.Lock()
		freed := s.freed
		if s.used+n <= s.limit {
			s.used += n
			s.mu.Unlock()
			return n, nil
		}
		s.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

func (s *shares) release(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
	close(s.freed)
	s.freed = make(chan struct{})
}
