// Package strictjson decodes JSON that must mean one thing to everybody who
// reads it. Of encoding/json it takes back what makes two readers disagree:
// duplicate keys, keys in another case, data after the value, text that is not
// UTF-8. It also bounds size and depth.
package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Options of Decode. The zero value refuses unknown keys.
type Options struct {
	MaxBytes int // 0 = no limit
	// AllowUnknown ignores keys that the type of the value does not have.
	AllowUnknown bool
}

// MaxDepth bounds how deep arrays and objects may be nested.
const MaxDepth = 32

// Decode decodes the single JSON value in b into v, a pointer. Below the fields
// of v's type nothing is exempt: a duplicate key is an error even where the
// value is ignored.
func Decode(b []byte, v any, o Options) error {
	if o.MaxBytes > 0 && len(b) > o.MaxBytes {
		return fmt.Errorf("document is %d bytes, limit is %d", len(b), o.MaxBytes)
	}
	if !utf8.Valid(b) {
		return errors.New("document is not UTF-8")
	}
	if err := checkDepth(b); err != nil {
		return err
	}
	// From here on the grammar is known to be right, and the depth to be small.
	if !json.Valid(b) {
		return syntaxError(b)
	}
	if err := checkKeys(b, v, o); err != nil {
		return err
	}
	return json.Unmarshal(b, v)
}

// checkDepth counts brackets outside of strings.
func checkDepth(b []byte) error {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = endOfString(b, i) - 1
		case '{', '[':
			if depth++; depth > MaxDepth {
				return fmt.Errorf("document is nested deeper than %d", MaxDepth)
			}
		case '}', ']':
			depth--
		}
	}
	return nil
}

// endOfString returns the index after the string that begins at b[i]; len(b)
// when it does not end.
func endOfString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// syntaxError says where the document stops being JSON.
func syntaxError(b []byte) error {
	var raw json.RawMessage
	err := json.Unmarshal(b, &raw)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		offset := min(int(syntax.Offset), len(b))
		return fmt.Errorf("line %d: %w", 1+bytes.Count(b[:offset], []byte("\n")), err)
	}
	return err
}
