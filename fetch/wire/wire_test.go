package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func TestMessagesArriveAsSent(t *testing.T) {
	messages := []Message{
		{Type: Resolved},
		{Type: Progress, Layer: 3, Bytes: 1 << 40, Total: 1<<63 + 1},
		{Type: Progress},
		{Type: Layer, Layer: MaxLayers - 1},
		{Type: Note, Text: "retry in 2 s: \u00e9 \x1b[2J"},
		{Type: Failed, Code: CodePlainHTTP, Text: strings.Repeat("x", MaxText-3)},
		{Type: Done},
	}
	var pipe bytes.Buffer
	for _, m := range messages {
		if err := Send(&pipe, m); err != nil {
			t.Fatalf("Send(%+v) = %v", m, err)
		}
	}
	r := iotest.OneByteReader(&pipe)
	for _, want := range messages {
		got, err := Receive(r)
		if err != nil || got != want {
			t.Errorf("Receive() = %+v, %v, want %+v", got, err, want)
		}
	}
	if _, err := Receive(r); err != io.EOF {
		t.Errorf("Receive at the end = %v, want io.EOF", err)
	}
}

func TestSendMakesTextFit(t *testing.T) {
	tests := map[string]struct{ text, want string }{
		"long":        {strings.Repeat("x", MaxText+1), strings.Repeat("x", MaxText-3) + "..."},
		"long runes":  {strings.Repeat("\u20ac", MaxText), strings.Repeat("\u20ac", (MaxText-3)/3) + "..."},
		"not UTF-8":   {"a\xffb", "a\ufffdb"},
		"only broken": {strings.Repeat("\xff", MaxText), strings.Repeat("\ufffd", (MaxText-3)/3) + "..."},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var pipe bytes.Buffer
			if err := Send(&pipe, Message{Type: Failed, Text: test.text}); err != nil {
				t.Fatal(err)
			}
			if m, err := Receive(&pipe); err != nil || m.Text != test.want {
				t.Errorf("Receive() = %q, %v, want %q", m.Text, err, test.want)
			}
		})
	}
}

// encode writes a message without any check.
func encode(typ, code byte, length uint16, layer uint32, bytes, total uint64, text string) string {
	b := []byte{typ, code, byte(length), byte(length >> 8)}
	for i := range 4 {
		b = append(b, byte(layer>>(8*i)))
	}
	for _, n := range []uint64{bytes, total} {
		for i := range 8 {
			b = append(b, byte(n>>(8*i)))
		}
	}
	return string(b) + text
}

func TestReceiveRefuses(t *testing.T) {
	tests := map[string]struct {
		in   string
		want error
	}{
		"type 0":                {encode(0, 0, 0, 0, 0, 0, ""), ErrMalformed},
		"type past the last":    {encode(byte(Failed)+1, 0, 0, 0, 0, 0, ""), ErrMalformed},
		"layer over the limit":  {encode(byte(Layer), 0, 0, MaxLayers, 0, 0, ""), ErrMalformed},
		"layer of no layer":     {encode(byte(Done), 0, 0, 1, 0, 0, ""), ErrMalformed},
		"more than there is":    {encode(byte(Progress), 0, 0, 0, 2, 1, ""), ErrMalformed},
		"bytes of no progress":  {encode(byte(Layer), 0, 0, 0, 0, 1, ""), ErrMalformed},
		"unknown code":          {encode(byte(Failed), byte(CodeTrust)+1, 1, 0, 0, 0, "x"), ErrMalformed},
		"code without failure":  {encode(byte(Note), 1, 1, 0, 0, 0, "x"), ErrMalformed},
		"text of no text":       {encode(byte(Done), 0, 1, 0, 0, 0, "x"), ErrMalformed},
		"failure without words": {encode(byte(Failed), 0, 0, 0, 0, 0, ""), ErrMalformed},
		"text too long":         {encode(byte(Note), 0, MaxText+1, 0, 0, 0, strings.Repeat("x", MaxText+1)), ErrMalformed},
		"text not UTF-8":        {encode(byte(Note), 0, 1, 0, 0, 0, "\xff"), ErrMalformed},
		"cut in the header":     {encode(byte(Done), 0, 0, 0, 0, 0, "")[:23], io.ErrUnexpectedEOF},
		"cut before the text":   {encode(byte(Note), 0, 2, 0, 0, 0, ""), io.ErrUnexpectedEOF},
		"cut in the text":       {encode(byte(Note), 0, 2, 0, 0, 0, "x"), io.ErrUnexpectedEOF},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if m, err := Receive(strings.NewReader(test.in)); !errors.Is(err, test.want) {
				t.Errorf("Receive() = %+v, %v, want %v", m, err, test.want)
			}
		})
	}
}

func TestOrdersArriveAsSent(t *testing.T) {
	for _, count := range []int{0, 1, 7, 8, 9, 127, MaxLayers} {
		want := Order{Want: make([]bool, count)}
		for i := range want.Want {
			want.Want[i] = i%3 == 0
		}
		var pipe bytes.Buffer
		if err := SendOrder(&pipe, want); err != nil {
			t.Fatal(err)
		}
		pipe.WriteString("rest")
		got, err := ReceiveOrder(&pipe)
		if err != nil || !reflect.DeepEqual(got, want) || pipe.String() != "rest" {
			t.Errorf("ReceiveOrder() = %v, %v with %q left, want %v", got, err, pipe.String(), want)
		}
	}
}

func TestReceiveOrderRefuses(t *testing.T) {
	tests := map[string]struct {
		in   string
		want error
	}{
		"nothing":         {"", io.EOF},
		"other tag":       {"o\x00\x00", ErrMalformed},
		"too many layers": {"O\x01\x02", ErrMalformed},
		"stray bits":      {"O\x02\x00\x04", ErrMalformed},
		"cut in the head": {"O\x02", io.ErrUnexpectedEOF},
		"cut in the bits": {"O\x09\x00\x01", io.ErrUnexpectedEOF},
		"without bits":    {"O\x01\x00", io.ErrUnexpectedEOF},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if o, err := ReceiveOrder(strings.NewReader(test.in)); !errors.Is(err, test.want) {
				t.Errorf("ReceiveOrder() = %v, %v, want %v", o, err, test.want)
			}
		})
	}
	if err := SendOrder(io.Discard, Order{Want: make([]bool, MaxLayers+1)}); !errors.Is(err, ErrMalformed) {
		t.Errorf("SendOrder of too many = %v, want ErrMalformed", err)
	}
}

// registry is a request that is in order.
func registry() Request {
	return Request{
		Version: Version, Mode: Fetch, Platform: Platform{OS: "linux", Arch: "amd64"},
		Source: Source{
			Kind: Registry, Repository: "library/busy_box", Tag: "V1.0",
			Digest:    "sha256:" + strings.Repeat("0a", 32),
			Endpoints: []Endpoint{{Host: "[::1]:5000", CAs: "pem\n", Password: "se\"cret\n"}, {Host: "docker.io"}},
		},
	}
}

func TestRequestsArriveAsSent(t *testing.T) {
	requests := map[string]Request{
		"registry": registry(),
		"layout":   {Version: Version, Mode: Fetch, Source: Source{Kind: Layout, Tag: "any tag: here"}, Platform: Platform{OS: "linux", Arch: "arm", Variant: "v7"}},
		"scan":     {Version: Version, Mode: Scan},
		"unpack":   {Version: Version, Mode: Unpack},
	}
	for name, want := range requests {
		t.Run(name, func(t *testing.T) {
			var pipe bytes.Buffer
			if err := WriteRequest(&pipe, want); err != nil {
				t.Fatal(err)
			}
			got, err := ReadRequest(iotest.HalfReader(&pipe))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("ReadRequest() = %+v, %v, want %+v", got, err, want)
			}
		})
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	tests := map[string]func(*Request){
		"version":               func(r *Request) { r.Version++ },
		"mode":                  func(r *Request) { r.Mode = "push" },
		"no platform":           func(r *Request) { r.Platform.OS = "" },
		"kind":                  func(r *Request) { r.Source.Kind = "ftp" },
		"negative parallel":     func(r *Request) { r.Parallel = -1 },
		"stall of years":        func(r *Request) { r.StallSeconds = 1 << 30 },
		"neither tag nor hash":  func(r *Request) { r.Source.Tag, r.Source.Digest = "", "" },
		"tag with slash":        func(r *Request) { r.Source.Tag = "../x" },
		"tag with query":        func(r *Request) { r.Source.Tag = "a?b" },
		"repository upwards":    func(r *Request) { r.Source.Repository = "a/../b" },
		"repository empty":      func(r *Request) { r.Source.Repository = "" },
		"repository with %":     func(r *Request) { r.Source.Repository = "a%2fb" },
		"repository with query": func(r *Request) { r.Source.Repository = "a?b=c" },
		"upper-case digest":     func(r *Request) { r.Source.Digest = "sha256:" + strings.Repeat("0A", 32) },
		"short digest":          func(r *Request) { r.Source.Digest = "sha256:" + strings.Repeat("0a", 31) },
		"other digest":          func(r *Request) { r.Source.Digest = "md5:" + strings.Repeat("0a", 16) },
		"no endpoint":           func(r *Request) { r.Source.Endpoints = nil },
		"host with user":        func(r *Request) { r.Source.Endpoints[0].Host = "me@host" },
		"host with path":        func(r *Request) { r.Source.Endpoints[0].Host = "host/x" },
		"endpoints of a folder": func(r *Request) { r.Source.Kind = Layout },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			req := registry()
			change(&req)
			if err := WriteRequest(io.Discard, req); !errors.Is(err, ErrMalformed) {
				t.Errorf("WriteRequest() = %v, want ErrMalformed", err)
			}
			b, err := json.Marshal(req)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ReadRequest(bytes.NewReader(append(b, '\n'))); !errors.Is(err, ErrMalformed) {
				t.Errorf("ReadRequest() = %v, want ErrMalformed", err)
			}
		})
	}
}

func TestReadRequestRefusesForm(t *testing.T) {
	tests := map[string]struct {
		in   string
		want error
	}{
		"nothing":        {"", io.ErrUnexpectedEOF},
		"cut off":        {`{"version":1,"mode":"scan"}`, io.ErrUnexpectedEOF},
		"not JSON":       {"hello\n", ErrMalformed},
		"unknown field":  {`{"version":1,"mode":"scan","extra":1}` + "\n", ErrMalformed},
		"two values":     {`{"version":1,"mode":"scan"}{}` + "\n", ErrMalformed},
		"bytes behind":   {`{"version":1,"mode":"scan"}` + "\nO", ErrMalformed},
		"endless":        {strings.Repeat(" ", MaxRequest+1), ErrMalformed},
		"password shown": {`{"version":1,"mode":"hunter2` + "\n", ErrMalformed},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := ReadRequest(strings.NewReader(test.in))
			if !errors.Is(err, test.want) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("ReadRequest() = %v, want %v", err, test.want)
			}
		})
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte(encode(byte(Failed), 3, 2, 0, 0, 0, "no")))
	f.Add([]byte(encode(byte(Progress), 0, 0, 1, 2, 3, "")))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Receive(bytes.NewReader(b))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := Send(&again, m); err != nil || !bytes.Equal(again.Bytes(), b[:again.Len()]) && len(m.Text) <= MaxText-3 {
			t.Fatalf("Send of what Receive accepted: %v", err)
		}
	})
}
