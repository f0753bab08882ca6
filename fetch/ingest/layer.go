package ingest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"rkt/cas"
	"rkt/fetch/ingest/fault"
	"rkt/fetch/ingest/tarball"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/image/layer"
	"rkt/internal/mutant"
)

// Buffers of one layer. They are small so that what one goroutine has written is
// still in the processor's cache when the next one reads it.
const (
	packedBuffers, packedSize = 8, 128 << 10
	plainBuffers, plainSize   = 4, 256 << 10
)

// maxDrain is how many bytes of a layer that cannot be used are still read, to
// find out whether it is damaged or was made so.
const maxDrain = 64 << 20

// attempt brings one layer from one place: a goroutine receives and verifies its
// bytes, one inflates them, one scans and writes the tar.
type attempt struct {
	b     *bringer
	index int
	d     image.Descriptor
	from  blob

	taken         int64 // of the budget for tars
	packed, plain *stream
	tar, facts    *os.File
	keep          *os.File // the bytes as they come, or nil
}

// run does it. After an error the files in the spool are not complete.
func (a *attempt) run(ctx context.Context) (err error) {
	if err := a.create(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	a.packed = newStream(packedBuffers, packedSize)
	a.plain = newStream(plainBuffers, plainSize)

	receiving, stopReceiving := context.WithCancel(ctx)
	defer stopReceiving()
	working, stopWorking := context.WithCancel(ctx)
	defer stopWorking()
	var received, decoded, consumed error
	var both sync.WaitGroup
	both.Go(func() {
		defer a.packed.end()
		received = a.receive(receiving)
	})
	both.Go(func() {
		defer a.plain.end()
		decoded = a.decode(working)
	})
	consumed = a.consume()
	if consumed != nil {
		stopWorking()
		a.plain.drain(1 << 62)
	}
	if fault.Code(consumed) == wire.CodeSpace || !a.packed.drain(maxDrain) {
		stopReceiving()
		a.packed.drain(1 << 62)
	}
	both.Wait()
	if err = firstCause(ctx, received, decoded, consumed); err != nil {
		a.b.room.giveBack(a.taken)
	}
	return err
}

// firstCause picks the failure of which the others are consequences: bytes that
// are not the right ones explain all that was made of them.
func firstCause(ctx context.Context, received, decoded, consumed error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	for _, err := range []error{received, consumed, decoded} {
		if err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
	}
	return errors.Join(received, consumed, decoded)
}

func (a *attempt) create() (err error) {
	for _, f := range []struct {
		to   **os.File
		name string
		want bool
	}{
		{&a.tar, wire.LayerTar, true},
		{&a.facts, wire.LayerFacts, true},
		{&a.keep, wire.LayerBlob, a.b.keepBlob},
	} {
		if !f.want {
			continue
		}
		if *f.to, err = a.b.out.create(fmt.Sprintf(f.name, a.index)); err != nil {
			return errors.Join(err, a.close())
		}
	}
	return nil
}

func (a *attempt) close() error {
	var errs []error
	for _, f := range []*os.File{a.tar, a.facts, a.keep} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// receive reads the layer as it was sent, checks size and digest, and passes it
// on. It never takes more than one byte too many.
func (a *attempt) receive(ctx context.Context) (err error) {
	r, err := a.from.open(ctx)
	if err != nil {
		return err
	}
	defer closeInto(&err, r)
	told := progress{r: a.b.report, layer: uint32(a.index), total: a.d.Size}
	hash := sha256.New()
	for left := a.d.Size; ; {
		buf, err := a.packed.empty(ctx)
		if err != nil {
			return err
		}
		n, err := fill(r, buf[:min(int64(len(buf)), left+1)])
		if left -= int64(n); left < 0 {
			return fault.New(wire.CodeDigest, "it has more than the %d bytes it should have", a.d.Size)
		}
		hash.Write(buf[:n])
		if a.keep != nil {
			if _, err := a.keep.Write(buf[:n]); err != nil {
				return err
			}
		}
		told.add(n)
		a.packed.send(buf[:n])
		switch {
		case err == nil:
			continue
		case err != io.EOF:
			return err
		case left > 0:
			return fault.New(wire.CodeDigest, "it has %d bytes, want %d", a.d.Size-left, a.d.Size)
		}
		return checkSum(hash.Sum(nil), a.d.Digest)
	}
}

func checkSum(sum []byte, want cas.Digest) error {
	if got := fmt.Sprintf("%x", sum); got != want.Hex() && !mutant.On("nodigest") {
		return fault.New(wire.CodeDigest, "got the digest sha256:%s, want %v", got, want)
	}
	return nil
}

// decode inflates what comes.
func (a *attempt) decode(ctx context.Context) (err error) {
	promised, ok := a.d.Compression()
	if !ok {
		return fault.New(wire.CodeType, "unknown type %.100q", a.d.MediaType)
	}
	reserved := int64(0)
	defer func() { a.b.windows.release(reserved) }()
	r, err := newDecoder(bufio.NewReaderSize(a.packed.reader(), packedSize), promised, func(bytes int64) (err error) {
		reserved, err = a.b.windows.acquire(ctx, bytes)
		return err
	})
	if err != nil {
		return err
	}
	defer r.Close()
	for {
		buf, err := a.plain.empty(ctx)
		if err != nil {
			return err
		}
		n, err := fill(r, buf)
		if n > 0 {
			a.plain.send(buf[:n])
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
func (a *attempt) consume() error {
	scanner := tarball.NewScanner(layer.NewWriter(a.facts))
	out := &sparseWriter{f: a.tar}
	for buf := range a.plain.full {
		a.taken += int64(len(buf))
		if err := a.b.room.take(int64(len(buf))); err != nil {
			return err
		}
		if _, err := scanner.Write(buf); err != nil {
			return err
		}
		if _, err := out.Write(buf); err != nil {
			return err
		}
		a.plain.free <- buf
	}
	if _, err := scanner.Close(); err != nil {
		return err
	}
	return out.finish()
}
