package confined

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/fetch/wire"
	"rkt/internal/escape"
	"rkt/internal/mutant"
	"rkt/internal/safepath"
)

// layerState is a layer on its way. It is used by serve alone.
type layerState struct {
	Layer
	try    int // number of processes started for it; the last one counts
	stop   context.CancelFunc
	gone   chan struct{} // closed when the last one has gone
	active bool          // it holds a slot
	sent   bool          // the source has sent all of it, and it was right
	read   bool          // its reader has made tar and facts
	told   bool          // the consumer knows
	failed error
	code   wire.Code
}

// maxTries bounds how often a layer is begun, by the source's wish: once for each
// endpoint that turns out to have it wrong.
const maxTries = wire.MaxEndpoints + 1

// pipeSize is how much of a layer may be under way between two processes, in
// bytes: what the kernel gives to anybody.
const pipeSize = 1 << 20

// need begins a layer, or begins it anew: what was read of it was wrong.
func (s *Session) need(i int, st *layerState) error {
	if err := s.anew(i, st); err != nil {
		return err
	}
	s.waiting = append(s.waiting, i)
	s.startWaiting()
	return nil
}

// anew forgets the process that has read the layer so far.
func (s *Session) anew(i int, st *layerState) error {
	if st.try++; st.try > maxTries {
		return fmt.Errorf("%w: layer %d is begun for the %dth time", errProtocol, i+1, st.try)
	}
	s.free(st)
	st.read, st.failed, st.code = false, nil, 0
	return nil
}

// free ends the process of a layer, if there is one.
func (s *Session) free(st *layerState) {
	if st.stop != nil {
		st.stop()
		st.stop = nil
	}
	if st.active {
		st.active = false
		s.slots++
	}
}

// startWaiting starts readers while there are slots.
func (s *Session) startWaiting() {
	for len(s.waiting) > 0 && s.slots > 0 {
		i := s.waiting[0]
		s.waiting = s.waiting[1:]
		st := s.layers[i]
		if st.active || st.sent {
			continue
		}
		s.startReader(i, st, func(e event, ctx context.Context) error { return s.inflate(ctx, e, st.Packing, s.left) })
	}
}

// startReader runs a function in a goroutine that has a slot.
func (s *Session) startReader(i int, st *layerState, run func(e event, ctx context.Context) error) {
	ctx, stop := context.WithCancel(s.ctx)
	before, gone := st.gone, make(chan struct{})
	st.stop, st.gone, st.active = stop, gone, true
	s.slots--
	e := event{layer: i, try: st.try}
	s.readers.Go(func() {
		defer stop()
		defer close(gone)
		if before != nil {
			<-before // it has been stopped; the files are of the same names
		}
		if err := run(e, ctx); err != nil && ctx.Err() == nil {
			e.err = err
			s.post(e)
		}
	})
}

// inflate starts the process that reads the layer and gives the source the pipe
// to it.
func (s *Session) inflate(ctx context.Context, e event, packing string, budget int64) error {
	var ends [2]int
	if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("make pipe for a layer: %w", err)
	}
	from, to := os.NewFile(uintptr(ends[0]), "layer"), os.NewFile(uintptr(ends[1]), "layer")
	defer to.Close()
	if mutant.On("leakfd") {
		_, _ = unix.Dup(ends[1])
	}
	// A larger pipe saves switches of processes; a small one works.
	_, _ = unix.FcntlInt(from.Fd(), unix.F_SETPIPE_SZ, pipeSize)
	request := wire.Request{Version: wire.Version, Mode: wire.Inflate, Packing: packing, Budget: budget}
	return s.reader(ctx, e, from, request, func() error {
		defer to.Close() // the end of the layer is when the source has closed it
		return wire.SendGrant(int(s.source.orders.Fd()), wire.Grant{Type: wire.Need, Number: uint32(e.layer)}, int(to.Fd()))
	})
}

// reader starts a process for a layer on the file, which it closes, calls ready
// when the process is confined, and listens to it until it is gone.
func (s *Session) reader(ctx context.Context, e event, from *os.File, request wire.Request, ready func() error) error {
	defer from.Close()
	given := files{wire.SourceFD: from}
	facts, err := s.createIn(fmt.Sprintf(wire.LayerFacts, e.layer))
	if err != nil {
		return err
	}
	defer facts.Close()
	given[wire.FactsFD] = facts
	if request.Mode == wire.Inflate {
		tar, err := s.createIn(fmt.Sprintf(wire.LayerTar, e.layer))
		if err != nil {
			return err
		}
		defer tar.Close()
		given[wire.TarFD] = tar
	}
	p, err := s.l.start(ctx, wire.ReadLayer, given)
	if err != nil {
		return err
	}
	defer p.close()
	lacking, err := p.confirm(s.l, request, s.o.Demand)
	if err != nil {
		return err
	}
	if lacking != "" {
		s.post(event{layer: -1, m: wire.Message{Type: wire.Note, Text: lacking}})
	}
	from.Close() // else the source would never see that nobody reads any more
	if err := ready(); err != nil {
		return err
	}
	if err := s.follow(ctx, p, e); err != nil {
		return &readError{err}
	}
	return nil
}

// readError is a reader that failed when the source had its pipe. The source will
// notice, and say whether it was the bytes.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// follow posts what a reader says, and gives it memory.
func (s *Session) follow(ctx context.Context, p *process, e event) error {
	reserved := int64(0)
	defer func() { s.memory.release(reserved) }()
	for {
		m, err := p.receive(0)
		if err != nil {
			return err
		}
		switch m.Type {
		case wire.Need:
			if reserved > 0 {
				return fmt.Errorf("%w: a layer asks for memory twice", errProtocol)
			}
			if reserved, err = s.memory.acquire(ctx, int64(min(m.Bytes, 1<<40))); err != nil {
				return err
			}
			if err := wire.SendGrant(int(p.orders.Fd()), wire.Grant{Type: wire.Need}, -1); err != nil {
				return p.explain(err, 0)
			}
		case wire.Done:
			if err := p.wait(); err != nil {
				return err
			}
			e.m = m
			s.post(e)
			return nil
		case wire.Failed:
			e.m = m
			s.post(e)
			<-ctx.Done() // it may still take what is sent, until that is judged
			return nil
		default:
			return fmt.Errorf("%w: message %d of the %s part", errProtocol, m.Type, p.role)
		}
	}
}

// handleReader takes what the reader of a layer says.
func (s *Session) handleReader(e event) (*wire.Message, error) {
	st := s.layers[e.layer]
	if e.try != st.try {
		return nil, nil // of a process that does not count any more
	}
	var reading *readError
	switch {
	case e.err != nil && !(errors.As(e.err, &reading) && errors.Is(e.err, ErrEnded)):
		return nil, fmt.Errorf("layer %d of %d: %w", e.layer+1, len(s.layers), e.err)
	case e.err != nil:
		st.failed = e.err
	case e.m.Type == wire.Failed:
		st.failed, st.code = errors.New(escape.Text(e.m.Text)), e.m.Code
		if st.code == wire.CodeSpace {
			st.sent = true // more bytes do not help
		}
	default:
		st.read = true
		s.free(st)
		s.startWaiting()
	}
	return s.settle(e.layer, st)
}

// settle tells the fate of a layer once both sides of its pipe have: bytes that
// are not the right ones explain all that was made of them.
func (s *Session) settle(i int, st *layerState) (*wire.Message, error) {
	switch {
	case !st.sent:
		return nil, nil
	case st.failed != nil && errors.Is(st.failed, ErrEnded):
		return nil, fmt.Errorf("layer %d of %d: %w", i+1, len(s.layers), st.failed)
	case st.failed != nil:
		return &wire.Message{Type: wire.Failed, Code: st.code, Text: fmt.Sprintf("layer %d of %d: %v", i+1, len(s.layers), st.failed)}, nil
	case !st.read:
		return nil, nil
	}
	st.told = true
	size, err := sizeIn(s.spool, fmt.Sprintf(wire.LayerTar, i))
	if err != nil {
		return nil, err
	}
	if s.left -= size; s.left <= 0 {
		return &wire.Message{Type: wire.Failed, Code: wire.CodeTooLarge, Text: fmt.Sprintf("layers have more than %d GiB when decompressed", int64(maxTars)>>30)}, nil
	}
	return &wire.Message{Type: wire.Layer, Layer: uint32(i)}, nil
}

// given takes a tar that lies in the source's folder as the layer.
func (s *Session) given(i int, st *layerState) error {
	if err := s.anew(i, st); err != nil {
		return err
	}
	name := fmt.Sprintf(wire.LayerTar, i)
	if err := removeIn(s.spool, name); err != nil {
		return err
	}
	if err := unix.Renameat2(int(s.folder.Fd()), name, int(s.spool.Fd()), name, unix.RENAME_NOREPLACE); err != nil {
		return fmt.Errorf("take layer %d from the spool: %w", i+1, err)
	}
	tar, err := safepath.OpenBeneath(s.spool, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	st.sent = true
	request := wire.Request{Version: wire.Version, Mode: wire.Scan}
	err = cas.Seal(tar)
	if errors.Is(err, errors.ErrUnsupported) {
		// Facts and tar must be of the same bytes: they are read once, and copied.
		request.Mode, request.Budget, err = wire.Inflate, s.left, nil
	}
	if err != nil {
		tar.Close()
		return fmt.Errorf("take layer %d from the spool: %w", i+1, err)
	}
	s.startReader(i, st, func(e event, ctx context.Context) error {
		return s.reader(ctx, e, tar, request, func() error { return nil })
	})
	return nil
}

// createIn makes a new file in the spool, and removes what is left of an earlier
// try. It is opened for reading: the process that it is for may open it for
// writing, and is then the only one that has done so. A file that is ours to
// write would be every other process's that is being forked, too, and who
// commits it wants to see that nobody writes to it.
func (s *Session) createIn(name string) (*os.File, error) {
	if err := removeIn(s.spool, name); err != nil {
		return nil, err
	}
	return create(s.spool, name, s.l.id)
}

func create(dir *os.File, name string, owner identity) (*os.File, error) {
	f, err := safepath.OpenBeneath(dir, name, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Chown(owner.uid, owner.gid); err != nil {
		f.Close()
		return nil, fmt.Errorf("make %q for rkt-fetch: %w", name, err)
	}
	return f, nil
}

func removeIn(spool *os.File, name string) error {
	if err := unix.Unlinkat(int(spool.Fd()), name, 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("remove %q from the spool: %w", name, err)
	}
	return nil
}

func sizeIn(spool *os.File, name string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(spool.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return 0, fmt.Errorf("stat %q of the spool: %w", name, err)
	}
	return st.Size, nil
}
