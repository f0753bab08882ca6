package fetch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/fetch/wire"
	"rkt/image/layer"
)

// Bounds on what rkt-fetch may say, far above what it has to say.
const (
	maxNotes    = 1000 // of one image
	maxMessages = 5000 // per second; it reports ten times a second and layer
)

var errFlood = errors.New("rkt-fetch sends more messages than it can have to send")

// layers receives the ordered layers and stores each while the next ones come.
// The first failure stops everything.
func (t *transfer) layers(ctx context.Context, cancel context.CancelCauseFunc, want []bool) error {
	t.sizes = make(map[cas.Digest]int64)
	var storing sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	err := t.receiveLayers(want, func(i int) {
		storing.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if ctx.Err() != nil {
				return
			}
			if err := t.store(ctx, i); err != nil {
				cancel(fmt.Errorf("layer %d of %d: %w", i+1, len(want), err))
			}
		})
	})
	if err != nil {
		cancel(err)
	}
	storing.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause // the first failure, of which the others follow
	}
	return nil
}

// receiveLayers follows the messages until Done and calls arrived for each layer
// that is in the spool. It accepts each ordered layer once and nothing else.
func (t *transfer) receiveLayers(want []bool, arrived func(i int)) error {
	pending := make([]bool, len(want))
	left := 0
	for i, w := range want {
		pending[i] = w
		if w {
			left++
		}
	}
	var pace pace
	for notes := 0; ; {
		m, err := t.receive()
		if err != nil {
			return err
		}
		if pace.tooFast(time.Now()) {
			return errFlood
		}
		i := int(m.Layer)
		ofLayer := m.Type == wire.Layer || m.Type == wire.Progress
		if ofLayer && (i >= len(want) || !pending[i]) {
			return coded(wire.CodeOther, "rkt-fetch speaks of layer %d, which it was not asked for", i+1)
		}
		switch m.Type {
		case wire.Progress:
			t.f.emit(Progress{Layer: i, Bytes: clamp(m.Bytes), Total: clamp(m.Total)})
		case wire.Layer:
			pending[i] = false
			left--
			arrived(i)
		case wire.Note:
			if notes++; notes > maxNotes {
				return errFlood
			}
			t.f.emit(Note{m.Text})
		case wire.Failed:
			return coded(m.Code, "%w", reported{m.Text})
		case wire.Done:
			if left > 0 {
				return coded(wire.CodeOther, "rkt-fetch says that it is done, but did not bring %d of the layers", left)
			}
			return nil
		default:
			return coded(wire.CodeOther, "rkt-fetch sends message %d where it has no place", m.Type)
		}
	}
}

// store verifies layer i in the spool, commits it and derives from it. Its lock
// is free afterwards: others find it in the store.
func (t *transfer) store(ctx context.Context, i int) error {
	d := t.got.config.DiffIDs[i]
	size, err := t.in.Commit(ctx, fmt.Sprintf(wire.LayerTar, i), d)
	if err != nil {
		return err
	}
	if err := t.derive(ctx, i, d); err != nil {
		return fmt.Errorf("derive index: %w", err)
	}
	t.locks[d].release()
	t.mu.Lock()
	t.sizes[d] = size
	t.mu.Unlock()
	t.f.emit(Stored{Layer: i, DiffID: d})
	return nil
}

// derive hands the facts about a committed layer on. The tar is opened in the
// store, where nobody writes to it any more.
func (t *transfer) derive(ctx context.Context, i int, d cas.Digest) error {
	name := fmt.Sprintf(wire.LayerFacts, i)
	facts, err := openSpool(t.in.Dir(), name, layer.MaxFacts)
	if err != nil {
		return err
	}
	defer facts.Close()
	tar, _, err := t.f.o.Store.CAS().Open(d)
	if err != nil {
		return err
	}
	defer tar.Close()
	if err := t.f.o.Layers.Derive(ctx, t.in, tar, facts, d); err != nil {
		return err
	}
	if err := unix.Unlinkat(int(t.in.Dir().Fd()), name, 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove %q: %w", name, err)
	}
	return nil
}

// pace counts messages per second.
type pace struct {
	second int64
	count  int
}

func (p *pace) tooFast(now time.Time) bool {
	if s := now.Unix(); s != p.second {
		p.second, p.count = s, 0
	}
	p.count++
	return p.count > maxMessages
}

// clamp makes a number of bytes that somebody claims fit for arithmetic.
func clamp(n uint64) int64 { return int64(min(n, layer.MaxSize)) }
