package confined

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
	"rkt/internal/safepath"
)

// sourceFolder is the folder in the spool that the process with the network, or
// with the local image, writes to. What it makes stays apart from the layers.
const sourceFolder = "source"

// Session brings one image. The process that speaks with the registry, or reads
// the local image, is started first; each layer that it is to send gets a process
// of its own. Receive returns what the image's consumer needs to know of all of
// them. Close must be called.
type Session struct {
	o      Options
	l      *launcher
	ctx    context.Context
	cancel context.CancelCauseFunc
	spool  *os.File
	folder *os.File // sourceFolder, open
	source *process
	layout *os.File // the caller's; nil unless the image is one

	events chan event
	out    chan wire.Message
	over   chan struct{} // closed when nothing more comes out
	why    error         // that it is over; nil after Done or Failed

	readers sync.WaitGroup
	memory  *shares

	mu     sync.Mutex // of what Order sets
	layers []*layerState

	// Of serve alone.
	slots   int
	waiting []int // layers that wait for a slot
	left    int64 // of the budget for tars, in bytes
	opened  int   // files of the layout
	done    bool  // the source has said so
	noted   map[string]bool
}

// event is what one of the processes says, or that it has failed.
type event struct {
	layer int // -1 = the source
	try   int // which process of the layer
	m     wire.Message
	err   error
}

const (
	// defaultReaders is how many layers are read at once: each needs a processor
	// for as long as bytes come.
	defaultReaders = 4
	// maxTars bounds the tars of an image in bytes; what a disk holds is usually less.
	maxTars = 256 << 30
	// windowMemory bounds the memory for windows of all zstd layers in bytes. A
	// single window may be larger; it is then the only one.
	windowMemory = 40 << 20
)

// Start begins to bring the image that the request names, from source if it is a
// local one. The spool is a folder that only the caller can enter; the layers
// will be in it. Everything is killed when ctx ends, when Close is called, and by
// the kernel when this process dies.
func Start(ctx context.Context, o Options, spool, source *os.File, request wire.Request) (*Session, error) {
	l, err := newLauncher(o.Program)
	if err != nil {
		return nil, err
	}
	s := &Session{
		o: o, l: l, spool: spool, events: make(chan event), out: make(chan wire.Message), over: make(chan struct{}),
		memory: newShares(windowMemory), slots: max(request.Parallel, defaultReaders), left: maxTars, noted: map[string]bool{},
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	if err := s.begin(source, request); err != nil {
		close(s.over)
		s.Close()
		return nil, err
	}
	go s.serve()
	return s, nil
}

// begin starts the source.
func (s *Session) begin(source *os.File, request wire.Request) (err error) {
	if s.folder, err = makeFolder(s.spool, s.l.id); err != nil {
		return err
	}
	role := wire.ReadImage
	switch request.Source.Kind {
	case wire.Registry:
		role = wire.AskRegistries
	case wire.Layout:
		s.layout, source = source, nil
	}
	s.source, err = s.l.start(s.ctx, role, files{wire.SpoolFD: s.folder, wire.SourceFD: source})
	if err != nil {
		return err
	}
	lacking, err := s.source.confirm(s.l, request, s.o.Demand)
	if err != nil {
		return err
	}
	s.readers.Go(func() {
		if lacking != "" {
			s.post(event{layer: -1, m: wire.Message{Type: wire.Note, Text: lacking}})
		}
		s.listen(s.source, event{layer: -1})
	})
	return nil
}

// makeFolder makes the folder of the source, which belongs to its uid.
func makeFolder(spool *os.File, id identity) (*os.File, error) {
	fd := int(spool.Fd())
	if err := unix.Mkdirat(fd, sourceFolder, 0o700); err != nil {
		return nil, fmt.Errorf("make folder for rkt-fetch: %w", err)
	}
	f, err := safepath.OpenBeneath(spool, sourceFolder, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	if err := f.Chown(id.uid, id.gid); err != nil {
		f.Close()
		return nil, fmt.Errorf("make folder for rkt-fetch: %w", err)
	}
	return f, nil
}

// Folder is where the source leaves what is no layer. The Session keeps it open.
func (s *Session) Folder() *os.File { return s.folder }

// listen posts what the process says, until it is done with or the session over.
func (s *Session) listen(p *process, e event) {
	for {
		e.m, e.err = p.receive(0)
		if e.err == nil && e.m.Type == wire.Done {
			e.err = p.wait()
		}
		last := e.err != nil || e.m.Type == wire.Done || e.m.Type == wire.Failed
		if !s.post(e) || last {
			return
		}
	}
}

func (s *Session) post(e event) bool {
	select {
	case s.events <- e:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// Receive returns the next message: Resolved; then, after Order, Progress and, of
// each layer whose tar and facts are in the spool, Layer; Done or Failed last;
// Note at any time. It fails with ErrSilent when there is none within silence (0
// = wait for ever), with the context's error when that ended, and with ErrEnded,
// told how, when a process is gone before it was done.
func (s *Session) Receive(silence time.Duration) (wire.Message, error) {
	var timeout <-chan time.Time
	if silence > 0 {
		timer := time.NewTimer(silence)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case m := <-s.out:
		return m, nil
	case <-s.over:
		if s.why == nil {
			return wire.Message{}, fmt.Errorf("%w: nothing more comes", ErrEnded)
		}
		return wire.Message{}, s.why
	case <-timeout:
		return wire.Message{}, fmt.Errorf("%w for %v", ErrSilent, silence)
	}
}

// Layer is a layer of the image.
type Layer struct {
	Want    bool
	Packing string // as in wire.Request
}

// Order answers Resolved with the layers of the image, of which some are wanted.
func (s *Session) Order(layers []Layer) error {
	o := wire.Order{Want: make([]bool, len(layers))}
	s.mu.Lock()
	for i, l := range layers {
		o.Want[i] = l.Want
		s.layers = append(s.layers, &layerState{Layer: l})
	}
	s.mu.Unlock()
	if err := wire.SendOrder(s.source.orders, o); err != nil {
		return s.source.explain(err, 0)
	}
	return nil
}

// Close kills what still runs and waits until it is gone, so that nobody writes
// to the spool afterwards. It can be called again.
func (s *Session) Close() {
	s.cancel(context.Canceled)
	if s.source != nil {
		s.source.close()
	}
	<-s.over
	s.readers.Wait()
	s.l.close()
	if s.folder != nil {
		s.folder.Close()
	}
}

// serve turns the events of all processes into the messages of the session.
func (s *Session) serve() {
	defer close(s.over)
	for {
		select {
		case e := <-s.events:
			m, err := s.handle(e)
			if err != nil {
				s.why = err
				return
			}
			if m != nil && !s.say(*m) {
				return
			}
			if s.finished() && !s.say(wire.Message{Type: wire.Done}) || s.finished() {
				return
			}
		case <-s.ctx.Done():
			s.why = context.Cause(s.ctx)
			return
		}
	}
}

// say passes a message on and reports whether more may follow.
func (s *Session) say(m wire.Message) bool {
	select {
	case s.out <- m:
		return m.Type != wire.Failed && m.Type != wire.Done
	case <-s.ctx.Done():
		s.why = context.Cause(s.ctx)
		return false
	}
}

// finished: the source has sent everything and every layer has been read.
func (s *Session) finished() bool {
	if !s.done {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range s.layers {
		if st.try > 0 && !st.told {
			return false
		}
	}
	return true
}

var errProtocol = errors.New("rkt-fetch breaks its protocol")

// handle returns the message that the event means for the consumer, or the end.
func (s *Session) handle(e event) (*wire.Message, error) {
	if e.layer >= 0 {
		return s.handleReader(e)
	}
	if e.err != nil {
		return nil, e.err
	}
	switch e.m.Type {
	case wire.Resolved, wire.Progress, wire.Failed:
		return &e.m, nil
	case wire.Note:
		return s.note(e.m)
	case wire.Done:
		s.done = true
		return nil, nil
	case wire.Open:
		return nil, s.open(e.m)
	}
	st, err := s.layer(e.m)
	if err != nil {
		return nil, err
	}
	i := int(e.m.Layer)
	switch e.m.Type {
	case wire.Need:
		return nil, s.need(i, st)
	case wire.Given:
		return nil, s.given(i, st)
	case wire.Layer:
		if st.try == 0 {
			return nil, fmt.Errorf("%w: layer %d was sent to nobody", errProtocol, i+1)
		}
		st.sent = true
		return s.settle(i, st)
	}
	return nil, fmt.Errorf("%w: message %d of the %s part", errProtocol, e.m.Type, s.source.role)
}

// note passes a note on, but says only once what is lacking.
func (s *Session) note(m wire.Message) (*wire.Message, error) {
	if strings.Contains(m.Text, " part of rkt-fetch is not confined by: ") {
		if s.noted[m.Text] {
			return nil, nil
		}
		s.noted[m.Text] = true
	}
	return &m, nil
}

// layer returns the layer that the source speaks of: one that it was asked for
// and has not done with.
func (s *Session) layer(m wire.Message) (*layerState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := int(m.Layer)
	if i >= len(s.layers) || !s.layers[i].Want || s.layers[i].sent {
		return nil, fmt.Errorf("%w: it speaks of layer %d, which it was not asked for", errProtocol, i+1)
	}
	return s.layers[i], nil
}

func joined(parts []string) string {
	var list []string
	for _, p := range parts {
		if p != "" {
			list = append(list, p)
		}
	}
	return strings.Join(list, "; ")
}
