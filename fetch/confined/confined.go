// Package confined starts rkt-fetch, which reads what strangers wrote, and speaks
// fetch/wire with it. rkt-fetch is several processes, each with one role and
// nothing that the role does not need: one with the network and the credentials,
// or with a local image; and for each layer one that sees the bytes of this layer
// and nothing else. They are handed files as descriptors, a request over a
// socket, and each other's bytes through pipes, so that no secret is in an
// argument or in the environment, and no process can touch what another made.
//
// An image is brought by a Session, which Start begins; Run and StartJob do a single job.
package confined

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"rkt/fetch/wire"
)

// Options say how to start rkt-fetch.
type Options struct {
	Program string
	// Demand refuses to go on where a line of confinement cannot be had. Without
	// it what is lacking is a Note.
	Demand bool
}

// Job is one process with one role.
type Job struct {
	Role wire.Role
	// Spool and Source are what the role has of them; nil = not.
	Spool, Source *os.File
	// Facts is the folder that a file with facts is made in, and its name.
	FactsDir  *os.File
	FactsName string
	Request   wire.Request
}

// Task is a running Job. Close must be called.
type Task struct {
	l       *launcher
	p       *process
	lacking string // still to be said
}

// StartJob starts rkt-fetch for the job, confined, and gives it the request. It
// is killed when ctx ends, when Close is called, and by the kernel when this
// process dies. The files stay the caller's and may be closed.
func StartJob(ctx context.Context, o Options, j Job) (*Task, error) {
	l, err := newLauncher(o.Program)
	if err != nil {
		return nil, err
	}
	t := &Task{l: l}
	given := files{wire.SpoolFD: j.Spool, wire.SourceFD: j.Source}
	if j.FactsDir != nil {
		if given[wire.FactsFD], err = create(j.FactsDir, j.FactsName, l.id); err != nil {
			l.close()
			return nil, err
		}
		defer given[wire.FactsFD].Close()
	}
	t.p, err = l.start(ctx, j.Role, given)
	if err == nil {
		t.lacking, err = t.p.confirm(l, j.Request, o.Demand)
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// Receive returns the next message; the first one may be a Note of what its
// confinement lacks. It fails with ErrSilent when there is none within silence
// (0 = wait for ever), with the context's error when that ended, and with
// ErrEnded, told how, when the process is gone.
func (t *Task) Receive(silence time.Duration) (wire.Message, error) {
	if t.lacking != "" {
		m := wire.Message{Type: wire.Note, Text: t.lacking}
		t.lacking = ""
		return m, nil
	}
	return t.p.receive(silence)
}

// Wait waits for the process to end by itself after Done and fails when it does
// not, or when its exit status says that something went wrong after all.
func (t *Task) Wait() error { return t.p.wait() }

// Close kills the process if it still runs and waits until it is gone. It can be
// called again.
func (t *Task) Close() {
	if t.p != nil {
		t.p.close()
	}
	t.l.close()
}

// maxSaid bounds the messages of a job.
const maxSaid = 1000

// Run does the job and returns when its process is gone: nil when it has said
// Done. Everything else that it says within silence goes to said, of which an
// error ends the job.
func Run(ctx context.Context, o Options, j Job, silence time.Duration, said func(wire.Message) error) error {
	t, err := StartJob(ctx, o, j)
	if err != nil {
		return err
	}
	defer t.Close()
	for range maxSaid {
		m, err := t.Receive(silence)
		if err != nil {
			return err
		}
		if m.Type == wire.Done {
			return t.Wait()
		}
		if err := said(m); err != nil {
			return err
		}
	}
	return errors.New("rkt-fetch sends more messages than it can have to send")
}

// Line is a line of confinement as this host grants it.
type Line struct {
	Name    string
	Granted bool
}

// Check starts a process in the role, which does nothing, and tells which lines
// of confinement it has, and why not the others, "" if there are none.
func Check(ctx context.Context, program string, role wire.Role) (lines []Line, why string, err error) {
	l, err := newLauncher(program)
	if err != nil {
		return nil, "", err
	}
	defer l.close()
	folder, err := os.Open("/")
	if err != nil {
		return nil, "", err
	}
	defer folder.Close()
	p, err := l.start(ctx, role, files{wire.SpoolFD: folder})
	if err != nil {
		return nil, "", err
	}
	defer p.close()
	m, err := p.receive(startGrace)
	if err != nil {
		return nil, "", err
	}
	if m.Type != wire.Confined {
		return nil, "", fmt.Errorf("rkt-fetch does not say how it is confined: %q", m.Text)
	}
	held := wire.Line(m.Bytes)
	if err := p.readBack(held, l.id); err != nil {
		return nil, "", err
	}
	for _, name := range role.Lines().Names() {
		line := Line{Name: name}
		for _, h := range held.Names() {
			line.Granted = line.Granted || h == name
		}
		lines = append(lines, line)
	}
	return lines, joined(append(l.why(), m.Text)), nil
}
