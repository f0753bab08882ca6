package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"time"
)

const (
	// syncLimit bounds the wait until the journal has written what it was sent.
	syncLimit = 5 * time.Second
	// maxComplaint bounds what is kept of what journalctl says on stderr.
	maxComplaint = 1024
)

// ErrNoJournal reports a host without journalctl.
var ErrNoJournal = errors.New("this host has no journalctl")

// Journal reads the entries of a pod from the host's journal, by journalctl(1).
// Entries of others that claim to be of the pod are not among them.
func Journal(ctx context.Context, uuid string, q Query, sink Sink) error {
	program, err := exec.LookPath("journalctl")
	if err != nil {
		return ErrNoJournal
	}
	r := &journalReader{program: program, sink: sink}
	r.match = matches(uuid, q.App)
	r.sync(ctx)
	if q.Ended == nil {
		return r.run(ctx, append(bounds(q), lines(q))...)
	}
	return r.follow(ctx, q)
}

// matches are the arguments of journalctl for the output of a pod. Only root may
// have written it: anybody can send an entry with any fields.
func matches(uuid, app string) []string {
	pod := []string{"_UID=0", "RKT_POD=" + uuid}
	apps := append(pod, "RKT_STREAM=stdout", "RKT_STREAM=stderr")
	if app != "" {
		return append(apps, "RKT_APP="+app)
	}
	// What runs a detached pod writes to a stream that has the fields of its unit;
	// so do the messages of systemd about it, which are of another kind.
	return append(append(append([]string{}, apps...), "+", "_TRANSPORT=stdout"), pod...)
}

// journalReader runs journalctl.
type journalReader struct {
	program string
	match   []string
	sink    Sink
	cursor  string // of the last entry
}

// follow reads until the pod has ended, and then what is left.
func (r *journalReader) follow(ctx context.Context, q Query) error {
	following, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- q.Ended(following)
		stop()
	}()
	err := r.run(following, append(bounds(q), lines(q), "--follow")...)
	enough := following.Err() != nil
	stop()
	endErr := <-ended
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !enough: // journalctl has ended by itself
		return err
	case endErr != nil:
		return endErr
	}
	r.sync(ctx)
	rest := append(bounds(q), lines(q))
	if r.cursor != "" {
		rest = []string{"--after-cursor=" + r.cursor}
	}
	return r.run(ctx, rest...)
}

// sync makes the journal write what it has been sent. Where that fails, the last
// entries may be missing; there is no more to be done about it.
func (r *journalReader) sync(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, syncLimit)
	defer cancel()
	_ = exec.CommandContext(ctx, r.program, "--sync").Run()
}

// run runs journalctl with further arguments and gives its entries to the sink.
func (r *journalReader) run(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	args = append(args, "--quiet", "--no-pager", "--all", "--output=export",
		"--output-fields=MESSAGE,PRIORITY,RKT_APP,RKT_STREAM,RKT_PARTIAL", "--")
	cmd := exec.CommandContext(ctx, r.program, append(args, r.match...)...)
	complaint := &beginning{}
	cmd.Stderr = complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("read journal: %w", err)
	}
	readErr := r.read(out)
	if readErr != nil {
		cancel() // it may go on for ever
	}
	err = cmd.Wait()
	switch {
	case readErr != nil && !errors.Is(readErr, io.ErrUnexpectedEOF):
		return readErr
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("read journal: %w: %s", err, bytes.TrimSpace(complaint.b))
	}
	return readErr
}

// read gives the entries of an export to the sink.
func (r *journalReader) read(from io.Reader) error {
	d := newExport(from)
	for {
		fields, err := d.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.sink(entryOf(fields)); err != nil {
			return err
		}
		r.cursor = string(fields["__CURSOR"])
	}
}

func entryOf(fields map[string][]byte) Entry {
	e := Entry{
		App: string(fields["RKT_APP"]), Stream: string(fields["RKT_STREAM"]), Priority: defaultPriority,
		Message: fields["MESSAGE"], Partial: string(fields["RKT_PARTIAL"]) == "true",
	}
	if micros, err := strconv.ParseInt(string(fields["__REALTIME_TIMESTAMP"]), 10, 64); err == nil {
		e.Time = time.UnixMicro(micros)
	}
	if n, err := strconv.Atoi(string(fields["PRIORITY"])); err == nil {
		e.Priority = n
	}
	return e
}

func bounds(q Query) []string {
	var args []string
	if !q.Since.IsZero() {
		args = append(args, "--since="+stamp(q.Since))
	}
	if !q.Until.IsZero() {
		args = append(args, "--until="+stamp(q.Until))
	}
	return args
}

// stamp writes a time as journalctl reads it, to the microsecond.
func stamp(t time.Time) string {
	return fmt.Sprintf("@%d.%06d", t.Unix(), t.Nanosecond()/1000)
}

func lines(q Query) string {
	if q.Lines < 0 {
		return "--lines=all"
	}
	return "--lines=" + strconv.Itoa(q.Lines)
}

// beginning keeps the beginning of what is written to it.
type beginning struct{ b []byte }

func (t *beginning) Write(b []byte) (int, error) {
	t.b = append(t.b, b[:min(len(b), maxComplaint-len(t.b))]...)
	return len(b), nil
}
