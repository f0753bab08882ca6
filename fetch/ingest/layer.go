package ingest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"

	"rkt/fetch/ingest/fault"
	"rkt/fetch/ingest/tarball"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/image/layer"
	"rkt/internal/mutant"
)

// Buffers of one layer. They are small so that what one goroutine has written is
// still in the processor's cache when the next one reads it.
const plainBuffers, plainSize = 4, 256 << 10

// maxDrain is how many bytes of a layer that cannot be used are still taken, so
// that who sends them can find out whether they are right.
const maxDrain = 64 << 20

// inflater makes tar and facts of the bytes of one layer: a goroutine inflates
// them, one scans and writes the tar.
type inflater struct {
	s          *server
	packing    image.Compression
	from       *os.File
	tar, facts *os.File
	budget     *budget
	plain      *stream
}

// inflate does it for the layer on source. Whether its bytes are the right ones,
// who sends them finds out.
func (s *server) inflate(ctx context.Context, request wire.Request, source *os.File) (err error) {
	i := &inflater{s: s, packing: image.Compression(request.Packing), from: source, budget: newBudget(request.Budget)}
	if i.tar, err = open(wire.TarFD, "tar"); err != nil {
		return err
	}
	defer closeInto(&err, i.tar)
	if i.facts, err = open(wire.FactsFD, "facts"); err != nil {
		return err
	}
	defer closeInto(&err, i.facts)
	if err = i.run(ctx); err != nil {
		// Said before the rest is taken: that can go on for long.
		err = errors.Join(errReported{err}, s.report.failed(err))
	}
	if fault.Code(err) != wire.CodeSpace {
		_, _ = io.Copy(io.Discard, io.LimitReader(source, maxDrain)) // what fails here fails there
	}
	return err
}

// errReported is a failure that has been said.
type errReported struct{ error }

func (e errReported) Unwrap() error { return e.error }

func (i *inflater) run(ctx context.Context) error {
	i.plain = newStream(plainBuffers, plainSize)
	working, stop := context.WithCancel(ctx)
	defer stop()
	decoded := make(chan error, 1)
	go func() {
		defer i.plain.end()
		decoded <- i.decode(working)
	}()
	consumed := i.consume()
	if consumed != nil {
		stop()
		i.plain.drain(1 << 62)
	}
	err := <-decoded
	switch {
	case consumed != nil:
		return consumed
	case err != nil:
		return err
	}
	return nil
}

// decode inflates what comes.
func (i *inflater) decode(ctx context.Context) (err error) {
	r, err := newDecoder(bufio.NewReaderSize(i.from, packedSize), i.packing, newGrants(i.s.orders, i.s.report).memory)
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		buf, err := i.plain.empty(ctx)
		if err != nil {
			return err
		}
		n, err := fill(r, buf)
		if n > 0 {
			i.plain.send(buf[:n])
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return packed(err)
		}
	}
}

// fill reads until buf is full or r fails. Unlike io.ReadFull it keeps io.EOF,
// and r's own io.ErrUnexpectedEOF, as they are.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var got int
		got, err = r.Read(buf[n:])
		n += got
	}
	return n, err
}

// consume scans the tar and writes it.
func (i *inflater) consume() error {
	scanner := tarball.NewScanner(layer.NewWriter(i.facts))
	out := &sparseWriter{f: i.tar}
	for buf := range i.plain.full {
		if err := i.budget.take(int64(len(buf))); err != nil && !mutant.On("nolimit") {
			return err
		}
		if _, err := scanner.Write(buf); err != nil {
			return err
		}
		if _, err := out.Write(buf); err != nil {
			return err
		}
		i.plain.free <- buf
	}
	if _, err := scanner.Close(); err != nil {
		return err
	}
	return out.finish()
}
