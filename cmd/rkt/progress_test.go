package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"rkt/cas"
	"rkt/fetch"
)

// screen is a terminal that wraps nothing: it keeps the lines, obeys the two
// sequences that bars use, and fails the test for any other.
type screen struct {
	t             *testing.T
	lines         []string
	columns, rows int
}

func (s *screen) Write(p []byte) (int, error) {
	text := string(p)
	for text != "" {
		var up int
		if n, _ := fmt.Sscanf(text, "\x1b[%dA\x1b[J", &up); n == 1 {
			if up > len(s.lines) || up > s.rows-1 {
				s.t.Errorf("the cursor is moved up %d of %d lines on %d rows", up, len(s.lines), s.rows)
				up = min(up, len(s.lines))
			}
			s.lines = s.lines[:len(s.lines)-up]
			text = text[len(fmt.Sprintf("\x1b[%dA\x1b[J", up)):]
			continue
		}
		line, rest, ok := strings.Cut(text, "\n")
		if !ok || strings.ContainsAny(line, "\x1b\r\t") || len(line) >= s.columns {
			s.t.Errorf("line %q does not fit %d columns", line, s.columns)
		}
		s.lines, text = append(s.lines, line), rest
	}
	return len(p), nil
}

func (s *screen) String() string { return strings.Join(s.lines, "\n") }

// newBars returns bars on a screen. Each look at the clock is a second later.
func newBars(t *testing.T, columns, rows int) (*bars, *screen) {
	s := &screen{t: t, columns: columns, rows: rows}
	now := time.Unix(0, 0)
	return &bars{
		out: s, size: func() (int, int) { return s.columns, s.rows },
		now: func() time.Time { now = now.Add(time.Second); return now },
	}, s
}

func digest(text string) cas.Digest { return cas.Of([]byte(text)) }

func resolvedEvent(layers int) fetch.Resolved {
	e := fetch.Resolved{Reference: "r.example/app:latest", ID: digest("id"), Manifest: digest("manifest")}
	for i := range layers {
		e.Layers = append(e.Layers, fetch.LayerInfo{DiffID: digest(fmt.Sprint(i)), Size: 2048})
	}
	return e
}

func TestBarsAreRedrawnInPlace(t *testing.T) {
	b, s := newBars(t, 100, 24)
	e := resolvedEvent(3)
	e.Layers[1].Present = true
	b.show(fetch.Started{Reference: "r.example/app:latest"})
	b.show(e)
	for i := range 10 {
		b.show(fetch.Progress{Layer: 0, Bytes: int64(i * 204), Total: 2048})
		b.show(fetch.Progress{Layer: 2, Bytes: int64(i * 102), Total: 2048})
	}
	b.show(fetch.Note{Text: "trying \x1b[2Jagain"})
	b.show(fetch.Stored{Layer: 0})
	b.show(fetch.Stored{Layer: 2})
	b.show(fetch.Ready{})
	want := []string{
		"rkt: fetching r.example/app:latest",
		"rkt: r.example/app:latest is " + shortID(digest("id")) + ", 2 of 3 layers to bring, 4.0 KiB",
		`rkt: note: trying \x1b[2Jagain`,
		"  " + shortID(digest("0")) + " [==============================] 2.0 KiB stored",
		"  " + shortID(digest("2")) + " [==============================] 2.0 KiB stored",
	}
	if got := s.String(); got != strings.Join(want, "\n") {
		t.Errorf("screen is\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestBarsSurviveEverySize(t *testing.T) {
	for columns := range 60 {
		for _, rows := range []int{1, 2, 3, 5, 200} {
			b, s := newBars(t, columns+1, rows)
			s.columns = 1000 // for the lines that are no bars
			b.show(resolvedEvent(127))
			s.columns = columns + 1
			for i := range 4 {
				b.show(fetch.Progress{Layer: 40 * i, Bytes: 3000, Total: 2048})
			}
			s.columns, s.rows = s.columns+1, s.rows+1 // the window changes between two drawings
			b.show(fetch.Stored{Layer: 5})
			b.show(fetch.Stored{Layer: 500})
			b.show(fetch.Progress{Layer: 500})
		}
	}
}

func TestManyLayersBecomeASum(t *testing.T) {
	b, s := newBars(t, 100, 10)
	b.show(resolvedEvent(50))
	b.show(fetch.Stored{Layer: 3})
	b.show(fetch.Progress{Layer: 4, Bytes: 1024, Total: 2048})
	last := s.lines[len(s.lines)-2:]
	if last[0] != "  1 of 50 layers stored" || !strings.Contains(last[1], "1.0 KiB / 2.0 KiB") {
		t.Errorf("screen ends with %q", last)
	}
}

func TestLinesHaveNoEscapes(t *testing.T) {
	var out bytes.Buffer
	l := newProgress(&out)
	l.show(fetch.Started{Reference: "evil\x1b]52;c;\a"})
	l.show(fetch.Waiting{Reference: "x", PID: 7})
	l.show(resolvedEvent(2))
	l.show(fetch.Progress{Layer: 0, Bytes: 1, Total: 2})
	l.show(fetch.Stored{Layer: 1})
	l.show(fetch.Note{Text: "two\nlines\u202e"})
	l.show(fetch.Ready{})
	want := `rkt: fetching evil\x1b]52;c;\x07
rkt: waiting for another fetch (pid 7) of x
rkt: r.example/app:latest is ` + shortID(digest("id")) + `, 2 of 2 layers to bring, 4.0 KiB
rkt: layer 2 of 2 is verified and stored
rkt: note: two\x0alines\u202e
`
	if got := out.String(); got != want {
		t.Errorf("lines are\n%s\nwant\n%s", got, want)
	}
}

func TestEventsAreOneLineOfJSONEach(t *testing.T) {
	var out bytes.Buffer
	p := &jsonProgress{out: &out}
	events := []fetch.Event{
		fetch.Started{Reference: "r"}, fetch.Waiting{Reference: "r", PID: 3}, resolvedEvent(1),
		fetch.Progress{Layer: 0, Bytes: 0, Total: 9}, fetch.Stored{Layer: 0, DiffID: digest("0")},
		fetch.Note{Text: "a\nb\u009b"}, fetch.Ready{Reference: "r", ID: digest("id"), Manifest: digest("m")},
	}
	for _, e := range events {
		p.show(e)
	}
	kinds := []string{"started", "waiting", "resolved", "progress", "stored", "note", "ready"}
	got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(got) != len(kinds) {
		t.Fatalf("%d lines, want %d: %s", len(got), len(kinds), out.String())
	}
	for i, line := range got {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil || v["event"] != kinds[i] {
			t.Errorf("line %d is %s (%v), want the event %s", i, line, err, kinds[i])
		}
	}
	if !strings.Contains(got[3], `"layer":0,"bytes":0,"total":9`) {
		t.Errorf("zeros are left out: %s", got[3])
	}
	if strings.Contains(out.String(), "\u009b") {
		t.Error("a control character comes out raw")
	}
}

func TestByteSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 150 << 10: "150 KiB", 5 << 20: "5.0 MiB", 3 << 40: "3.0 TiB", 1 << 62: "4096 PiB",
	} {
		if got := byteSize(n); got != want {
			t.Errorf("byteSize(%d) = %q, want %q", n, got, want)
		}
	}
}
