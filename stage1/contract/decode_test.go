package contract

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// TestDecodeReadsWhatOthersWrite writes all types with encoding/json and with
// Encode, and reads them back.
func TestDecodeReadsWhatOthersWrite(t *testing.T) {
	for _, empty := range []any{
		&Pod{}, &App{}, &Host{}, &Limits{}, &Started{}, &Exit{}, &Ready{}, &Manifest{}, &EnterRequest{}, &Request{}, &Reply{},
		&specFile{},
	} {
		full := reflect.New(reflect.TypeOf(empty).Elem()).Interface()
		fill(reflect.ValueOf(full).Elem(), 0)
		for _, v := range []any{empty, full} {
			for _, form := range []func(any) ([]byte, error){json.Marshal, Encode, func(v any) ([]byte, error) {
				return json.MarshalIndent(v, "\t", " ")
			}} {
				b, err := form(v)
				if err != nil {
					t.Fatal(err)
				}
				got := reflect.New(reflect.TypeOf(v).Elem()).Interface()
				if err := Decode(b, got); err != nil {
					t.Errorf("Decode of %T: %v\n%s", v, err, b)
				} else if !reflect.DeepEqual(got, v) {
					t.Errorf("Decode() = %+v, want %+v", got, v)
				}
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, test := range []struct{ name, text string }{
		{"nothing", ``},
		{"another type", `[]`},
		{"a field of another type", `{"version":"1"}`},
		{"an unknown field", `{"version":1,"secret":1}`},
		{"another case", `{"Version":1}`},
		{"a field twice", `{"version":1,"version":1}`},
		{"data after the value", `{"version":1} {}`},
		{"a fraction", `{"version":1.0}`},
		{"an exponent", `{"version":1e1}`},
		{"a leading zero", `{"version":01}`},
		{"a number of 65 bits", `{"createdNanos":9223372036854775808}`},
		{"a comma too many", `{"version":1,}`},
		{"a comma too few", `{"version":1 "uuid":"x"}`},
		{"an array without end", `{"apps":["a"`},
		{"a trailing comma in an array", `{"apps":["a",]}`},
		{"a string without end", `{"uuid":"x`},
		{"a string that ends in a backslash", `{"uuid":"x\`},
		{"a control character", "{\"uuid\":\"x\n\"}"},
		{"an unknown escape", `{"uuid":"\x"}`},
		{"a short escape", `{"uuid":"\u12"}`},
		{"half of a surrogate pair", `{"uuid":"\ud83d"}`},
		{"two high surrogates", `{"uuid":"\ud83d\ud83d"}`},
		{"invalid UTF-8", "{\"uuid\":\"\xff\"}"},
		{"a comment", `{/**/"version":1}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := Decode([]byte(test.text), &Pod{}); err == nil {
				t.Errorf("Decode(%q) accepts it", test.text)
			}
		})
	}
}

func TestParseSpecNamesWhatItDoesNotKnow(t *testing.T) {
	for _, text := range []string{
		`{"hooks":{}}`, `{"linux":{"seccomp":{}}}`, `{"annotations":{}}`, `{"mounts":[{"destinatio":""}]}`,
	} {
		if _, err := ParseSpec([]byte(text)); err == nil || !strings.Contains(err.Error(), "unknown field") {
			t.Errorf("ParseSpec(%s): %v", text, err)
		}
	}
}

// FuzzDecode compares with encoding/json: what is accepted here is accepted
// there and means the same.
func FuzzDecode(f *testing.F) {
	for _, v := range []any{&Pod{}, &Host{}, &App{}, &specFile{}} {
		fill(reflect.ValueOf(v).Elem(), 0)
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"process":{"user":{"uid":0,"gid":0,"umask":18},"args":["a\u00fc\ud83d\ude00"],"oomScoreAdj":-1},"linux":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, empty := range []any{Pod{}, Host{}, App{}, specFile{}} {
			got, want := reflect.New(reflect.TypeOf(empty)).Interface(), reflect.New(reflect.TypeOf(empty)).Interface()
			if Decode(b, got) != nil {
				continue
			}
			if err := json.Unmarshal(b, want); err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%q: got %+v, want %+v, %v", b, got, want, err)
			}
		}
	})
}
