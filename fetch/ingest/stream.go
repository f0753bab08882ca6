package ingest

import (
	"context"
	"io"
)

// stream hands buffers from one goroutine to another and back: so many, of one
// size, and no more. The writer fills and sends, the reader takes and returns.
type stream struct {
	free chan []byte
	full chan []byte
}

func newStream(count, size int) *stream {
	s := &stream{free: make(chan []byte, count), full: make(chan []byte, count)}
	for range count {
		s.free <- make([]byte, size)
	}
	return s
}

// empty returns a buffer to fill, in its full length.
func (s *stream) empty(ctx context.Context) ([]byte, error) {
	select {
	case b := <-s.free:
		return b[:cap(b)], nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// send passes a buffer on. It never blocks: there is room for all of them.
func (s *stream) send(b []byte) { s.full <- b }

// end tells the reader that nothing more comes.
func (s *stream) end() { close(s.full) }

// drain returns what comes to the writer unread, up to the end or limit bytes.
func (s *stream) drain(limit int64) (all bool) {
	for b := range s.full {
		if limit -= int64(len(b)); limit < 0 {
			return false
		}
		s.free <- b
	}
	return true
}

// reader reads the stream as bytes.
func (s *stream) reader() io.Reader { return &streamReader{s: s} }

type streamReader struct {
	s    *stream
	buf  []byte
	rest []byte
}

func (r *streamReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.buf != nil {
			r.s.free <- r.buf
			r.buf = nil
		}
		b, ok := <-r.s.full
		if !ok {
			return 0, io.EOF
		}
		r.buf, r.rest = b, b
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}
