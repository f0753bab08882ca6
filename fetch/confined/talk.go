package confined

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
	"rkt/internal/escape"
)

// ErrEnded is a process that ended, or closed its pipe, without Done or Failed.
var ErrEnded = errors.New("rkt-fetch ended before it was done")

// ErrSilent is a process that said nothing for too long.
var ErrSilent = errors.New("rkt-fetch says nothing")

// Receive returns the next message. It fails with ErrSilent when there is none
// within silence (0 = wait for ever), with the context's error when that ended,
// and with ErrEnded, told how, when the process is gone.
func (p *Process) Receive(silence time.Duration) (wire.Message, error) {
	deadline := time.Time{}
	if silence > 0 {
		deadline = time.Now().Add(silence)
	}
	p.mu.Lock()
	if !p.cut {
		p.report.SetReadDeadline(deadline)
	}
	p.mu.Unlock()

	m, err := wire.Receive(p.report)
	if err != nil {
		return wire.Message{}, p.explain(err, silence)
	}
	return m, nil
}

// Order answers Resolved with the layers that are wanted.
func (p *Process) Order(o wire.Order) error {
	if err := wire.SendOrder(p.orders, o); err != nil {
		return p.explain(err, 0)
	}
	return nil
}

// cutOff makes a Receive that waits return; what still holds the other end of
// the pipe may be a grandchild.
func (p *Process) cutOff() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	p.report.SetReadDeadline(time.Unix(1, 0))
}

// explain tells why the pipe failed: because of the caller, or of the process.
func (p *Process) explain(err error, silence time.Duration) error {
	if cause := context.Cause(p.ctx); cause != nil {
		return cause
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w for %v", ErrSilent, silence)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, unix.EPIPE) {
		return err
	}
	select {
	case <-p.ended:
	case <-time.After(exitGrace):
		return fmt.Errorf("%w: it closed its pipe", ErrEnded)
	}
	how := "exit status 0"
	var exit *exec.ExitError
	if errors.As(p.err, &exit) {
		how = exit.ProcessState.String()
	}
	if text := strings.TrimSpace(p.stderr.String()); text != "" {
		how += ": " + escape.Text(text)
	}
	return fmt.Errorf("%w: %s", ErrEnded, how)
}

// Wait waits for the process to end by itself after Done and fails when it does
// not, or when its exit status says that something went wrong after all.
func (p *Process) Wait() error {
	p.orders.Close()
	select {
	case <-p.ended:
	case <-time.After(exitGrace):
		return fmt.Errorf("rkt-fetch goes on %v after it said that it is done", exitGrace)
	}
	if p.err != nil {
		return fmt.Errorf("%w: %v", ErrEnded, p.err)
	}
	return nil
}

// Close kills the process if it still runs and waits until it is gone, so that
// nobody writes to the spool afterwards. It can be called again.
func (p *Process) Close() {
	p.cancel()
	<-p.ended
	p.orders.Close()
	p.report.Close()
}
