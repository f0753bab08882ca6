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

// ErrWeak is a process that cannot be confined as fully as was demanded.
var ErrWeak = errors.New("rkt-fetch cannot be confined fully here")

// confirm waits until the process has confined itself, reads back that it has,
// and gives it the request. It returns what is lacking, "" = nothing; with demand
// that is ErrWeak.
func (p *process) confirm(l *launcher, request wire.Request, demand bool) (lacking string, err error) {
	m, err := p.receive(startGrace)
	if err != nil {
		return "", err
	}
	if m.Type == wire.Failed {
		return "", fmt.Errorf("rkt-fetch cannot confine itself: %s", escape.Text(m.Text))
	}
	lines := wire.Line(m.Bytes)
	if m.Type != wire.Confined || m.Total != uint64(p.role.Lines()) || lines&^p.role.Lines() != 0 {
		return "", errors.New("rkt-fetch does not say how it is confined; is it of the same version?")
	}
	if err := p.readBack(lines, l.id); err != nil {
		return "", err
	}
	if missing := p.role.Lines() &^ lines; missing != 0 {
		why := l.why()
		if m.Text != "" {
			why = append(why, escape.Text(m.Text))
		}
		lacking = fmt.Sprintf("the %s part of rkt-fetch is not confined by: %s (%s)", p.role, strings.Join(missing.Names(), ", "), strings.Join(why, "; "))
		if demand {
			return lacking, fmt.Errorf("%w: %s", ErrWeak, lacking)
		}
	}
	if err := wire.WriteRequest(p.orders, request); err != nil {
		return "", fmt.Errorf("ask rkt-fetch: %w", p.explain(err, 0))
	}
	return lacking, nil
}

// receive returns the next message. It fails with ErrSilent when there is none
// within silence (0 = wait for ever), with the context's error when that ended,
// and with ErrEnded, told how, when the process is gone.
func (p *process) receive(silence time.Duration) (wire.Message, error) {
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

// cutOff makes a receive that waits return; what still holds the other end of
// the pipe may be a grandchild.
func (p *process) cutOff() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	p.report.SetReadDeadline(time.Unix(1, 0))
}

// explain tells why the pipe failed: because of the caller, or of the process.
func (p *process) explain(err error, silence time.Duration) error {
	if cause := context.Cause(p.ctx); cause != nil {
		return cause
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("%w for %v", ErrSilent, silence)
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
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

// wait waits for the process to end by itself after Done and fails when it does
// not, or when its exit status says that something went wrong after all.
func (p *process) wait() error {
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

// close kills the process if it still runs and waits until it is gone, so that
// nobody writes to its files afterwards. It can be called again.
func (p *process) close() {
	p.cancel()
	<-p.ended
	p.orders.Close()
	p.report.Close()
}
