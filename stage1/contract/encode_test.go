package contract

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// fill puts a value that is not zero into every field, so that a kind that
// Encode does not know is found when a field of it is added.
func fill(v reflect.Value, n int) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(-int64(n) - 7)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(1<<32 - 1)
	case reflect.String:
		v.SetString("a\"\\/\x00\x1f<&>é\u2028\U0001f600" + strings.Repeat("x", n))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n+1)
		fill(v.Index(1), n+2)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for i := range 3 {
			elem := reflect.New(v.Type().Elem()).Elem()
			fill(elem, n+i)
			v.SetMapIndex(reflect.ValueOf(strings.Repeat("k", 3-i)), elem)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n+i)
		}
	}
}

func TestEncodeIsWhatOthersRead(t *testing.T) {
	for _, empty := range []any{
		&Pod{}, &App{}, &Host{}, &Limits{}, &Started{}, &Exit{}, &Ready{}, &Manifest{}, &EnterRequest{}, &Request{}, &Reply{},
		&specFile{},
	} {
		full := reflect.New(reflect.TypeOf(empty).Elem()).Interface()
		fill(reflect.ValueOf(full).Elem(), 0)
		for _, v := range []any{empty, full} {
			got, err := Encode(v)
			if err != nil {
				t.Errorf("Encode(%T) = %v", v, err)
				continue
			}
			back := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			if err := json.Unmarshal(got, back); err != nil || !reflect.DeepEqual(back, v) {
				t.Errorf("%T: %s is read as %+v, %v, want %+v", v, got, back, err, v)
			}
			var want bytes.Buffer
			e := json.NewEncoder(&want)
			e.SetEscapeHTML(false)
			if err := e.Encode(v); err != nil {
				t.Fatal(err)
			}
			same := strings.NewReplacer(`\b`, `\u0008`, `\f`, `\u000c`, `\n`, `\u000a`, `\r`, `\u000d`, `\t`, `\u0009`, `\u2028`, "\u2028")
			if same.Replace(want.String()) != string(got) {
				t.Errorf("Encode(%T) = %s, want %s", v, got, want.String())
			}
		}
	}
}

func TestEncodeRefusesWhatJSONCannotCarry(t *testing.T) {
	if b, err := Encode(&EnterRequest{Env: []string{"A=\xff"}}); err == nil {
		t.Errorf("Encode() = %s, want an error: the byte would be lost", b)
	}
	if b, err := Encode(struct {
		F float64 `json:"f"`
	}{1}); err == nil {
		t.Errorf("Encode() of a float = %s, want an error", b)
	}
}
