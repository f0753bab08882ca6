package quadlet

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// splitWords splits a value as systemd does for Environment= and the arguments
// of ExecStart=: at blanks, with both kinds of quotes and with the escapes of C.
// Specifiers stay as they are. An escape that systemd does not know is an error.
func splitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	in, quote := false, byte(0)
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '\\':
			text, n, err := unescape(s[i:])
			if err != nil {
				return nil, err
			}
			word.WriteString(text)
			in, i = true, i+n
			continue
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			quote, in = c, true
		case strings.IndexByte(blanks, c) >= 0:
			if in {
				words = append(words, word.String())
			}
			word.Reset()
			in = false
		default:
			word.WriteByte(c)
			in = true
		}
		i++
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote %c is not closed", quote)
	}
	if in {
		words = append(words, word.String())
	}
	for _, w := range words {
		if err := checkSpecifiers(w); err != nil { // one may have been written as an escape
			return nil, err
		}
	}
	return words, nil
}

// unescape reads the escape that s begins with.
func unescape(s string) (text string, n int, err error) {
	if len(s) < 2 {
		return "", 0, errors.New("a backslash stands at the end")
	}
	const from, to = `abfnrtvs\"'`, "\a\b\f\n\r\t\v \\\"'"
	if at := strings.IndexByte(from, s[1]); at >= 0 {
		return to[at : at+1], 2, nil
	}
	digits, base, skip := 0, 16, 2
	switch c := s[1]; {
	case c == 'x':
		digits = 2
	case c == 'u':
		digits = 4
	case c == 'U':
		digits = 8
	case '0' <= c && c <= '7':
		digits, base, skip = 3, 8, 1
	}
	if digits == 0 || len(s) < skip+digits {
		return "", 0, fmt.Errorf("unknown escape %.4q; write \\\\ for a backslash", s)
	}
	v, err := strconv.ParseUint(s[skip:skip+digits], base, 32)
	n = skip + digits
	switch {
	case err != nil:
		return "", 0, fmt.Errorf("unknown escape %q; write \\\\ for a backslash", s[:n])
	case v == 0:
		return "", 0, errors.New("an escape stands for NUL")
	case digits >= 4 && !utf8.ValidRune(rune(v)):
		return "", 0, fmt.Errorf("%q is not a character", s[:n])
	case digits >= 4:
		return string(rune(v)), n, nil
	case v > 0xff:
		return "", 0, fmt.Errorf("unknown escape %q", s[:n])
	}
	return string([]byte{byte(v)}), n, nil
}

// quoteWord writes a word so that systemd reads it back as this one word,
// whatever is in it. Specifiers and variables are left to systemd.
func quoteWord(s string) string {
	if s != "" && !strings.ContainsFunc(s, needsQuotes) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + s[:n])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ' || r == 0x7f || r == utf8.RuneError && n == 1: // a line that is not UTF-8 is lost
			fmt.Fprintf(&b, `\x%02x`, s[0])
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	b.WriteByte('"')
	return b.String()
}

func needsQuotes(r rune) bool {
	return r <= ' ' || r == 0x7f || strings.ContainsRune("\"'\\;#", r)
}

// literal is a text that systemd is to take as it is: neither specifiers nor
// variables are replaced.
func literal(s string) string {
	return strings.NewReplacer("%", "%%", "$", "$$").Replace(s)
}

// plain is the text of a path or a description for a line of a unit; there are
// no variables in one.
func plain(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// specifiers are those of systemd.unit(5).
const specifiers = "aAbBCdDEfgGhHiIjJlLmMnNopPqsStTuUvVwWyY%"

// checkSpecifiers refuses a percent sign that systemd could make nothing of: it
// would refuse the unit, without a word about this file.
func checkSpecifiers(s string) error {
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			continue
		}
		i++
		if i == len(s) || strings.IndexByte(specifiers, s[i]) < 0 {
			end := min(i+1, len(s))
			return fmt.Errorf("%q is not a specifier of systemd; write %%%% for a percent sign", s[i-1:end])
		}
	}
	return nil
}

// hasSpecifier says whether systemd would replace a part of s.
func hasSpecifier(s string) bool {
	return strings.Contains(strings.ReplaceAll(s, "%%", ""), "%")
}

// parseBool reads a truth value as systemd does.
func parseBool(s string) (bool, error) {
	switch strings.ToLower(s) {
	case "1", "yes", "y", "true", "t", "on":
		return true, nil
	case "0", "no", "n", "false", "f", "off":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither yes nor no", s)
}
