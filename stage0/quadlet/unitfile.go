package quadlet

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxFile bounds a file, in bytes.
const MaxFile = 1 << 20

// maxEntries bounds the assignments of a file with its drop-ins.
const maxEntries = 10000

// File is a parsed unit file, or several merged.
type File struct{ entries []Entry }

// Entry is one assignment. The text of the value is as in the file, without the
// blanks around it, continued lines joined by a blank.
type Entry struct {
	Section, Key, Value string
	Path                string
	Line                int
}

// fail makes an error about the entry.
func (e Entry) fail(format string, args ...any) *Error {
	return &Error{Path: e.Path, Line: e.Line, Message: fmt.Sprintf(format, args...)}
}

// blanks are what systemd takes for white space.
const blanks = " \t\r\n"

// Parse reads text in the format of systemd.syntax(7). What systemd would warn
// of and skip is an error here: an assignment outside of a section, a line that
// is neither, bytes that are no text. path is for messages. The error is *Error.
func Parse(path string, text []byte) (*File, error) {
	f := &File{}
	section := ""
	for _, l := range joinLines(string(text)) {
		at := Entry{Section: section, Path: path, Line: l.number}
		if err := checkText(l.text); err != nil {
			return nil, at.fail("%v", err)
		}
		line := strings.Trim(l.text, blanks)
		if line[0] == '[' {
			name, ok := strings.CutSuffix(line[1:], "]")
			if !ok || name == "" || strings.ContainsAny(name, "[]") {
				return nil, at.fail("%q is not the name of a section", line)
			}
			section = name
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return nil, at.fail("%.64q is neither a section nor KEY=VALUE", line)
		}
		at.Key, at.Value = strings.TrimRight(key, blanks), strings.TrimLeft(value, blanks)
		switch {
		case at.Key == "":
			return nil, at.fail("nothing is before the =")
		case section == "":
			return nil, at.fail("%s= stands before the first section", at.Key)
		case len(f.entries) == maxEntries:
			return nil, at.fail("the file has more than %d assignments", maxEntries)
		}
		f.entries = append(f.entries, at)
	}
	return f, nil
}

// logicalLine is a line with those that continue it.
type logicalLine struct {
	text   string
	number int // of the first
}

// joinLines drops comments and empty lines, and joins a line that ends in a
// backslash with the next that is no comment.
func joinLines(text string) []logicalLine {
	var lines []logicalLine
	continued := false
	number := 0
	for raw := range strings.Lines(text) {
		number++
		line := strings.TrimSuffix(strings.TrimSuffix(raw, "\n"), "\r")
		start := strings.TrimLeft(line, blanks)
		comment := start != "" && (start[0] == '#' || start[0] == ';')
		if comment || start == "" && !continued {
			continue
		}
		more := endsInBackslash(line)
		if more {
			line = line[:len(line)-1] + " "
		}
		if continued {
			last := &lines[len(lines)-1]
			last.text += line
		} else {
			lines = append(lines, logicalLine{line, number})
		}
		continued = more
	}
	kept := lines[:0]
	for _, l := range lines {
		if strings.Trim(l.text, blanks) != "" {
			kept = append(kept, l)
		}
	}
	return kept
}

// endsInBackslash says whether the last backslash of a line is not itself escaped.
func endsInBackslash(line string) bool {
	return (len(line)-len(strings.TrimRight(line, `\`)))%2 == 1
}

func checkText(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("the line is not UTF-8")
	}
	for _, r := range s {
		if r < ' ' && r != '\t' && r != '\r' || r == 0x7f {
			return fmt.Errorf("the line has the control character %q", r)
		}
	}
	return nil
}

// Merge adds the assignments of a drop-in behind those of f.
func (f *File) Merge(dropIn *File) { f.entries = append(f.entries, dropIn.entries...) }

// values are the assignments of a key in a section; an empty one takes back
// those before it.
func (f *File) values(section, key string) []Entry {
	var found []Entry
	for _, e := range f.entries {
		switch {
		case e.Section != section || e.Key != key:
		case e.Value == "":
			found = nil
		default:
			found = append(found, e)
		}
	}
	return found
}

// value is the last assignment of a key, unless it is empty.
func (f *File) value(section, key string) (Entry, bool) {
	for i := len(f.entries) - 1; i >= 0; i-- {
		if e := f.entries[i]; e.Section == section && e.Key == key {
			return e, e.Value != ""
		}
	}
	return Entry{}, false
}

// section are all assignments of a section in their order.
func (f *File) section(name string) []Entry {
	var found []Entry
	for _, e := range f.entries {
		if e.Section == name {
			found = append(found, e)
		}
	}
	return found
}
