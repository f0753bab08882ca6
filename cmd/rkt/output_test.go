package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// hostile is text as an image or a registry could make it up.
const hostile = "a\x1b[2Jb\x1b]52;c;eA==\x07c\r\nd\u009b31me\u202ef\x00g\xffh\U000e0001i<&>"

func TestJSONShowsNothingThatSteersATerminalAndKeepsTheValue(t *testing.T) {
	for _, format := range []string{"json", "json-pretty"} {
		in := map[string]any{"key " + hostile: []any{hostile, "plain é 漢字 😀", 1.5}}
		var out bytes.Buffer
		if err := (&formatOption{format}).writeJSON(&out, in); err != nil {
			t.Fatal(err)
		}
		if i := strings.IndexFunc(out.String(), func(r rune) bool {
			return r < ' ' && r != '\n' || 0x7f <= r && r < 0xa0 || r == 0x202e || r == 0xe0001
		}); i >= 0 {
			t.Errorf("%s has a control character at %d: %q", format, i, out.String())
		}
		if !strings.Contains(out.String(), "é 漢字 😀") {
			t.Errorf("%s hides plain text: %s", format, out.String())
		}
		var back map[string]any
		if err := json.Unmarshal(out.Bytes(), &back); err != nil {
			t.Fatal(err)
		}
		want := strings.ToValidUTF8(hostile, "\ufffd")
		if got := back["key "+want]; !reflect.DeepEqual(got, []any{want, "plain é 漢字 😀", 1.5}) {
			t.Errorf("%s: got %q back", format, got)
		}
		if lines := strings.Count(out.String(), "\n"); format == "json" && lines != 1 {
			t.Errorf("json is %d lines", lines)
		}
	}
}

func TestTablesAreAlignedAndSafe(t *testing.T) {
	o := tableOptions{}
	var out bytes.Buffer
	err := o.write(&out, nil, []string{"NAME", "STATE"}, [][]string{{"é", "x"}, {"b\x1b[2J\nc", ""}, {"", "y"}})
	if err != nil {
		t.Fatal(err)
	}
	want := "NAME             STATE\n" +
		"é                x\n" +
		`b\x1b[2J\x0ac` + "\n" +
		"                 y\n"
	want = strings.ReplaceAll(want, "                 ", strings.Repeat(" ", len(`b\x1b[2J\x0ac`)+2))
	got := out.String()
	if lines := strings.Split(got, "\n"); len(lines) != 5 || !strings.HasPrefix(lines[2], `b\x1b[2J\x0ac`) {
		t.Errorf("table:\n%s", got)
	}
	for _, line := range strings.Split(strings.TrimSuffix(got, "\n"), "\n") {
		if strings.HasSuffix(line, " ") {
			t.Errorf("line %q ends in a space", line)
		}
	}
	column := strings.Index(got, "STATE")
	if y := strings.Split(got, "\n")[3]; strings.Index(y, "y") != column {
		t.Errorf("columns are not aligned:\n%s\nwant\n%s", got, want)
	}
	o.noLegend = true
	out.Reset()
	if err := o.write(&out, nil, []string{"NAME"}, [][]string{{"x"}}); err != nil || out.String() != "x\n" {
		t.Errorf("without a legend: %q, %v", out.String(), err)
	}
}

func TestFormatIsChecked(t *testing.T) {
	if err := (&formatOption{"yaml"}).check("rkt list --help"); err == nil || !strings.Contains(err.Error(), `"yaml"`) {
		t.Errorf("check() = %v", err)
	}
}

func TestAge(t *testing.T) {
	now := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "now", -time.Hour: "now", time.Second: "1 second ago", 90 * time.Second: "1 minute ago",
		3 * time.Hour: "3 hours ago", 49 * time.Hour: "2 days ago",
	} {
		if got := age(now.Add(-d), now); got != want {
			t.Errorf("age(%s) = %q, want %q", d, got, want)
		}
	}
	if got := age(time.Time{}, now); got != "-" {
		t.Errorf("age of no time = %q", got)
	}
}

func TestWhatIsSweptIsToldInOrder(t *testing.T) {
	a, b, c := digest("a"), digest("b"), digest("c")
	var out bytes.Buffer
	writeSwept(&out, []sweptJSON{
		{Digest: a, Size: 1, Reasons: []string{"image y", "image x"}},
		{Digest: b, Size: 2 << 10, Reasons: []string{"image x", "image y"}},
		{Digest: c, Size: 3, Removed: true},
	}, gcOptions{dryRun: true})
	want := "would remove " + shortID(c) + " (3 B)\n" +
		"kept " + shortID(b) + " (2.0 KiB): image x; image y\n" +
		"kept " + shortID(a) + " (1 B): image x; image y\n" +
		"would remove 3 B, kept 2.0 KiB\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
	out.Reset()
	writeSwept(&out, []sweptJSON{{Digest: a, Size: 1, Reasons: []string{"image y"}}, {Digest: c, Size: 3, Removed: true}}, gcOptions{quiet: true})
	if want := "removed 3 B, kept 1 B\n"; out.String() != want {
		t.Errorf("quietly: %q, want %q", out.String(), want)
	}
}
