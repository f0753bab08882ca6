package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rkt/internal/escape"
	"rkt/stage0/logs"
	"rkt/stage0/pod"
	"rkt/stage1/contract"
)

// logsOptions are the flags of "rkt logs".
type logsOptions struct {
	format       string
	follow       bool
	since, until timeOption
	lines        string
	timestamps   bool
}

func (o *logsOptions) flags(fs *pflag.FlagSet) {
	fs.StringVar(&o.format, "format", "", `"json" for one object per line`)
	fs.BoolVarP(&o.follow, "follow", "f", false, "go on until the pod ends")
	fs.Var(&o.since, "since", "no older lines than this: a time, or a duration before now such as 10m")
	fs.Var(&o.until, "until", "no newer lines than this: a time, or a duration before now")
	fs.StringVarP(&o.lines, "lines", "n", "all", "how many of the last lines")
	fs.BoolVarP(&o.timestamps, "timestamps", "t", false, "put its time before each line")
}

func newLogsCommand(env *environment) *cobra.Command {
	var o logsOptions
	c := &cobra.Command{
		Use:   "logs POD [APP]",
		Short: "Show what the apps of a pod have written",
		Long: `Show what the apps of a pod have written: those of a pod that was started with
--detach, or by a unit whose output goes to the journal. Of several apps, each
line begins with the name of its app. What an app has written to its standard
error goes there.

The log of a pod is that of the host's journal, which keeps it as long as its own
configuration says; where there is no journal it is in files that go with the pod.
A time is "2006-01-02 15:04:05", "15:04", or as in RFC 3339.`,
		Example: `  rkt logs web
  rkt logs --follow --lines=20 web nginx
  rkt logs --since=1h --format=json web | jq -r .message`,
		ValidArgsFunction: env.completeOnePod,
		RunE:              func(c *cobra.Command, args []string) error { return showLogs(c.Context(), env, &o, args) },
	}
	o.flags(c.Flags())
	return c
}

func showLogs(ctx context.Context, env *environment, o *logsOptions, args []string) error {
	const help = "rkt logs --help"
	query, err := o.query()
	if err != nil {
		return &usageError{message: err.Error(), help: help}
	}
	if len(args) < 1 || len(args) > 2 {
		return &usageError{message: fmt.Sprintf("expected a pod and perhaps an app, got %d arguments", len(args)), help: help}
	}
	if err := requireRoot("logs"); err != nil {
		return err
	}
	if len(args) == 2 {
		query.App = args[1]
	}
	out := &logWriter{env: env, json: o.format != "", timestamps: o.timestamps}
	p, err := env.findPod(args[0])
	if errors.Is(err, pod.ErrNotFound) {
		return removedLogs(ctx, args[0], query, out, err)
	}
	if err != nil {
		return err
	}
	defer p.Close()
	if err := podLogs(ctx, env, p, query, o.follow, out); err != nil {
		return fmt.Errorf("logs of pod %s: %w", p.UUID(), err)
	}
	return nil
}

func (o *logsOptions) query() (logs.Query, error) {
	q := logs.Query{Since: o.since.Time, Until: o.until.Time, Lines: -1}
	if o.format != "" && o.format != "json" {
		return q, fmt.Errorf("unknown format %q, known is json", o.format)
	}
	if o.lines != "all" {
		n, err := strconv.ParseUint(o.lines, 10, 31)
		if err != nil {
			return q, fmt.Errorf(`--lines: %q is neither a number nor "all"`, o.lines)
		}
		q.Lines = int(n)
	}
	if o.follow && !q.Until.IsZero() {
		return q, errors.New("--follow and --until exclude each other")
	}
	return q, nil
}

// removedLogs shows what the journal has of a pod that is gone, for whoever
// knows its whole UUID. missing is the error if that is not one.
func removedLogs(ctx context.Context, word string, q logs.Query, out *logWriter, missing error) error {
	id, err := pod.ParseUUID(word)
	if err != nil {
		return missing
	}
	out.named = q.App == ""
	if err := logs.Journal(ctx, id.String(), q, out.write); err != nil && !errors.Is(err, logs.ErrNoJournal) {
		return fmt.Errorf("logs of pod %s: %w", id, err)
	}
	if !out.some {
		return missing
	}
	return nil
}

// podLogs shows the logs of a pod.
func podLogs(ctx context.Context, env *environment, p *pod.Pod, q logs.Query, follow bool, out *logWriter) error {
	c, err := p.Contract()
	if err != nil {
		return err
	}
	var files []logs.File
	known := false
	for _, name := range c.Apps {
		app, err := p.App(name)
		if err != nil {
			return err
		}
		known = known || name == q.App
		if app.Stdout.Kind == contract.StreamFile {
			// The pod may move: its folder is the one that is open.
			path := fmt.Sprintf("/proc/self/fd/%d/%s", p.Folder().Fd(), filepath.Join(contract.AppsDir, name, contract.LogFile))
			files = append(files, logs.File{App: name, Path: path})
		}
	}
	if q.App != "" && !known {
		return fmt.Errorf("there is no app %q, there are %q", q.App, c.Apps)
	}
	if follow {
		q.Ended = func(ctx context.Context) error { return awaitEnd(ctx, env, p.UUID()) }
	}
	out.named = q.App == "" && len(c.Apps) > 1
	if len(files) > 0 {
		return logs.Files(ctx, files, q, out.write)
	}
	err = logs.Journal(ctx, c.UUID, q, out.write)
	if errors.Is(err, logs.ErrNoJournal) {
		err = nil
	}
	if err == nil && !out.some {
		fmt.Fprintln(env.stderr, "rkt: there are no lines; without --detach, the output of a pod goes to where it was started")
	}
	return err
}

// awaitEnd waits for the end of a pod, which it opens for itself: a Pod is not
// safe to share. A pod that is gone has ended.
func awaitEnd(ctx context.Context, env *environment, id pod.UUID) error {
	p, err := env.dir.Get(id)
	if errors.Is(err, pod.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer p.Close()
	return p.AwaitEnd(ctx)
}

// logWriter shows entries.
type logWriter struct {
	env        *environment
	json       bool
	timestamps bool
	named      bool // each line begins with the name of its app
	some       bool // there was an entry
	partial    map[string]bool
}

func (w *logWriter) write(e logs.Entry) error {
	w.some = true
	if w.json {
		return w.object(e)
	}
	out := w.env.stdout
	if e.Stream == "stderr" {
		out = w.env.stderr
	}
	_, err := io.WriteString(out, w.line(e, isTerminal(out)))
	return err
}

// line is an entry as text. Of a line in parts, only the first has what goes
// before it, and the last one ends it.
func (w *logWriter) line(e logs.Entry, terminal bool) string {
	text := string(e.Message)
	if terminal {
		text = visibleLine(text)
	}
	stream := e.App + "/" + e.Stream
	if !w.partial[stream] {
		if w.named && e.App != "" {
			text = escape.Text(e.App) + " | " + text
		}
		if w.timestamps {
			text = exactTime(e.Time) + " " + text
		}
	}
	if w.partial == nil {
		w.partial = make(map[string]bool)
	}
	if w.partial[stream] = e.Partial; !e.Partial {
		text += "\n"
	}
	return text
}

// visibleLine makes a line safe for a terminal. Tabs stay.
func visibleLine(s string) string {
	parts := strings.Split(s, "\t")
	for i := range parts {
		parts[i] = escape.Text(parts[i])
	}
	return strings.Join(parts, "\t")
}

// logEntry is an entry as JSON. A message that is not UTF-8 is in Bytes.
type logEntry struct {
	Time     string `json:"time"`
	App      string `json:"app,omitempty"`
	Stream   string `json:"stream,omitempty"`
	Priority int    `json:"priority"`
	Message  string `json:"message"`
	Bytes    string `json:"bytes,omitempty"` // base64
	Partial  bool   `json:"partial,omitempty"`
}

func (w *logWriter) object(e logs.Entry) error {
	j := logEntry{Time: exactTime(e.Time), App: e.App, Stream: e.Stream, Priority: e.Priority, Message: string(e.Message), Partial: e.Partial}
	if !utf8.Valid(e.Message) {
		j.Bytes = base64.StdEncoding.EncodeToString(e.Message)
	}
	return (&formatOption{format: "json"}).writeJSON(w.env.stdout, j)
}

// timeOption is the value of flags that take a time.
type timeOption struct{ time.Time }

// String implements pflag.Value.
func (o *timeOption) String() string {
	if o.IsZero() {
		return ""
	}
	return exactTime(o.Time)
}

// Type implements pflag.Value.
func (o *timeOption) Type() string { return "time" }

// Set implements pflag.Value.
func (o *timeOption) Set(s string) error {
	now := time.Now()
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		o.Time = now.Add(-d)
		return nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			o.Time = t
			return nil
		}
	}
	for _, layout := range []string{time.TimeOnly, "15:04"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			o.Time = time.Date(now.Year(), now.Month(), now.Day(), t.Hour(), t.Minute(), t.Second(), 0, time.Local)
			return nil
		}
	}
	return fmt.Errorf("%q is neither a duration such as 10m nor a time such as 2006-01-02 15:04:05", s)
}
