package strictjson

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strings"
)

// checkKeys walks the valid document b along the type of v.
func checkKeys(b []byte, v any, o Options) error {
	w := walker{b: b, allowUnknown: o.AllowUnknown, fields: map[reflect.Type]map[string]reflect.Type{}}
	w.space()
	return w.value(reflect.TypeOf(v))
}

// walker reads a document that is known to be valid JSON.
type walker struct {
	b            []byte
	i            int
	allowUnknown bool
	fields       map[reflect.Type]map[string]reflect.Type // of the structs met so far
}

// value walks over one value and the space after it. t is the type it will be
// decoded into, nil where nothing is known about it.
func (w *walker) value(t reflect.Type) error {
	t = target(t)
	var err error
	switch w.b[w.i] {
	case '{':
		err = w.object(t)
	case '[':
		err = w.array(t)
	case '"':
		w.i = endOfString(w.b, w.i)
	default:
		for w.i < len(w.b) && strings.IndexByte(",]} \t\r\n", w.b[w.i]) < 0 {
			w.i++
		}
	}
	w.space()
	return err
}

func (w *walker) array(t reflect.Type) error {
	var elem reflect.Type
	if t != nil && (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) {
		elem = t.Elem()
	}
	w.skip() // [
	for w.b[w.i] != ']' {
		if err := w.value(elem); err != nil {
			return err
		}
		if w.b[w.i] == ',' {
			w.skip()
		}
	}
	w.i++
	return nil
}

func (w *walker) object(t reflect.Type) error {
	seen := map[string]bool{}
	w.skip() // {
	for w.b[w.i] != '}' {
		key, err := w.key()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("duplicate key %.100q", key)
		}
		seen[key] = true
		member, err := w.member(t, key)
		if err != nil {
			return err
		}
		w.skip() // :
		if err := w.value(member); err != nil {
			return err
		}
		if w.b[w.i] == ',' {
			w.skip()
		}
	}
	w.i++
	return nil
}

// key reads a key as encoding/json understands it: two spellings of one text
// are one key.
func (w *walker) key() (string, error) {
	end := endOfString(w.b, w.i)
	raw := w.b[w.i:end]
	w.i = end
	w.space()
	if !strings.Contains(string(raw), `\`) {
		return string(raw[1 : len(raw)-1]), nil
	}
	var key string
	return key, json.Unmarshal(raw, &key)
}

// member returns the type that the value of a key is decoded into.
func (w *walker) member(t reflect.Type, key string) (reflect.Type, error) {
	switch {
	case t == nil:
		return nil, nil
	case t.Kind() == reflect.Map:
		return t.Elem(), nil
	case t.Kind() != reflect.Struct:
		return nil, nil
	}
	fields := w.fieldsOf(t)
	if member, ok := fields[key]; ok {
		return member, nil
	}
	// encoding/json would take it for the field.
	for name := range fields {
		if strings.EqualFold(name, key) {
			return nil, fmt.Errorf("key %.100q must be spelled %q", key, name)
		}
	}
	if !w.allowUnknown {
		return nil, fmt.Errorf("unknown key %.100q", key)
	}
	return nil, nil
}

// fieldsOf returns the keys of a struct, those of embedded structs included.
func (w *walker) fieldsOf(t reflect.Type) map[string]reflect.Type {
	if fields, ok := w.fields[t]; ok {
		return fields
	}
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("json")
		if f.Anonymous && tag == "" && f.Type.Kind() == reflect.Struct {
			maps.Copy(fields, w.fieldsOf(f.Type))
			continue
		}
		if !f.IsExported() || tag == "-" {
			continue
		}
		name, _, _ := strings.Cut(tag, ",")
		if name == "" {
			name = f.Name
		}
		fields[name] = f.Type
	}
	w.fields[t] = fields
	return fields
}

// skip passes one byte and the space after it.
func (w *walker) skip() {
	w.i++
	w.space()
}

func (w *walker) space() {
	for w.i < len(w.b) && strings.IndexByte(" \t\r\n", w.b[w.i]) >= 0 {
		w.i++
	}
}

var (
	jsonUnmarshaler = reflect.TypeFor[json.Unmarshaler]()
	textUnmarshaler = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// target follows pointers. Types that decode themselves, and interfaces, are nil.
func target(t reflect.Type) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() == reflect.Interface {
		return nil
	}
	if p := reflect.PointerTo(t); p.Implements(jsonUnmarshaler) || p.Implements(textUnmarshaler) {
		return nil
	}
	return t
}
