package name

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
)

// seeds are names that meet each branch of the grammar.
var seeds = []string{
	"busybox", "busybox:1.36", "library/busybox", "docker.io/busybox", "index.docker.io/busybox", "docker.io/a/b/c:t",
	"quay.io/etcd-io/etcd", "localhost/x", "localhost:5000/x:y", "LOCALHOST/x", "Host/x", "a/B", "[::1]:5000/x", "[::1]/x",
	"[::1/x", "[]/x", "[g]/x", "[::1]x/y", "[::1]:/y", "1.2.3.4:80/x", "a.b:/x", "a.b:x/y", "a..b/x", "-a.b/x", "a-.b/x", ".a/x",
	"a__b", "a___b", "a--b", "a-_b", "a._b", "_a", "a_", "a.", "a//b", "/a", "a/", "", ":", "a:", "a:.t", "a:-t", "a:_t", "a:t/x",
	"a:" + strings.Repeat("t", 128), "a:" + strings.Repeat("t", 129), strings.Repeat("a", 247), strings.Repeat("a", 239),
	strings.Repeat("0", 64), strings.Repeat("0", 63), strings.Repeat("0", 64) + ":x", "x/" + strings.Repeat("a", 300),
	"a@sha256:" + strings.Repeat("0", 64), "a:b@sha256:" + strings.Repeat("0", 64), "a@", "a@@", "é", "a b", "a\n",
	"docker.io/library/", "docker.io/", "docker.io", "docker.io:443/x", "x.y:99999/z", "0_0.0/0",
}

func TestParseAgreesWithDistribution(t *testing.T) {
	for _, s := range seeds {
		compare(t, s)
	}
}

// compare parses s both ways. Digests are the caller's business, so only names
// with a good one, or none, are compared.
func compare(t *testing.T, s string) {
	t.Helper()
	if before, digest, ok := strings.Cut(s, "@"); ok {
		if digest != "" && !strings.Contains(digest, "@") {
			compare(t, before)
		}
		return
	}
	if len(s) > 200 && strings.ContainsAny(s, "./") {
		return // distribution has no limit on hosts
	}
	got, err := Parse(s)
	want, wantErr := reference.ParseNormalizedNamed(s)
	if wantErr == nil && reference.Domain(want) == "" {
		// A host that is none makes it a name without a host there, after the host
		// was looked for.
		if err == nil {
			t.Errorf("Parse(%q) = %+v; distribution finds no host in it", s, got)
		}
		return
	}
	if (err == nil) != (wantErr == nil) {
		t.Errorf("Parse(%q) = %+v, %v; distribution: %v, %v", s, got, err, want, wantErr)
		return
	}
	if err != nil {
		return
	}
	tag := ""
	if tagged, ok := want.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	if got.Host != reference.Domain(want) || got.Path != reference.Path(want) || got.Tag != tag {
		t.Errorf("Parse(%q) = %+v, distribution: %q", s, got, want)
	}
}

func TestParseKeepsTheDigest(t *testing.T) {
	n, err := Parse("a:b@sha256:0")
	if err != nil || n.Digest != "sha256:0" || n.Tag != "b" {
		t.Errorf("Parse() = %+v, %v", n, err)
	}
	if _, err := Parse("a@"); err == nil {
		t.Error("Parse(a@) succeeded")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(compare)
}
