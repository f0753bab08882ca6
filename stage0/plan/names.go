package plan

import (
	"fmt"
	"strings"
)

// maxName bounds the names of apps and volumes.
const maxName = 64

// ValidName is the grammar of the names of apps, volumes and stage1 flavours: a
// lower-case letter or digit, then these, dots, dashes and underscores, at most
// 64 in all. They become names of folders and cgroups.
func ValidName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i, r := range []byte(s) {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
		case i > 0 && (r == '.' || r == '_' || r == '-'):
		default:
			return false
		}
	}
	return true
}

// maxHostname is what the kernel takes (__NEW_UTS_LEN).
const maxHostname = 64

// nameApps gives each app its name: the operator's, or one made of the image's.
func (c *compiler) nameApps() error {
	taken := make(map[string]bool)
	for _, a := range c.spec.Apps {
		if a.Name == "" {
			continue
		}
		if err := checkAppName(a.Name); err != nil {
			return err
		}
		if taken[a.Name] {
			return fmt.Errorf("two apps have the name %q", a.Name)
		}
		taken[a.Name] = true
	}
	for _, a := range c.spec.Apps {
		name := a.Name
		if name == "" {
			name = unique(nameFrom(a.Reference), taken)
			taken[name] = true
		}
		c.names = append(c.names, name)
	}
	return nil
}

func checkAppName(name string) error {
	if !ValidName(name) {
		return fmt.Errorf("app name %q: want a lower-case letter or digit, then up to 63 of these, dots, dashes and underscores", name)
	}
	return nil
}

// nameFrom makes an app name of the last component of an image reference.
func nameFrom(reference string) string {
	_, name, _ := cutLast(reference, "/")
	if first, rest, ok := strings.Cut(name, ":"); ok && first != "" && strings.HasPrefix(reference, first+":") {
		name = rest // a transport without a path: oci:image
	}
	name, _, _ = strings.Cut(name, "@")
	name, _, _ = strings.Cut(name, ":")
	for _, ext := range []string{".gz", ".zst", ".tar"} {
		name = strings.TrimSuffix(name, ext)
	}
	name = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '.', r == '-', r == '_':
			return r
		case 'A' <= r && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, name)
	name = strings.Trim(name, ".-_")
	if len(name) > 48 { // room for a number
		name = strings.TrimRight(name[:48], ".-_")
	}
	if name == "" {
		return "app"
	}
	return name
}

// cutLast is strings.Cut at the last sep; without one, all of s is after it.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}

func unique(name string, taken map[string]bool) string {
	for n, candidate := 2, name; ; n++ {
		if !taken[candidate] {
			return candidate
		}
		candidate = fmt.Sprintf("%s-%d", name, n)
	}
}

// hostname is the operator's, checked, or one made of the UUID. It goes into
// /etc/hosts, so its grammar is strict.
func hostname(spec Spec) (string, error) {
	if spec.Hostname == "" {
		return "rkt-" + spec.UUID[:min(8, len(spec.UUID))], nil
	}
	if len(spec.Hostname) > maxHostname {
		return "", fmt.Errorf("hostname %q has %d characters, limit is %d", spec.Hostname, len(spec.Hostname), maxHostname)
	}
	for label := range strings.SplitSeq(spec.Hostname, ".") {
		if !isLabel(label) {
			return "", fmt.Errorf("hostname %q: want letters, digits and dashes, in parts joined by dots", spec.Hostname)
		}
	}
	return spec.Hostname, nil
}

// isLabel is the grammar of RFC 1123.
func isLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, r := range []byte(s) {
		if !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-') {
			return false
		}
	}
	return true
}
