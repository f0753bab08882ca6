package ingest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/fetch/ingest/fault"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/internal/mutant"
)

const (
	// defaultParallel keeps two processors busy while a third layer waits for
	// the network.
	defaultParallel = 3
	// maxTars bounds what an archive may lay into the spool in bytes; what a disk
	// holds is usually less.
	maxTars = 256 << 30
	// packedSize is how much of a layer is passed on at once, in bytes: little
	// enough that it is still in the processor's cache for who reads it.
	packedSize = 128 << 10
)

// bringer brings the layers of one image to those who read them.
type bringer struct {
	from     source
	out      spool
	report   *reporter
	manifest *image.Manifest
	parallel int
	keepBlob bool
	grants   *grants
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

// layer brings one layer from the first place that has it right. Each place
// begins with a new reader: what the one before has read was wrong.
func (b *bringer) layer(ctx context.Context, i int) error {
	d := b.manifest.Layers[i]
	var last error
	for _, from := range b.from.layer(d) {
		if last != nil {
			b.report.note(fmt.Sprintf("layer %d: %v; going on with %s", i+1, last, from.where))
		}
		if last = b.try(ctx, i, d, from); last == nil {
			return nil
		}
		if code := fault.Code(last); ctx.Err() != nil || code == wire.CodeSpace || code == wire.CodeLayer || code == wire.CodeTooLarge {
			break // our disk is the same everywhere
		}
	}
	return last
}

func (b *bringer) try(ctx context.Context, i int, d image.Descriptor, from blob) (err error) {
	if from.adopt != nil && !b.keepBlob && b.wanted[d.Digest] == 1 {
		return b.give(ctx, i, d, from)
	}
	to, err := b.grants.pipe(uint32(i))
	if err != nil {
		return err
	}
	defer closeInto(&err, to)
	var keep *os.File
	if b.keepBlob {
		if keep, err = b.out.create(fmt.Sprintf(wire.LayerBlob, i)); err != nil {
			return err
		}
		defer closeInto(&err, keep)
	}
	s := &sender{d: d, from: from, to: to, keep: keep, told: progress{r: b.report, layer: uint32(i), total: d.Size}}
	if err := s.send(ctx); err != nil {
		return err
	}
	// Before the pipe is closed: who reads must not seem to be done first.
	return b.report.send(wire.Message{Type: wire.Layer, Layer: uint32(i)})
}

// give gives an uncompressed layer that lies in the spool already away as the
// layer's tar: it is read, but not copied.
func (b *bringer) give(ctx context.Context, i int, d image.Descriptor, from blob) error {
	name := fmt.Sprintf(wire.LayerTar, i)
	if err := from.adopt(name); err != nil {
		return err
	}
	check := func(context.Context) (io.ReadCloser, error) { return openPlain(b.out.dir, name) }
	s := &sender{d: d, from: blob{open: check}, told: progress{r: b.report, layer: uint32(i), total: d.Size}}
	if err := s.send(ctx); err != nil {
		return err
	}
	return b.report.send(wire.Message{Type: wire.Given, Layer: uint32(i)})
}

// sender passes a layer on as it comes and verifies it.
type sender struct {
	d    image.Descriptor
	from blob
	to   *os.File // a pipe, or nil
	keep *os.File // the bytes as they come, or nil
	told progress
}

// send never takes more than one byte too many. It returns nil when all bytes
// were sent and are right; when who reads has had enough of them it stops, and
// that one says why.
func (s *sender) send(ctx context.Context) (err error) {
	r, err := s.from.open(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, r)
	hash := sha256.New()
	all := make([]byte, packedSize)
	for left := s.d.Size; ; {
		buf := all[:min(int64(len(all)), left+1)]
		n, err := fill(r, buf)
		if left -= int64(n); left < 0 && !mutant.On("nosize") {
			return fault.New(wire.CodeDigest, "it has more than the %d bytes it should have", s.d.Size)
		}
		hash.Write(buf[:n])
		if stop, err := s.pass(buf[:n]); stop || err != nil {
			return err
		}
		s.told.add(n)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
			continue
		case err != io.EOF:
			return err
		case left > 0:
			return fault.New(wire.CodeDigest, "it has %d bytes, want %d", s.d.Size-left, s.d.Size)
		}
		return checkSum(hash.Sum(nil), s.d.Digest)
	}
}

// pass hands bytes on; stop says that nobody reads any more.
func (s *sender) pass(b []byte) (stop bool, err error) {
	if s.keep != nil {
		if _, err := s.keep.Write(b); err != nil {
			return false, err
		}
	}
	if s.to == nil {
		return false, nil
	}
	_, err = s.to.Write(b)
	if errors.Is(err, unix.EPIPE) {
		return true, nil
	}
	return false, err
}

func checkSum(sum []byte, want cas.Digest) error {
	if got := fmt.Sprintf("%x", sum); got != want.Hex() && !mutant.On("nodigest") {
		return fault.New(wire.CodeDigest, "got the digest sha256:%s, want %v", got, want)
	}
	return nil
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
