package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"rkt/fetch"
)

func TestAskReadsOneAnswer(t *testing.T) {
	question := fetch.Question{
		Reference: "r.example/a\x1b[2J:latest", Name: "r.example/a\x1b[2J", Registry: "r.example", Manifest: digest("m"), Reason: "no rule is about it",
	}
	for _, c := range []struct {
		input string
		want  fetch.Answer
		rest  string // what the app finds on its stdin
	}{
		{"d\n", fetch.AnswerDigest, ""},
		{"R\n", fetch.AnswerRepository, ""},
		{" registry \nfor the app", fetch.AnswerRegistry, "for the app"},
		{"\nmore", fetch.AnswerNo, "more"},
		{"n\n", fetch.AnswerNo, ""},
		{"", fetch.AnswerNo, ""},
		{"what?\nyes\nr\n", fetch.AnswerRepository, ""},
	} {
		in := strings.NewReader(c.input)
		var out bytes.Buffer
		got, err := ask(context.Background(), in, &out, question)
		if err != nil || got != c.want {
			t.Errorf("ask() with %q = %v, %v, want %v", c.input, got, err, c.want)
		}
		if rest, _ := io.ReadAll(in); string(rest) != c.rest {
			t.Errorf("after %q the app reads %q, want %q", c.input, rest, c.rest)
		}
		if strings.Contains(out.String(), "\x1b") || !strings.Contains(out.String(), question.Manifest.String()) {
			t.Errorf("the question is %q", out.String())
		}
	}
}

func TestAskEndsWithTheCommand(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if got, err := ask(ctx, r, io.Discard, fetch.Question{}); !errors.Is(err, context.Canceled) || got != fetch.AnswerNo {
		t.Errorf("ask() = %v, %v", got, err)
	}
	r.Close()
}

// RT-33: documents of strangers reach a pipe as they are and a terminal tamed.
func TestDocumentsOnATerminal(t *testing.T) {
	const document = "{\"a\":\"\u009b2J\u202e\u007f\U000e0001é\"}\r\n"
	for _, c := range []struct {
		name             string
		pretty, terminal bool
		want             string
	}{
		{"pipe", false, false, document},
		{"terminal", false, true, `{"a":"\u009b2J\u202e\u007f\udb40\udc01é"}` + "\n\n"},
		{"pretty", true, true, "{\n  \"a\": \"" + `\u009b2J\u202e\u007f\udb40\udc01é` + "\"\n}\n"},
	} {
		var out bytes.Buffer
		if err := writeDocument(&out, []byte(document), c.pretty, c.terminal); err != nil || out.String() != c.want {
			t.Errorf("%s: %q, %v, want %q", c.name, out.String(), err, c.want)
		}
	}
}
