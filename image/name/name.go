// Package name is the grammar of image names in registries: [HOST/]PATH[:TAG]
// [@DIGEST], as the field writes them, with docker.io for a missing host. Start
// with Parse. It is the grammar of github.com/distribution/reference, which a
// test compares it with; that module compiles regular expressions when a
// program starts, which would be most of the start-up time of rkt.
package name

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of the grammar, in bytes.
const (
	maxPath = 255
	maxHost = 255
	maxTag  = 128
)

// The host of names without one, and the folder of its images without one.
const (
	defaultHost   = "docker.io"
	oldHost       = "index.docker.io"
	defaultFolder = "library/"
)

// Name is a parsed name. Digest is not looked into.
type Name struct {
	Host, Path, Tag, Digest string
}

// Parse parses a name and completes it: "busybox" is docker.io/library/busybox.
// The tag and the digest may be missing.
func Parse(s string) (Name, error) {
	s, digest, digested := strings.Cut(s, "@")
	n := Name{Digest: digest}
	if digested && digest == "" {
		return Name{}, errors.New("no digest after the @")
	}
	host, rest := splitHost(s)
	if i := strings.IndexByte(rest, ':'); i >= 0 {
		rest, n.Tag = rest[:i], rest[i+1:]
		if !isTag(n.Tag) {
			return Name{}, fmt.Errorf("%.140q is not a tag", n.Tag)
		}
	}
	if isHexDigest(s) {
		return Name{}, errors.New("64 hexadecimal digits are an ID, not a name")
	}
	n.Host, n.Path = host, rest
	if host == oldHost {
		n.Host = defaultHost
	}
	if n.Host == defaultHost && !strings.Contains(rest, "/") {
		n.Path = defaultFolder + rest
	}
	return n, Check(n.Host, n.Path)
}

// Check checks the two parts of a complete name.
func Check(host, path string) error {
	if !isHost(host) {
		return fmt.Errorf("%.300q is not a host", host)
	}
	for part := range strings.SplitSeq(path, "/") {
		if !isPathComponent(part) {
			return fmt.Errorf("%.300q is not a part of a repository: want small letters and digits, joined by dots, dashes and underscores", part)
		}
	}
	if len(path) > maxPath || len(host) > maxHost {
		return fmt.Errorf("the name has %d characters, limit is %d", max(len(host), len(path)), maxPath)
	}
	return nil
}

// splitHost tells a host from the first part of a path: it has a dot, a colon
// or capitals, or is localhost.
func splitHost(s string) (host, rest string) {
	first, rest, found := strings.Cut(s, "/")
	if !found || !strings.ContainsAny(first, ".:") && first != "localhost" && first == strings.ToLower(first) {
		return defaultHost, s
	}
	return first, rest
}

// isHost accepts DNS names, IPv4 addresses, and IPv6 addresses in brackets, with
// a port or without.
func isHost(s string) bool {
	name, port := s, ""
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 2 || strings.Trim(s[1:end], "0123456789abcdefABCDEF:") != "" {
			return false
		}
		if name, port = "", s[end+1:]; port == "" {
			return true
		}
		port = strings.TrimPrefix(port, ":")
	} else if i := strings.IndexByte(s, ':'); i >= 0 {
		name, port = s[:i], s[i+1:]
	} else {
		port = "0"
	}
	if port == "" || strings.Trim(port, "0123456789") != "" {
		return false
	}
	if strings.HasPrefix(s, "[") {
		return s[strings.IndexByte(s, ']')+1] == ':'
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || !isAlnum(label[0]) || !isAlnum(label[len(label)-1]) {
			return false
		}
		for i := range len(label) {
			if !isAlnum(label[i]) && label[i] != '-' {
				return false
			}
		}
	}
	return true
}

// isPathComponent accepts small letters and digits, joined by one dot, one or
// two underscores, or any number of dashes.
func isPathComponent(s string) bool {
	for i := 0; ; {
		start := i
		for i < len(s) && isSmall(s[i]) {
			i++
		}
		if i == start {
			return false
		}
		if i == len(s) {
			return true
		}
		switch {
		case strings.HasPrefix(s[i:], "__"):
			i += 2
		case s[i] == '.' || s[i] == '_':
			i++
		case s[i] == '-':
			for i < len(s) && s[i] == '-' {
				i++
			}
		default:
			return false
		}
	}
}

func isTag(s string) bool {
	if s == "" || len(s) > maxTag || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if !isAlnum(s[i]) && s[i] != '_' && s[i] != '.' && s[i] != '-' {
			return false
		}
	}
	return true
}

func isHexDigest(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }

func isSmall(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

func isAlnum(c byte) bool { return isSmall(c) || 'A' <= c && c <= 'Z' }
