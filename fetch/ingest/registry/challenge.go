package registry

import "strings"

// Limits of what is read of the WWW-Authenticate headers of an answer.
const (
	maxChallenges      = 8
	maxChallengeHeader = 4 << 10 // bytes of one header
)

// challenge is one way to authorize that a server offers (RFC 9110, 11.6.1).
type challenge struct {
	scheme     string // in lower case
	parameters map[string]string
}

// parseChallenges reads the challenges in the headers, as many as are well
// formed and within the limits.
func parseChallenges(headers []string) []challenge {
	var list []challenge
	for _, h := range headers {
		if len(h) > maxChallengeHeader {
			continue
		}
		for h != "" && len(list) < maxChallenges {
			var ch challenge
			if ch.scheme, h = token(trim(h)); ch.scheme == "" {
				break
			}
			ch.scheme = strings.ToLower(ch.scheme)
			ch.parameters, h = parseParameters(h)
			list = append(list, ch)
		}
	}
	return list
}

// parseParameters reads key=value pairs between commas, up to what is none: the
// next challenge, or garbage.
func parseParameters(s string) (map[string]string, string) {
	parameters := map[string]string{}
	for {
		s = trim(s)
		key, rest := token(s)
		rest, ok := strings.CutPrefix(strings.TrimLeft(rest, " \t"), "=")
		if key == "" || !ok {
			return parameters, s
		}
		value, rest, ok := parameterValue(strings.TrimLeft(rest, " \t"))
		if !ok {
			return parameters, ""
		}
		key = strings.ToLower(key)
		if _, twice := parameters[key]; twice {
			return map[string]string{}, "" // who asks twice gets nothing
		}
		parameters[key] = value
		s = rest
	}
}

// parameterValue reads a token or a quoted string.
func parameterValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		value, rest = token(s)
		return value, rest, value != ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
			fallthrough
		default:
			b.WriteByte(s[i])
		}
	}
	return "", "", false
}

// trim takes away what separates challenges and parameters.
func trim(s string) string { return strings.TrimLeft(s, " \t,") }

// token splits a token (RFC 9110, 5.6.2) off the front of s.
func token(s string) (string, string) {
	end := strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~/", r))
	})
	if end < 0 {
		return s, ""
	}
	return s[:end], s[end:]
}
