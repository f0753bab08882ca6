package image

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"rkt/cas"
)

var someHex = strings.Repeat("0123456789abcdef", 4)

func TestParseRef(t *testing.T) {
	wd, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	digest := "sha256:" + someHex
	for _, c := range []struct{ in, transport, name, tag, digest, path, canonical string }{
		{in: "busybox", transport: "docker", name: "docker.io/library/busybox", tag: "latest", canonical: "docker.io/library/busybox:latest"},
		{in: "docker://busybox:1.36", transport: "docker", name: "docker.io/library/busybox", tag: "1.36", canonical: "docker.io/library/busybox:1.36"},
		{in: "index.docker.io/a/b", transport: "docker", name: "docker.io/a/b", tag: "latest", canonical: "docker.io/a/b:latest"},
		{in: "Docker.IO/library/busybox", transport: "docker", name: "docker.io/library/busybox", tag: "latest", canonical: "docker.io/library/busybox:latest"},
		{in: "QUAY.io:443/a/b:Tag", transport: "docker", name: "quay.io:443/a/b", tag: "Tag", canonical: "quay.io:443/a/b:Tag"},
		{in: "localhost/x", transport: "docker", name: "localhost/x", tag: "latest", canonical: "localhost/x:latest"},
		{in: "LOCALHOST/x", transport: "docker", name: "localhost/x", tag: "latest", canonical: "localhost/x:latest"},
		{in: "localhost:5000/x:y", transport: "docker", name: "localhost:5000/x", tag: "y", canonical: "localhost:5000/x:y"},
		{in: "[::1]:5000/x", transport: "docker", name: "[::1]:5000/x", tag: "latest", canonical: "[::1]:5000/x:latest"},
		{in: "xn--bcher-kva.example/x", transport: "docker", name: "xn--bcher-kva.example/x", tag: "latest", canonical: "xn--bcher-kva.example/x:latest"},
		{in: "busybox@" + digest, transport: "docker", name: "docker.io/library/busybox", digest: digest, canonical: "docker.io/library/busybox@" + digest},
		{in: "busybox:1@" + digest, transport: "docker", name: "docker.io/library/busybox", tag: "1", digest: digest, canonical: "docker.io/library/busybox:1@" + digest},
		{in: "-", transport: "stdin", canonical: "-"},
		{in: "/a/./b.tar", transport: "path", path: "/a/b.tar", canonical: "/a/b.tar"},
		{in: "./b:c.tar", transport: "path", path: wd + "/b:c.tar", canonical: wd + "/b:c.tar"},
		{in: ".", transport: "path", path: wd, canonical: wd},
		{in: "..", transport: "path", path: filepath.Dir(wd), canonical: filepath.Dir(wd)},
		{in: "../b", transport: "path", path: filepath.Dir(wd) + "/b", canonical: filepath.Dir(wd) + "/b"},
		{in: "oci:dir", transport: "oci", path: wd + "/dir", canonical: "oci:" + wd + "/dir"},
		{in: "oci:/a/b:v1.0", transport: "oci", path: "/a/b", tag: "v1.0", canonical: "oci:/a/b:v1.0"},
		{in: "oci:/a/b@" + digest, transport: "oci", path: "/a/b", digest: digest, canonical: "oci:/a/b@" + digest},
		{in: "oci-archive:/a.tar", transport: "oci-archive", path: "/a.tar", canonical: "oci-archive:/a.tar"},
		{in: "docker-archive:/a.tar:docker.io/library/x:1", transport: "docker-archive", path: "/a.tar", tag: "docker.io/library/x:1", canonical: "docker-archive:/a.tar:docker.io/library/x:1"},
	} {
		got, err := ParseRef(c.in)
		if err != nil {
			t.Errorf("ParseRef(%q) = %v", c.in, err)
			continue
		}
		if string(got.Transport) != c.transport || got.Name() != c.name || got.Tag != c.tag || got.Digest.String() != c.digest || got.Path != c.path {
			t.Errorf("ParseRef(%q) = %+v", c.in, got)
		}
		if got.IsLocal() != (c.transport != "docker") {
			t.Errorf("ParseRef(%q).IsLocal() = %v", c.in, got.IsLocal())
		}
		if got.String() != c.canonical {
			t.Errorf("ParseRef(%q).String() = %q, want %q", c.in, got, c.canonical)
		}
		if again, err := ParseRef(got.String()); err != nil || again != got {
			t.Errorf("ParseRef(%q) = %+v, %v, want %+v", got, again, err, got)
		}
	}
}

func TestParseRefRefuses(t *testing.T) {
	for _, in := range []string{
		"", " ", "-x", "--help", "a/-b", "Busybox", "A/b", "Foo/bar", "a/../b", "a//b", "a/b/", "docker://", "docker://-",
		"dir:x", "docker-daemon:busybox:latest", "containers-storage:x", "ostree:x@/y", "sif:x",
		"http://x/y", "https://x/y", "docker:///x", "ftp://x",
		"x:", "x:ta g", "x:" + strings.Repeat("t", 129), strings.Repeat("a/", 130) + "b", strings.Repeat("a", 300),
		"localhost:0/x", "localhost:99999/x", "localhost:080/x", "localhost:/x",
		"x@sha256:" + someHex[1:], "x@sha256:" + strings.ToUpper(someHex), "x@sha512:" + someHex + someHex, "x@md5:" + someHex[:32],
		"x@sha256:" + someHex + ":tag", "x@sha256:../../etc", someHex,
		"a%2e%2e/b", "bücher.example/x", "раураl.com/x", "x\n", "x\x00", "oci:x\x1b[31m", "/a\nb",
		"oci:", "oci::tag", "oci:x:", "oci:x:-t", "oci:x: ", "oci:x:" + strings.Repeat("t", 300), "oci:x@sha256:12",
	} {
		if got, err := ParseRef(in); !errors.Is(err, ErrReference) {
			t.Errorf("ParseRef(%q) = %+v, %v, want ErrReference", in, got, err)
		}
	}
}

// A parsed reference is stable, and its name is what rules match.
func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"busybox", "docker://a.b/c:d@sha256:" + someHex, "oci:/x:y", "docker-archive:x", "-", "./p", "[::1]:5000/x", "A.b/c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := ParseRef(s)
		if err != nil {
			if (ref != Ref{}) || !errors.Is(err, ErrReference) {
				t.Errorf("ParseRef(%q) = %+v, %v", s, ref, err)
			}
			return
		}
		if again, err := ParseRef(ref.String()); err != nil || again != ref {
			t.Errorf("%q parses to %+v, that to %+v, %v", s, ref, again, err)
		}
		if ref.IsLocal() != (ref.Name() == "") || ref.Name() != strings.ToLower(ref.Name()) {
			t.Errorf("%q has the name %q", s, ref.Name())
		}
		if ref.Transport == Registry && ref.Tag == "" && ref.Digest == (cas.Digest{}) {
			t.Errorf("%q means no image: %+v", s, ref)
		}
	})
}
