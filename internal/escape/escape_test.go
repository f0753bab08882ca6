package escape

import (
	"strings"
	"testing"
)

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"plain text / 100%":     "plain text / 100%",
		"ünïcode 漢字":            "ünïcode 漢字",
		"a\x1b[31mred\nb\r\x00": `a\x1b[31mred\x0ab\x0d\x00`,
		"\x7f":                  `\x7f`,
		"\xff\xc3(":             `\xff\xc3(`,
		"rtl \u202e\u2066":      `rtl \u202e\u2066`,
		"\u009b31m\u2028":       `\u009b31m\u2028`,
		"tag \U000e0041":        `tag \U000e0041`,
		"\ufffd is printable":   "\ufffd is printable",
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestFileName(t *testing.T) {
	for in, want := range map[string]string{
		"docker.io/library/busybox:1.0": "docker.io%2Flibrary%2Fbusybox%3A1.0",
		"..":                            "%2E.",
		".hidden":                       "%2Ehidden",
		"a%2Fb":                         "a%252Fb",
		"\x00é":                         "%00%C3%A9",
	} {
		if got := FileName(in); got != want {
			t.Errorf("FileName(%q) = %q, want %q", in, got, want)
		}
	}
	long := strings.Repeat("/", 4096)
	a, b := FileName(long), FileName(long+"/")
	if len(a) > 220 || len(b) > 220 || a == b || a[:50] != b[:50] {
		t.Errorf("long texts have the names %q and %q", a, b)
	}
}
