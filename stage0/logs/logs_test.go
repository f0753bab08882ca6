package logs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const patience = 20 * time.Second

// collect is a sink that keeps the texts of entries.
func collect(into *[]string) Sink {
	return func(e Entry) error {
		*into = append(*into, e.App+":"+string(e.Message))
		return nil
	}
}

func binaryField(name, value string) string {
	return name + "\n" + string(binary.LittleEndian.AppendUint64(nil, uint64(len(value)))) + value + "\n"
}

func TestExport(t *testing.T) {
	long := strings.Repeat("x", 3*maxValue)
	input := "\n__CURSOR=a\nMESSAGE=one=1\n\n\n__CURSOR=b\n" + binaryField("MESSAGE", "two\n\nMESSAGE=no\x00") +
		"\n__CURSOR=c\n" + binaryField("MESSAGE", long) + "LAST=" + long + "\nEND=yes\n\n"
	x := newExport(strings.NewReader(input))
	for _, want := range []map[string]string{
		{"__CURSOR": "a", "MESSAGE": "one=1"},
		{"__CURSOR": "b", "MESSAGE": "two\n\nMESSAGE=no\x00"},
		{"__CURSOR": "c", "MESSAGE": long[:maxValue], "LAST": long[:maxValue-len("LAST=")], "END": "yes"},
	} {
		got, err := x.next()
		if err != nil || len(got) != len(want) {
			t.Fatalf("next() = %d fields, %v, want %d", len(got), err, len(want))
		}
		for name, value := range want {
			if string(got[name]) != value {
				t.Errorf("%s is %.40q (%d bytes), want %.40q (%d)", name, got[name], len(got[name]), value, len(value))
			}
		}
	}
	if _, err := x.next(); err != io.EOF {
		t.Errorf("behind the last: %v", err)
	}
	for n := range len(input) { // it may end anywhere
		x := newExport(io.LimitReader(strings.NewReader(input), int64(n)))
		for err := error(nil); err == nil; {
			if _, err = x.next(); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Fatalf("cut at %d: %v", n, err)
			}
		}
		if n > 200 {
			break
		}
	}
}

// app writes the log of an app as rkt does.
type app struct {
	t *testing.T
	File
}

func newApp(t *testing.T, dir, name string) *app {
	a := &app{t, File{App: name, Path: filepath.Join(dir, name, "log")}}
	if err := os.Mkdir(filepath.Dir(a.Path), 0o755); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *app) write(second int, tag, text string) {
	a.t.Helper()
	f, err := os.OpenFile(a.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		a.t.Fatal(err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "2026-01-02T03:04:%02dZ stdout %s %s\n", second, tag, text); err != nil {
		a.t.Fatal(err)
	}
}

func (a *app) rotate() {
	a.t.Helper()
	if err := os.Rename(a.Path, a.older()); err != nil {
		a.t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	a, b, silent := newApp(t, dir, "a"), newApp(t, dir, "b"), newApp(t, dir, "c")
	a.write(1, "F", "one")
	b.write(2, "F", "two")
	a.rotate()
	a.write(3, "P", "thr")
	a.write(3, "F", "ee  x")
	b.write(4, "F", "")
	if err := os.WriteFile(b.Path+".x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(b.Path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, "\x00\x00\nno time stdout F x\n2026-01-02T03:04:05Z stdout F five\nunfinished"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	files := []File{a.File, b.File, silent.File}
	at := func(second int) time.Time { return time.Date(2026, 1, 2, 3, 4, second, 0, time.UTC) }
	for _, c := range []struct {
		name string
		q    Query
		want []string
	}{
		{"all", Query{Lines: -1}, []string{"a:one", "b:two", "a:thr", "a:ee  x", "b:", "b:five"}},
		{"one app", Query{Lines: -1, App: "b"}, []string{"b:two", "b:", "b:five"}},
		{"the last", Query{Lines: 2}, []string{"b:", "b:five"}},
		{"none", Query{Lines: 0}, nil},
		{"in between", Query{Lines: -1, Since: at(2), Until: at(3)}, []string{"b:two", "a:thr", "a:ee  x"}},
	} {
		var got []string
		if err := Files(t.Context(), files, c.q, collect(&got)); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, %v, want %q", c.name, got, err, c.want)
		}
	}
}

// TestFilesFollow reads while the log is written and rotated, until the pod ends.
func TestFilesFollow(t *testing.T) {
	a := newApp(t, t.TempDir(), "a")
	a.write(1, "F", "old")
	a.write(1, "F", "0")
	ended, lines := make(chan struct{}), make(chan string)
	q := Query{Lines: 1, Ended: func(ctx context.Context) error {
		select {
		case <-ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	result := make(chan error, 1)
	go func() {
		result <- Files(t.Context(), []File{a.File}, q, func(e Entry) error { lines <- string(e.Message); return nil })
	}()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-lines:
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("waited in vain for %q", want)
		}
	}
	expect("0")
	for i := 1; i < 10; i++ {
		a.write(1, "F", fmt.Sprint(i))
		if i%3 == 0 {
			a.rotate()
		}
		expect(fmt.Sprint(i))
	}
	a.write(1, "F", "last")
	close(ended)
	expect("last")
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestFilesFollowIsCancelled(t *testing.T) {
	a := newApp(t, t.TempDir(), "a")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	err := Files(ctx, []File{a.File}, Query{Lines: -1, Ended: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}, collect(new([]string)))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Files() = %v", err)
	}
}

// fakeJournalctl puts a program in the place of journalctl. script sees the
// arguments, and a function entry that prints one: entry CURSOR TEXT.
func fakeJournalctl(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	text := "#!/bin/sh\nentry() { printf '__CURSOR=%s\\nRKT_APP=a\\nMESSAGE=%s\\n\\n' $1 $2; }\ncase \"$*\" in --sync) exit;; esac\ndir=" + dir + "\n" + script
	if err := os.WriteFile(filepath.Join(dir, "journalctl"), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// TestJournalFollow reads what a journal still has after the pod has ended.
func TestJournalFollow(t *testing.T) {
	fakeJournalctl(t, `case "$*" in
*--follow*) entry 1 one; entry 2 two; exec sleep 1000;;
*--after-cursor=2\ *) entry 3 three;;
*) echo "unexpected: $*" >&2; exit 1;;
esac`)
	two := make(chan struct{})
	var got []string
	sink := func(e Entry) error {
		got = append(got, string(e.Message))
		if string(e.Message) == "two" {
			close(two)
		}
		return nil
	}
	ended := func(context.Context) error { <-two; return nil }
	if err := Journal(t.Context(), "u", Query{Lines: -1, Ended: ended}, sink); err != nil || !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestJournalFails(t *testing.T) {
	fakeJournalctl(t, `entry 1 one; echo "no such journal" >&2; exit 3`)
	err := Journal(t.Context(), "u", Query{Lines: -1}, collect(new([]string)))
	if err == nil || !strings.Contains(err.Error(), "no such journal") {
		t.Errorf("Journal() = %v", err)
	}
	broken := errors.New("broken")
	fakeJournalctl(t, `while :; do entry 1 one; done`)
	if err := Journal(t.Context(), "u", Query{Lines: -1}, func(Entry) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("with a sink that fails: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := Journal(t.Context(), "u", Query{}, nil); !errors.Is(err, ErrNoJournal) {
		t.Errorf("without journalctl: %v", err)
	}
}
