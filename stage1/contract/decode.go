package contract

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Decode parses b, which must hold one JSON value and nothing else, into what v
// points to. It is stricter than encoding/json: exact names of fields, no unknown
// one, none twice, no number that does not fit, no invalid UTF-8.
func Decode(b []byte, v any) error {
	s := &scanner{b: b}
	s.value(reflect.ValueOf(v).Elem())
	if s.skip(); s.err == nil && s.at < len(s.b) {
		s.fail("data after the value")
	}
	return s.err
}

// A scanner reads JSON. The first error stops it and stays.
type scanner struct {
	b   []byte
	at  int
	err error
}

// value reads a value of one of the kinds that the contract has. null leaves a
// variable as it is.
func (s *scanner) value(v reflect.Value) {
	if s.word("null") {
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(s.bool())
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(s.digits(), 10, v.Type().Bits())
		s.failIf(err, "expected an integer that fits")
		v.SetInt(n)
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		n, err := strconv.ParseUint(s.digits(), 10, v.Type().Bits())
		s.failIf(err, "expected a natural number that fits")
		v.SetUint(n)
	case reflect.String:
		v.SetString(s.text())
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		s.value(v.Elem())
	case reflect.Slice:
		s.slice(v)
	case reflect.Map:
		s.mapOf(v)
	case reflect.Struct:
		s.structure(v)
	default:
		s.fail("internal error: the contract has no values of the type " + v.Type().String())
	}
}

func (s *scanner) slice(v reflect.Value) {
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	if !s.need('[') || s.take(']') {
		return
	}
	for s.err == nil {
		v.Grow(1)
		v.SetLen(v.Len() + 1)
		v.Index(v.Len() - 1).SetZero()
		s.value(v.Index(v.Len() - 1))
		if s.err != nil || !s.take(',') {
			break
		}
	}
	s.need(']')
}

func (s *scanner) mapOf(v reflect.Value) {
	v.Set(reflect.MakeMap(v.Type()))
	s.object(func(name string) {
		elem := reflect.New(v.Type().Elem()).Elem()
		s.value(elem)
		v.SetMapIndex(reflect.ValueOf(name).Convert(v.Type().Key()), elem)
	})
}

func (s *scanner) structure(v reflect.Value) {
	t := v.Type()
	s.object(func(name string) {
		for i := range t.NumField() {
			if known, _ := fieldName(t.Field(i)); known == name {
				s.value(v.Field(i))
				return
			}
		}
		s.fail(fmt.Sprintf("unknown field %q", name))
	})
}

// object reads an object. Field reads the value of the field with that name.
func (s *scanner) object(field func(name string)) {
	if !s.need('{') || s.take('}') {
		return
	}
	var seen []string
	for s.err == nil {
		s.skip()
		name := s.text()
		if s.err == nil && slices.Contains(seen, name) {
			s.fail(fmt.Sprintf("field %q for the second time", name))
		}
		seen = append(seen, name)
		if s.err != nil || !s.need(':') {
			return
		}
		if field(name); s.err != nil || !s.take(',') {
			break
		}
	}
	s.need('}')
}

func (s *scanner) fail(what string) {
	if s.err == nil {
		s.err = errors.New(what + " at byte " + strconv.Itoa(s.at))
	}
}

func (s *scanner) failIf(err error, what string) {
	if err != nil {
		s.fail(what)
	}
}

func (s *scanner) skip() {
	for s.at < len(s.b) {
		switch s.b[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

// take consumes c, if it comes next.
func (s *scanner) take(c byte) bool {
	s.skip()
	if s.err == nil && s.at < len(s.b) && s.b[s.at] == c {
		s.at++
		return true
	}
	return false
}

func (s *scanner) need(c byte) bool {
	if s.take(c) {
		return true
	}
	s.fail("expected " + strconv.QuoteRune(rune(c)))
	return false
}

// word consumes a literal, if it comes next.
func (s *scanner) word(w string) bool {
	s.skip()
	if s.err == nil && len(s.b)-s.at >= len(w) && string(s.b[s.at:s.at+len(w)]) == w {
		s.at += len(w)
		return true
	}
	return false
}

func (s *scanner) bool() bool {
	if s.word("true") {
		return true
	}
	if !s.word("false") {
		s.fail("expected true or false")
	}
	return false
}

// digits consumes a number. One with a fraction or an exponent does not parse.
func (s *scanner) digits() string {
	s.skip()
	from := s.at
	for s.at < len(s.b) {
		switch c := s.b[s.at]; {
		case '0' <= c && c <= '9', c == '-', c == '+', c == '.', c == 'e', c == 'E':
			s.at++
			continue
		}
		break
	}
	text := string(s.b[from:s.at])
	if len(text) > 1 && text[0] == '0' || len(text) > 2 && text[:2] == "-0" || len(text) > 0 && text[0] == '+' {
		return "" // not a number of JSON
	}
	return text
}

// text reads a string.
func (s *scanner) text() (v string) {
	if !s.need('"') {
		return ""
	}
	from := s.at
	for s.at < len(s.b) && s.b[s.at] != '"' && s.b[s.at] != '\\' && s.b[s.at] >= ' ' {
		s.at++
	}
	if s.at < len(s.b) && s.b[s.at] == '"' {
		v = string(s.b[from:s.at])
		s.at++
	} else {
		v = s.escaped(from)
	}
	if s.err == nil && !utf8.ValidString(v) {
		s.fail("invalid UTF-8")
	}
	return v
}

// escaped reads the rest of a string in which there is an escape.
func (s *scanner) escaped(from int) string {
	out := append([]byte{}, s.b[from:s.at]...)
	for s.at < len(s.b) && s.err == nil {
		c := s.b[s.at]
		s.at++
		switch {
		case c == '"':
			return string(out)
		case c < ' ':
			s.fail("control character in a string")
		case c != '\\':
			out = append(out, c)
		default:
			out = s.escape(out)
		}
	}
	s.fail("unfinished string")
	return ""
}

// escape reads what follows a backslash.
func (s *scanner) escape(out []byte) []byte {
	if s.at >= len(s.b) {
		s.fail("unfinished string")
		return out
	}
	c := s.b[s.at]
	s.at++
	switch c {
	case '"', '\\', '/':
		return append(out, c)
	case 'b':
		return append(out, '\b')
	case 'f':
		return append(out, '\f')
	case 'n':
		return append(out, '\n')
	case 'r':
		return append(out, '\r')
	case 't':
		return append(out, '\t')
	case 'u':
		r := s.hex()
		if utf16.IsSurrogate(r) {
			if s.at+1 >= len(s.b) || s.b[s.at] != '\\' || s.b[s.at+1] != 'u' {
				s.fail("half of a surrogate pair")
				return out
			}
			s.at += 2
			if r = utf16.DecodeRune(r, s.hex()); r == utf8.RuneError {
				s.fail("half of a surrogate pair")
			}
		}
		return utf8.AppendRune(out, r)
	}
	s.fail("unknown escape in a string")
	return out
}

// hex reads the four digits of a \u escape.
func (s *scanner) hex() rune {
	if len(s.b)-s.at < 4 {
		s.fail("unfinished escape in a string")
		return 0
	}
	n, err := strconv.ParseUint(string(s.b[s.at:s.at+4]), 16, 16)
	if err != nil {
		s.fail("unknown escape in a string")
	}
	s.at += 4
	return rune(n)
}
