package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// File is the log of an app.
type File struct{ App, Path string }

// older is what a log is renamed to when it is full.
func (f File) older() string { return f.Path + ".1" }

// Files reads the logs of the apps of a pod from files of lines TIME STREAM F|P
// TEXT. One that is not there is empty.
func Files(ctx context.Context, files []File, q Query, sink Sink) error {
	var all []*tail
	for _, f := range files {
		if q.App != "" && f.App != q.App {
			continue
		}
		t := &tail{file: f}
		defer t.close()
		all = append(all, t)
	}
	var events *watch
	if q.Ended != nil {
		var err error
		if events, err = newWatch(ctx, all, q.Ended); err != nil {
			return err
		}
		defer events.close()
	}
	last := &lastEntries{max: q.Lines, sink: sink}
	if err := merge(all, &q, last.add); err != nil {
		return err
	}
	if err := last.done(); err != nil || events == nil {
		return err
	}
	for {
		over, err := events.next()
		if err != nil {
			return err
		}
		if err := merge(all, &q, sink); err != nil || over {
			return err
		}
	}
}

// merge gives what there is to be read, in the order of time, to the sink.
func merge(all []*tail, q *Query, sink Sink) error {
	for {
		var first *tail
		for _, t := range all {
			if err := t.peek(); err != nil {
				return err
			}
			if t.ready && (first == nil || t.head.Time.Before(first.head.Time)) {
				first = t
			}
		}
		if first == nil {
			return nil
		}
		first.ready = false
		if !q.wants(&first.head) {
			continue
		}
		if err := sink(first.head); err != nil {
			return err
		}
	}
}

// lastEntries keeps the last entries until it is done.
type lastEntries struct {
	max  int // negative = all
	sink Sink
	kept []Entry
}

func (l *lastEntries) add(e Entry) error {
	if l.max < 0 {
		return l.sink(e)
	}
	if l.kept = append(l.kept, e); len(l.kept) > l.max {
		l.kept = l.kept[1:]
	}
	return nil
}

func (l *lastEntries) done() error {
	for _, e := range l.kept {
		if err := l.sink(e); err != nil {
			return err
		}
	}
	l.kept = nil
	return nil
}

// tail reads the log of one app, first the older file, and goes on where it
// stopped.
type tail struct {
	file  File
	open  *os.File
	in    *bufio.Reader
	begun bool
	part  []byte // of a line
	head  Entry  // the next entry, if ready
	ready bool
}

// peek makes the next entry ready, if there is one.
func (t *tail) peek() error {
	for !t.ready {
		if t.open == nil {
			if err := t.first(); err != nil || t.open == nil {
				return err
			}
		}
		line, err := t.line()
		if err == io.EOF {
			moved, err := t.further()
			if err != nil || !moved {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		t.head, t.ready = parse(line, t.file.App)
	}
	return nil
}

// maxLine bounds a line: 16 KiB of text, the time, the stream and the tag.
const maxLine = 17 << 10

// line reads a whole line. What is longer than any that rkt writes is cut.
func (t *tail) line() ([]byte, error) {
	for {
		part, err := t.in.ReadSlice('\n')
		t.part = append(t.part, part[:min(len(part), maxLine-len(t.part))]...)
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return nil, err
		}
		line := bytes.TrimSuffix(t.part, []byte{'\n'})
		t.part = nil
		return line, nil
	}
}

// first opens the older file, else the log.
func (t *tail) first() error {
	if !t.begun {
		t.begun = true
		if err := t.use(t.file.older()); err != nil || t.open != nil {
			return err
		}
	}
	return t.use(t.file.Path)
}

// use opens a file. If it is not there, nothing is open afterwards.
func (t *tail) use(path string) error {
	t.close()
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	t.open, t.in = f, bufio.NewReaderSize(f, 16<<10)
	return nil
}

// further goes on to the log when what is open has been renamed and read.
func (t *tail) further() (bool, error) {
	now, err := os.Stat(t.file.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // between two files, or removed with the pod
	}
	if err != nil {
		return false, fmt.Errorf("read log: %w", err)
	}
	own, err := t.open.Stat()
	if err != nil || os.SameFile(now, own) {
		return false, err
	}
	// Something may have been written since the end was seen, and nothing will be.
	if b, err := t.in.Peek(1); len(b) > 0 || err != io.EOF {
		return true, nil
	}
	return true, t.use(t.file.Path)
}

func (t *tail) close() {
	if t.open != nil {
		t.open.Close()
	}
	t.open, t.in, t.part = nil, nil, nil
}

// parse reads a line of a log. What is none is not an entry: a crash of the host
// can leave anything.
func parse(line []byte, app string) (Entry, bool) {
	f := bytes.SplitN(line, []byte{' '}, 4)
	if len(f) != 4 {
		return Entry{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(f[0]))
	if err != nil {
		return Entry{}, false
	}
	return Entry{Time: at, App: app, Stream: string(f[1]), Priority: defaultPriority, Message: f[3], Partial: string(f[2]) == "P"}, true
}

// watch waits for changes of logs and for the end of a pod.
type watch struct {
	events *os.File
	cancel context.CancelFunc
	ended  chan error
}

func newWatch(ctx context.Context, all []*tail, ended func(context.Context) error) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch logs: %w", err)
	}
	w := &watch{events: os.NewFile(uintptr(fd), "inotify"), ended: make(chan error, 1)}
	for _, t := range all {
		dir := filepath.Dir(t.file.Path)
		if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
			w.events.Close()
			return nil, fmt.Errorf("watch logs: %w", &os.PathError{Op: "watch", Path: dir, Err: err})
		}
	}
	ctx, w.cancel = context.WithCancel(ctx)
	go func() {
		w.ended <- ended(ctx)
		_ = w.events.SetReadDeadline(time.Now()) // wakes next
	}()
	return w, nil
}

// next waits for the next change. over is true when there will be no more.
func (w *watch) next() (over bool, err error) {
	buf := make([]byte, 4096)
	if _, err := w.events.Read(buf); err == nil {
		return false, nil
	} else if !errors.Is(err, os.ErrDeadlineExceeded) {
		return true, fmt.Errorf("watch logs: %w", err)
	}
	err = <-w.ended
	w.ended <- err
	return true, err
}

func (w *watch) close() {
	w.cancel()
	<-w.ended
	w.events.Close()
}
