package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rkt/fetch"
	"rkt/internal/escape"
)

// progress shows what a fetch does.
type progress interface {
	show(fetch.Event)
	// settle leaves what is shown as it is, so that something else may write.
	settle()
}

// newProgress chooses how to show the fetch: bars when out is a terminal that
// can move its cursor, else lines.
func newProgress(out io.Writer) progress {
	f, ok := out.(*os.File)
	if ok && os.Getenv("TERM") != "dumb" {
		if _, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil {
			return &bars{out: f, size: func() (int, int) { return windowSize(f) }, now: time.Now}
		}
	}
	return &lines{out: out}
}

// windowSize returns columns and rows; 80 by 24 when the terminal does not know.
func windowSize(f *os.File) (columns, rows int) {
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || ws.Col == 0 || ws.Row == 0 {
		return 80, 24
	}
	return int(ws.Col), int(ws.Row)
}

// lines shows a fetch as lines of text without any escape sequence.
type lines struct {
	out    io.Writer
	layers int
	done   int
}

func (l *lines) show(e fetch.Event) {
	if text := l.line(e); text != "" {
		fmt.Fprintf(l.out, "rkt: %s\n", text)
	}
}

func (l *lines) settle() {}

// line tells about e in one line; "" when there is nothing to tell.
func (l *lines) line(e fetch.Event) string {
	switch e := e.(type) {
	case fetch.Resolved:
		l.layers, l.done = len(e.Layers), 0
		return resolvedText(e)
	case fetch.Stored:
		l.done++
		return fmt.Sprintf("layer %d of %d is verified and stored", e.Layer+1, l.layers)
	}
	return commonText(e)
}

// commonText is the line for the events that look the same everywhere.
func commonText(e fetch.Event) string {
	switch e := e.(type) {
	case fetch.Started:
		return "fetching " + escape.Text(e.Reference)
	case fetch.Waiting:
		who := "another fetch"
		if e.PID > 0 {
			who = fmt.Sprintf("another fetch (pid %d)", e.PID)
		}
		return fmt.Sprintf("waiting for %s of %s", who, escape.Text(e.Reference))
	case fetch.Note:
		return "note: " + escape.Text(e.Text)
	}
	return ""
}

func resolvedText(e fetch.Resolved) string {
	var missing int
	var size int64
	for _, l := range e.Layers {
		if !l.Present {
			missing++
			size += l.Size
		}
	}
	if missing == 0 {
		return fmt.Sprintf("%s is %s, all %d layers are here", escape.Text(e.Reference), shortID(e.ID), len(e.Layers))
	}
	return fmt.Sprintf("%s is %s, %d of %d layers to bring, %s",
		escape.Text(e.Reference), shortID(e.ID), missing, len(e.Layers), byteSize(size))
}

// redrawEvery bounds how often the bars are drawn; the eye sees no more.
const redrawEvery = 100 * time.Millisecond

// bars shows a line per layer that is being brought and redraws them in place.
type bars struct {
	out  io.Writer
	size func() (columns, rows int)
	now  func() time.Time

	rows  []bar
	drawn int // lines on the screen that the next drawing replaces
	width int // columns when they were drawn
	last  time.Time
}

type bar struct {
	name        string
	bytes, size int64
	present     bool
	stored      bool
}

func (b *bars) show(e fetch.Event) {
	switch e := e.(type) {
	case fetch.Progress:
		if e.Layer < len(b.rows) {
			b.rows[e.Layer].bytes, b.rows[e.Layer].size = e.Bytes, e.Total
		}
		if b.now().Sub(b.last) >= redrawEvery {
			b.draw()
		}
	case fetch.Stored:
		if e.Layer < len(b.rows) {
			b.rows[e.Layer].stored = true
		}
		b.draw()
	case fetch.Resolved:
		b.settle()
		fmt.Fprintf(b.out, "rkt: %s\n", resolvedText(e))
		b.rows = nil
		for _, l := range e.Layers {
			b.rows = append(b.rows, bar{name: shortID(l.DiffID), size: l.Size, present: l.Present})
		}
	case fetch.Ready:
		b.draw()
		b.settle()
		b.rows = nil
	default:
		if text := commonText(e); text != "" {
			b.erase()
			fmt.Fprintf(b.out, "rkt: %s\n", text)
			b.draw()
		}
	}
}

func (b *bars) settle() { b.drawn = 0 }

// erase takes the drawn lines from the screen. After a change of the width
// nobody knows how many lines they are now, so they stay and new ones follow.
func (b *bars) erase() {
	columns, _ := b.size()
	if b.drawn > 0 && columns == b.width {
		fmt.Fprintf(b.out, "\x1b[%dA\x1b[J", b.drawn)
	}
	b.drawn = 0
}

// draw replaces the drawn lines. A line never fills the last column, so that
// none wraps, and there are never more lines than the screen can move up.
func (b *bars) draw() {
	columns, rows := b.size()
	var text strings.Builder
	drawn := 0
	for _, line := range b.visible(rows - 2) {
		if len(line) > columns-1 {
			line = line[:max(columns-1, 0)]
		}
		text.WriteString(line + "\n")
		drawn++
	}
	b.erase()
	io.WriteString(b.out, text.String())
	b.drawn, b.width, b.last = drawn, columns, b.now()
}

// visible returns at most limit lines: all layers to bring when they fit, else
// a sum of the finished ones and those at work.
func (b *bars) visible(limit int) []string {
	var all, busy []string
	done := 0
	for _, r := range b.rows {
		switch {
		case r.present:
			continue
		case r.stored:
			done++
		case r.bytes > 0:
			busy = append(busy, r.String())
		}
		all = append(all, r.String())
	}
	if len(all) <= limit {
		return all
	}
	busy = append([]string{fmt.Sprintf("  %d of %d layers stored", done, len(all))}, busy...)
	return busy[:min(len(busy), max(limit, 0))]
}

// String draws one line, in ASCII: every byte of it is a column.
func (r bar) String() string {
	const cells = 30
	filled := 0
	if r.size > 0 {
		filled = int(min(r.bytes, r.size) * cells / r.size)
	}
	state := fmt.Sprintf("%s / %s", byteSize(r.bytes), byteSize(r.size))
	if r.stored {
		filled, state = cells, byteSize(r.size)+" stored"
	}
	return fmt.Sprintf("  %s [%s%s] %s", r.name, strings.Repeat("=", filled), strings.Repeat(" ", cells-filled), state)
}

// byteSize writes n with three significant digits and a binary unit.
func byteSize(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), -1
	for value >= 1024 && unit < 4 {
		value /= 1024
		unit++
	}
	digits := 1
	if value >= 100 {
		digits = 0
	}
	return fmt.Sprintf("%.*f %ciB", digits, value, "KMGTP"[unit])
}

// jsonProgress writes each event as one line of JSON; docs/fetch-events.md
// describes them.
type jsonProgress struct{ out io.Writer }

func (p *jsonProgress) settle() {}

func (p *jsonProgress) show(e fetch.Event) { writeEvent(p.out, jsonEvent(e)) }

// writeEvent writes one line. Nobody can be told when that fails.
func writeEvent(out io.Writer, line eventLine) {
	data, err := json.Marshal(line)
	if err != nil {
		return // it has strings and numbers only
	}
	_, _ = out.Write(append(escape.JSON(data), '\n'))
}

// eventLine is the form of all events; each kind fills what it has.
type eventLine struct {
	Event     string      `json:"event"`
	Reference string      `json:"reference,omitempty"`
	ID        string      `json:"id,omitempty"`
	Manifest  string      `json:"manifest,omitempty"`
	Layers    []layerLine `json:"layers,omitempty"`
	Layer     *int        `json:"layer,omitempty"`
	DiffID    string      `json:"diffID,omitempty"`
	Bytes     *int64      `json:"bytes,omitempty"`
	Total     *int64      `json:"total,omitempty"`
	PID       int         `json:"pid,omitempty"`
	Text      string      `json:"text,omitempty"`
	Error     string      `json:"error,omitempty"`
	Hint      string      `json:"hint,omitempty"`
}

type layerLine struct {
	DiffID  string `json:"diffID"`
	Size    int64  `json:"size"`
	Present bool   `json:"present"`
}

func jsonEvent(e fetch.Event) eventLine {
	switch e := e.(type) {
	case fetch.Started:
		return eventLine{Event: "started", Reference: e.Reference}
	case fetch.Waiting:
		return eventLine{Event: "waiting", Reference: e.Reference, PID: e.PID}
	case fetch.Resolved:
		line := eventLine{Event: "resolved", Reference: e.Reference, ID: e.ID.String(), Manifest: e.Manifest.String()}
		for _, l := range e.Layers {
			line.Layers = append(line.Layers, layerLine{l.DiffID.String(), l.Size, l.Present})
		}
		return line
	case fetch.Progress:
		return eventLine{Event: "progress", Layer: &e.Layer, Bytes: &e.Bytes, Total: &e.Total}
	case fetch.Stored:
		return eventLine{Event: "stored", Layer: &e.Layer, DiffID: e.DiffID.String()}
	case fetch.Note:
		return eventLine{Event: "note", Text: e.Text}
	case fetch.Ready:
		return eventLine{Event: "ready", Reference: e.Reference, ID: e.ID.String(), Manifest: e.Manifest.String()}
	}
	return eventLine{Event: fmt.Sprintf("%T", e)}
}
