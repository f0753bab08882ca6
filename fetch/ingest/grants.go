package ingest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"rkt/fetch/ingest/fault"
	"rkt/fetch/wire"
)

// grants asks the privileged half for files: pipes to those who read layers, and
// the files of an image layout. It may be used by several goroutines.
type grants struct {
	report *reporter
	orders *os.File

	receive sync.Mutex // one receives for all
	mu      sync.Mutex
	count   uint32
	come    map[wire.Grant]granted // received for somebody else; without Errno
}

type granted struct {
	fd    int
	errno unix.Errno
}

func newGrants(orders *os.File, report *reporter) *grants {
	return &grants{orders: orders, report: report, come: map[wire.Grant]granted{}}
}

// pipe asks for a pipe to a new reader of the layer. What is written to it is
// read from the layer's first byte on.
func (g *grants) pipe(layer uint32) (*os.File, error) {
	if err := g.report.send(wire.Message{Type: wire.Need, Layer: layer}); err != nil {
		return nil, err
	}
	return g.wait(wire.Grant{Type: wire.Need, Number: layer}, "layer")
}

// file asks for a file of the image layout.
func (g *grants) file(path string) (*os.File, error) {
	g.mu.Lock()
	g.count++
	n := g.count
	g.mu.Unlock()
	if err := g.report.send(wire.Message{Type: wire.Open, Bytes: uint64(n), Total: uint64(n), Text: path}); err != nil {
		return nil, err
	}
	return g.wait(wire.Grant{Type: wire.Open, Number: n}, path)
}

// memory asks for so many bytes of memory.
func (g *grants) memory(bytes int64) error {
	err := g.report.send(wire.Message{Type: wire.Need, Bytes: uint64(bytes), Total: uint64(bytes)})
	if err != nil {
		return err
	}
	_, err = g.wait(wire.Grant{Type: wire.Need}, "")
	return err
}

// wait waits for the grant and returns its file, nil if it brings none.
func (g *grants) wait(want wire.Grant, name string) (*os.File, error) {
	for {
		g.receive.Lock()
		a, ok := g.take(want)
		if !ok {
			err := g.next()
			g.receive.Unlock()
			if err != nil {
				return nil, fmt.Errorf("wait for a grant: %w", err)
			}
			continue
		}
		g.receive.Unlock()
		switch {
		case a.errno == unix.ENOENT:
			return nil, fault.New(wire.CodeNotFound, "%.200q is not there", name)
		case a.errno != 0:
			return nil, fmt.Errorf("open %.200q: %w", name, a.errno)
		case a.fd < 0:
			return nil, nil
		}
		return os.NewFile(uintptr(a.fd), name), nil
	}
}

func (g *grants) next() error {
	got, fd, err := wire.ReceiveGrant(int(g.orders.Fd()))
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.come[wire.Grant{Type: got.Type, Number: got.Number}] = granted{fd, got.Errno}
	return nil
}

func (g *grants) take(want wire.Grant) (granted, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	a, ok := g.come[want]
	delete(g.come, want)
	return a, ok
}
