package ingest

import (
	"io"
	"sync"
	"time"

	"rkt/fetch/ingest/fault"
	"rkt/fetch/wire"
)

// progressPace is how often the progress of a layer is told.
const progressPace = 100 * time.Millisecond

// reporter tells the front end what happens. It may be used by several
// goroutines. When the front end is gone, it calls gone.
type reporter struct {
	mu   sync.Mutex
	w    io.Writer
	gone func(error)
}

func (r *reporter) send(m wire.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := wire.Send(r.w, m)
	if err != nil {
		r.gone(err)
	}
	return err
}

// note tells the user something; a failure shows at the next message.
func (r *reporter) note(text string) { _ = r.send(wire.Message{Type: wire.Note, Text: text}) }

// failed sends the last message of a run that failed.
func (r *reporter) failed(err error) error {
	return r.send(wire.Message{Type: wire.Failed, Code: fault.Code(err), Text: err.Error()})
}

// progress of one layer. It is used by one goroutine.
type progress struct {
	r     *reporter
	layer uint32
	total int64
	bytes int64
	told  time.Time
}

// add counts bytes, and tells the sum when it is time to.
func (p *progress) add(n int) {
	p.bytes += int64(n)
	if n == 0 {
		return
	}
	if now := time.Now(); p.bytes == p.total || now.Sub(p.told) >= progressPace {
		p.told = now
		// A layer that is begun again may have been further before.
		_ = p.r.send(wire.Message{Type: wire.Progress, Layer: p.layer, Bytes: uint64(min(p.bytes, p.total)), Total: uint64(p.total)})
	}
}
