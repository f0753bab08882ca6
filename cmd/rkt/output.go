package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"rkt/internal/escape"
)

// formatOption is the flag --format of verbs that write one result.
type formatOption struct{ format string }

func (o *formatOption) flags(fs *pflag.FlagSet) {
	fs.StringVar(&o.format, "format", "", `"json" on one line, or "json-pretty"`)
}

// json reports whether JSON is wanted.
func (o *formatOption) json() bool { return o.format != "" }

// check refuses an unknown format. help is the command that tells more.
func (o *formatOption) check(help string) error {
	if slices.Contains([]string{"", "json", "json-pretty"}, o.format) {
		return nil
	}
	return &usageError{message: fmt.Sprintf("unknown format %q, known are json and json-pretty", o.format), help: help}
}

// writeJSON writes v in the wanted form.
func (o *formatOption) writeJSON(out io.Writer, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // this goes to terminals and programs
	if o.format == "json-pretty" {
		e.SetIndent("", "  ")
	}
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("internal error: encode result: %w", err)
	}
	_, err := out.Write(escape.JSON(b.Bytes()))
	return err
}

// tableOptions are the flags of verbs that list things.
type tableOptions struct {
	formatOption
	full     bool
	noLegend bool
}

func (o *tableOptions) flags(fs *pflag.FlagSet) {
	o.formatOption.flags(fs)
	fs.BoolVar(&o.full, "full", false, "do not shorten anything")
	fs.BoolVar(&o.noLegend, "no-legend", false, "leave out the line with the names of the columns")
}

// write writes a table with the cells under the header, or rows as JSON.
func (o *tableOptions) write(out io.Writer, rows any, header []string, cells [][]string) error {
	if err := o.check("rkt --help"); err != nil {
		return err
	}
	if o.json() {
		return o.writeJSON(out, rows)
	}
	if !o.noLegend {
		cells = append([][]string{header}, cells...)
	}
	_, err := out.Write(alignColumns(cells))
	return err
}

// alignColumns lays out a table. Every cell is made safe to show and ends up in
// one line.
func alignColumns(cells [][]string) []byte {
	const gap = 2
	var widths []int
	for _, line := range cells {
		for i, cell := range line {
			line[i] = escape.Text(cell)
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(line[i]))
		}
	}
	var b bytes.Buffer
	for _, line := range cells {
		var text strings.Builder
		for i, cell := range line {
			text.WriteString(cell)
			text.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+gap))
		}
		b.WriteString(strings.TrimRight(text.String(), " "))
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// age writes a time for people: how long ago it was. A zero time is "-".
func age(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := now.Sub(t)
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{24 * time.Hour, "day"}, {time.Hour, "hour"}, {time.Minute, "minute"}, {time.Second, "second"}} {
		n := int(d / unit.length)
		switch {
		case n == 1:
			return "1 " + unit.name + " ago"
		case n > 1:
			return fmt.Sprintf("%d %ss ago", n, unit.name)
		}
	}
	return "now"
}

// exactTime writes a time in full. A zero time is "-".
func exactTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339Nano)
}
