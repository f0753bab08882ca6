package strictjson

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

type text struct{ s string }

func (t *text) UnmarshalText(b []byte) error { t.s = string(b); return nil }

var _ encoding.TextUnmarshaler = (*text)(nil)

type inner struct {
	Key string `json:"key"`
}

type outer struct {
	Name  string            `json:"name,omitempty"`
	List  []inner           `json:"list"`
	Ptr   *inner            `json:"ptr"`
	Map   map[string]string `json:"map"`
	Of    map[string]*inner `json:"of"`
	Text  text              `json:"text"`
	Any   any               `json:"any"`
	N     int64             `json:"n"`
	Plain bool
	inner
}

func TestDecode(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, c := range []struct {
		name, in string
		unknown  bool
		wrong    string // part of the error, "" = none
	}{
		{name: "all kinds", in: ` { "name" : "a\"}" , "list":[{"key":"x"},{ "key" : "y" }],"ptr":{"key":""},"map":{"Name":"a","name":"b"},"of":{"a":{"key":"z"},"b":null},"text":"t","any":{"K":1,"k":[1,2.5e3,true,null]},"n":-5,"Plain":true} ` + "\n"},
		{name: "empty object", in: `{}`},
		{name: "null", in: `null`},
		{name: "duplicate key", in: `{"name":"a","name":"b"}`, wrong: "duplicate key"},
		{name: "duplicate key in two spellings", in: `{"name":"a","n\u0061me":"b"}`, wrong: "duplicate key"},
		{name: "duplicate key in a map", in: `{"map":{"a":"1","a":"2"}}`, wrong: "duplicate key"},
		{name: "duplicate key in what is ignored", in: `{"unknown":[{"a":1,"a":2}]}`, unknown: true, wrong: "duplicate key"},
		{name: "other case", in: `{"Name":"a"}`, unknown: true, wrong: `"Name" must be spelled "name"`},
		{name: "other case of a field without tag", in: `{"plain":true}`, unknown: true, wrong: "must be spelled"},
		{name: "other case of a folded letter", in: "{\"li\u017ft\":[]}", unknown: true, wrong: "must be spelled"},
		{name: "other case in an element", in: `{"list":[{"key":"a"},{"KEY":"b"}]}`, unknown: true, wrong: "must be spelled"},
		{name: "other case behind a pointer in a map", in: `{"of":{"a":{"Key":"b"}}}`, unknown: true, wrong: "must be spelled"},
		{name: "other case in an embedded struct", in: `{"kEy":"b"}`, unknown: true, wrong: "must be spelled"},
		{name: "unknown key", in: `{"nope":1}`, wrong: `unknown key "nope"`},
		{name: "unknown key allowed", in: `{"nope":{"list":{"x":1}}}`, unknown: true},
		{name: "trailing data", in: `{} {}`, wrong: "invalid character"},
		{name: "cut off", in: `{"name":"a`, wrong: "unexpected end"},
		{name: "empty", in: ``, wrong: "unexpected end"},
		{name: "comment", in: `{} // x`, wrong: "invalid character"},
		{name: "unclosed with an escape at the end", in: `{"a\`, wrong: "invalid character"},
		{name: "not UTF-8", in: "{\"name\":\"\xff\"}", wrong: "not UTF-8"},
		{name: "at the limit of depth", in: `{"any":` + deep(MaxDepth-1) + `}`},
		{name: "too deep", in: `{"any":` + deep(MaxDepth) + `}`, wrong: "deeper than"},
		{name: "far too deep", in: strings.Repeat("[", 1e6), wrong: "deeper than"},
		{name: "brackets in a string are not depth", in: `{"name":"` + strings.Repeat("[", 100) + `"}`},
		{name: "wrong type", in: `{"name":1}`, wrong: "cannot unmarshal"},
		{name: "number too large", in: `{"n":9223372036854775808}`, wrong: "cannot unmarshal"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got outer
			err := Decode([]byte(c.in), &got, Options{AllowUnknown: c.unknown})
			if c.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), c.wrong) {
					t.Fatalf("Decode() = %v, want an error with %q", err, c.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var want outer
			if err := json.Unmarshal([]byte(c.in), &want); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("Decode() = %+v, want %+v", got, want)
			}
		})
	}
}

func TestDecodeBoundsSize(t *testing.T) {
	var v any
	if err := Decode([]byte(`"12345"`), &v, Options{MaxBytes: 6}); err == nil {
		t.Error("Decode() of 7 bytes with a limit of 6 succeeded")
	}
	if err := Decode([]byte(`"1234"`), &v, Options{MaxBytes: 6}); err != nil {
		t.Error(err)
	}
}

// What is accepted is what encoding/json understands, and nothing makes it panic.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{`{"name":"a","list":[{"key":"x"}]}`, `{"map":{"a":"b"},"any":[1,{}]}`, `[`, `{"a":"\u0000"}`, `{"of":{"a":{"Key":"b"}}}`, " \n-1.5e+3"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var got, want outer
		if Decode(b, &got, Options{AllowUnknown: true}) != nil {
			return
		}
		if err := json.Unmarshal(b, &want); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Decode() = %+v, encoding/json says %+v, %v", got, want, err)
		}
	})
}
