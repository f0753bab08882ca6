package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"rkt/cas"
	"rkt/fetch/ingest/fault"
	"rkt/fetch/wire"
	"rkt/internal/mutant"
)

const (
	// minRate is what a connection must bring in bytes per second of waiting:
	// one that brings less has stalled, however regularly it drips.
	minRate = 1 << 10
	// renewAfter is how many bytes must have come for earlier failures to be
	// forgotten.
	renewAfter = 256 << 10
)

// Blob streams a blob of size bytes. It resumes where a connection broke. What
// it delivers is size bytes; a body that has more, of which one byte is read,
// or fewer is wire.CodeDigest. The caller checks the digest. Close it; ctx ends
// it, too.
func (c *Client) Blob(ctx context.Context, digest cas.Digest, size int64) io.ReadCloser {
	return &blob{c: c, ctx: ctx, digest: digest, size: size, patience: patience{c: c}}
}

// blob is a stream over as many connections as it takes.
type blob struct {
	c        *Client
	ctx      context.Context
	digest   cas.Digest
	size     int64
	offset   int64 // bytes delivered
	renewed  int64 // offset at which earlier failures were forgotten
	patience patience
	conn     *connection
	err      error
}

// Read implements io.Reader.
func (b *blob) Read(p []byte) (int, error) {
	for b.err == nil {
		n, err := b.try(p)
		if n > 0 {
			b.offset += int64(n)
			return n, nil
		}
		switch {
		case err == nil:
			return 0, nil // p is empty
		case err == io.EOF: // not one that a failure wraps
			b.err = io.EOF
		default:
			b.disconnect()
			if err := b.patience.wait(b.ctx, err); err != nil {
				b.err = fmt.Errorf("read blob %v of %s/%s: %w", b.digest, b.c.end.Host, b.c.repository, err)
			}
		}
	}
	return 0, b.err
}

// try reads from the connection, making one if there is none.
func (b *blob) try(p []byte) (int, error) {
	if b.conn == nil {
		conn, err := b.connect()
		if err != nil {
			return 0, err
		}
		b.conn = conn
	}
	// One byte more than there should be shows that the body is longer.
	rest := b.size - b.offset
	if int64(len(p)) > rest+1 {
		p = p[:rest+1]
	}
	n, err := b.conn.read(p)
	switch {
	case int64(n) > rest && !mutant.On("nosize"):
		return 0, fault.New(wire.CodeDigest, "it has more than the %d bytes it should have", b.size)
	case n > 0:
		if b.offset-b.renewed >= renewAfter {
			b.renewed = b.offset
			b.patience.renew()
		}
		return n, nil
	case err == nil:
		return 0, nil
	case err != io.EOF:
		return 0, broken(err)
	case rest > 0 && b.conn.length >= 0:
		return 0, broken(io.ErrUnexpectedEOF)
	case rest > 0:
		return 0, fault.New(wire.CodeDigest, "it has %d bytes, want %d", b.offset, b.size)
	}
	return 0, io.EOF
}

// connect asks for what is still missing.
func (b *blob) connect() (*connection, error) {
	ctx, cancel := context.WithCancelCause(b.ctx)
	conn := &connection{cancel: cancel, stall: b.c.o.Stall}
	header := http.Header{}
	if b.offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", b.offset))
	}
	timer := time.AfterFunc(4*conn.stall, func() { cancel(errStall) })
	resp, err := b.c.get(ctx, b.c.path("blobs", b.digest.String()), header)
	if !timer.Stop() && err != nil && context.Cause(ctx) == errStall {
		err = &temporaryError{errStall}
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	conn.ctx, conn.body, conn.length = ctx, resp.Body, resp.ContentLength
	if err := b.position(conn, resp); err != nil {
		conn.close()
		return nil, err
	}
	return conn, nil
}

// position makes sure that the next byte of the body is the one at offset.
func (b *blob) position(conn *connection, resp *http.Response) error {
	rest := b.size - b.offset
	if resp.StatusCode == http.StatusPartialContent {
		want := fmt.Sprintf("bytes %d-%d/%d", b.offset, b.size-1, b.size)
		if got := resp.Header.Get("Content-Range"); b.offset == 0 || got != want {
			return fault.New(wire.CodeDigest, "registry sends the range %.60q, want %q", got, want)
		}
	} else if b.offset > 0 {
		// It starts again. What we have already is read over; the digest tells
		// whether it was the same.
		rest = b.size
	}
	if conn.length >= 0 && conn.length != rest {
		return fault.New(wire.CodeDigest, "it has %d bytes, want %d", conn.length, rest)
	}
	if rest == b.size && b.offset > 0 && !mutant.On("appendrange") {
		return conn.discard(b.offset)
	}
	return nil
}

// Close ends the stream.
func (b *blob) Close() error {
	b.disconnect()
	if b.err == nil {
		b.err = errors.New("read of a closed blob")
	}
	return nil
}

func (b *blob) disconnect() {
	if b.conn != nil {
		b.conn.close()
		b.conn = nil
	}
}

// connection is one body with a watch over its pace.
type connection struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	length int64 // of the body; -1 = unknown
	stall  time.Duration

	waited time.Duration // since the pace was looked at last
	came   int64
}

// read reads; it fails with errStall when nothing comes for too long, or too
// little. Only time spent here counts, not what the caller does in between.
func (c *connection) read(p []byte) (int, error) {
	start := time.Now()
	timer := time.AfterFunc(c.stall, func() { c.cancel(errStall) })
	n, err := c.body.Read(p)
	timer.Stop()
	c.came += int64(n)
	if c.waited += time.Since(start); c.waited > 2*c.stall {
		if float64(c.came) < minRate*c.waited.Seconds() {
			c.cancel(errStall)
			err = errStall
		}
		c.waited, c.came = 0, 0
	}
	if err != nil && context.Cause(c.ctx) == errStall {
		err = errStall
	}
	return n, err
}

// discard reads n bytes over.
func (c *connection) discard(n int64) error {
	buf := make([]byte, 32<<10)
	for n > 0 {
		got, err := c.read(buf[:min(int64(len(buf)), n)])
		if n -= int64(got); err != nil && n > 0 {
			return broken(err)
		}
	}
	return nil
}

func (c *connection) close() {
	c.cancel(nil)
	c.body.Close()
}
