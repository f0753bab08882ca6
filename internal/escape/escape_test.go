package escape

import "testing"

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
