package tarball

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"rkt/fetch/ingest/forge"
	"rkt/image/layer"
)

// collected are facts kept in memory.
type collected struct {
	facts    []layer.Fact
	accounts layer.Accounts
	summary  layer.Summary
}

func (c *collected) Fact(f *layer.Fact) error {
	if err := f.Check(); err != nil {
		return err
	}
	kept := *f
	kept.Xattrs, kept.Extents = slices.Clone(f.Xattrs), slices.Clone(f.Extents)
	c.facts = append(c.facts, kept)
	return nil
}

func (c *collected) Accounts(a *layer.Accounts) error { c.accounts = *a; return a.Check() }

func (c *collected) Close(s layer.Summary) error { c.summary = s; return nil }

// scan scans a tar that comes in pieces of step bytes.
func scan(b []byte, step int) (*collected, error) {
	c := &collected{}
	s := NewScanner(c)
	for len(b) > 0 {
		n := min(step, len(b))
		if _, err := s.Write(b[:n]); err != nil {
			return nil, err
		}
		b = b[n:]
	}
	_, err := s.Close()
	return c, err
}

// mustScan scans a tar in pieces of several sizes and by file, with one result.
func mustScan(t *testing.T, b []byte) *collected {
	t.Helper()
	want, err := scan(b, len(b)+1)
	if err != nil {
		t.Fatalf("scan: %v", err)
	}
	for _, step := range []int{1, 511, 512, 513, 4096} {
		got, err := scan(b, step)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("scan by %d bytes = %+v, %v, want %+v", step, got, err, want)
		}
	}
	got := &collected{}
	if err := ScanFile(tempFile(t, b), got); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("ScanFile() = %+v, %v, want %+v", got, err, want)
	}
	return want
}

func tempFile(t *testing.T, b []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tar")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// show is one line for a fact.
func show(f layer.Fact) string {
	kinds := map[layer.Kind]string{
		layer.Dir: "dir", layer.Regular: "file", layer.Symlink: "symlink", layer.Hardlink: "link",
		layer.Fifo: "fifo", layer.Whiteout: "whiteout", layer.Opaque: "opaque",
	}
	s := fmt.Sprintf("%s %s", kinds[f.Kind], f.Path)
	if f.Link != "" {
		s += " -> " + f.Link
	}
	if f.Kind == layer.Regular {
		s += fmt.Sprintf(" %d", f.Size)
	}
	return s
}

func TestScan(t *testing.T) {
	long := strings.Repeat("d/", 60) + strings.Repeat("n", 200)
	tests := map[string]struct {
		tar  []byte
		want []string
	}{
		"plain": {forge.Tar(forge.Dir("./"), forge.Dir("etc/"), forge.File("etc/a", "hello"), forge.Symlink("b", "/etc/a"), forge.Hardlink("c", "etc/a"), forge.Entry{Name: "p", Flag: '6'}),
			[]string{"dir .", "dir etc", "file etc/a 5", "symlink b -> /etc/a", "link c -> etc/a", "fifo p"}},
		"IM-01 absolute":        {forge.Tar(forge.File("/abs", ""), forge.File("//a//b", ""), forge.File("./././c", "")), []string{"file abs 0", "file a/b 0", "file c 0"}},
		"IM-01 root by name":    {forge.Tar(forge.Dir("/"), forge.Dir(".")), []string{"dir .", "dir ."}},
		"IM-01 odd names":       {forge.Tar(forge.File("~a", ""), forge.File(`b\c`, ""), forge.File("d\ne", ""), forge.File("\xff\xfe", ""), forge.File("...", "")), []string{"file ~a 0", `file b\c 0`, "file d\ne 0", "file \xff\xfe 0", "file ... 0"}},
		"IM-01 255 bytes":       {forge.Tar(forge.LongName(strings.Repeat("x", 255)), forge.Entry{Magic: forge.GNU}), []string{"file " + strings.Repeat("x", 255) + " 0"}},
		"prefix":                {forge.Tar(forge.Entry{Name: "name", Prefix: "pre/fix"}), []string{"file pre/fix/name 0"}},
		"prefix of star":        {forge.Tar(forge.Entry{Name: "name", Prefix: "pre", Raw: map[int]string{508: "tar\x00", 476: "00000000000\x00"}}), []string{"file pre/name 0"}},
		"times of GNU":          {forge.Tar(forge.Entry{Name: "name", Magic: forge.GNU, Prefix: "14371641320\x0014371641320\x00"}), []string{"file name 0"}},
		"prefix of old Go":      {forge.Tar(forge.Entry{Name: "name", Magic: forge.GNU, Prefix: "usr/share/doc"}), []string{"file usr/share/doc/name 0"}},
		"v7 folder":             {forge.Tar(forge.Entry{Name: "dir/", Magic: "\x00\x00\x00\x00\x00\x00\x00\x00"}), []string{"dir dir"}},
		"v7 flag":               {forge.Tar(forge.Entry{Name: "f", Raw: map[int]string{156: "\x00"}}), []string{"file f 0"}},
		"contiguous":            {forge.Tar(forge.Entry{Name: "f", Flag: '7', Data: "xy"}), []string{"file f 2"}},
		"long name":             {forge.Tar(forge.LongName(long), forge.Entry{Name: long[:100], Magic: forge.GNU, Data: "x"}), []string{"file " + long + " 1"}},
		"long link":             {forge.Tar(forge.LongLink(long), forge.Symlink("s", long[:100])), []string{"symlink s -> " + long}},
		"pax path":              {forge.Tar(forge.PAX("path", long, "linkpath", "ignored"), forge.File("short", "x")), []string{"file " + long + " 1"}},
		"pax linkpath":          {forge.Tar(forge.PAX("linkpath", "/"+long), forge.Hardlink("h", "x")), []string{"link h -> " + long}},
		"pax empty":             {forge.Tar(forge.PAX("path", "", "comment", "x"), forge.File("f", "x")), []string{"file f 1"}},
		"pax without records":   {forge.Tar(forge.PAX(), forge.File("f", "x")), []string{"file f 1"}},
		"global comment":        {forge.Tar(forge.Global("comment", "0123"), forge.File("f", "x")), []string{"file f 1"}},
		"IM-05 whiteouts":       {forge.Tar(forge.File("a/.wh.x", ""), forge.File(".wh.y", ""), forge.File("a/.wh..wh..opq", ""), forge.File(".wh..wh..opq", "")), []string{"whiteout a/x", "whiteout y", "opaque a", "opaque ."}},
		"IM-05 aufs":            {forge.Tar(forge.Dir(".wh..wh.plnk/"), forge.File(".wh..wh.plnk/1.2", "x"), forge.File(".wh..wh.aufs", ""), forge.Hardlink(".wh.z", ".wh..wh.aufs"), forge.File("b", "")), []string{"whiteout z", "file b 0"}},
		"IM-05 not whiteouts":   {forge.Tar(forge.File("a.wh.b", ""), forge.File(".whx", ""), forge.Dir("x.wh.")), []string{"file a.wh.b 0", "file .whx 0", "dir x.wh."}},
		"IM-05 three dots":      {forge.Tar(forge.File(".wh....", "")), []string{"whiteout ..."}},
		"IM-06 devices":         {forge.Tar(forge.Entry{Name: "sda", Flag: '4'}, forge.Entry{Name: "null", Flag: '3'}, forge.Hardlink("zero", "null"), forge.File("f", "")), []string{"file f 0"}},
		"IM-06 device replaced": {forge.Tar(forge.Entry{Name: "null", Flag: '3'}, forge.File("null", "x"), forge.Hardlink("zero", "null")), []string{"file null 1", "link zero -> null"}},
		"IM-04 absolute target": {forge.Tar(forge.File("a", ""), forge.Hardlink("b", "/./a")), []string{"file a 0", "link b -> a"}},
		"IM-10 no end":          {forge.Open(forge.File("a", "x")), []string{"file a 1"}},
		"IM-10 one zero block":  {append(forge.Open(forge.File("a", "x")), make([]byte, 512)...), []string{"file a 1"}},
		"IM-10 long end":        {append(forge.Tar(forge.File("a", "x")), make([]byte, 9000)...), []string{"file a 1"}},
		"empty":                 {nil, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := mustScan(t, test.tar)
			var got []string
			for _, f := range c.facts {
				got = append(got, show(f))
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("scan = %q, want %q", got, test.want)
			}
			if c.summary.TarSize != uint64(len(test.tar)) || c.summary.Entries != uint64(len(test.want)) {
				t.Errorf("summary = %+v, want %d bytes, %d entries", c.summary, len(test.tar), len(test.want))
			}
		})
	}
}

func TestDevicesAreCounted(t *testing.T) {
	c := mustScan(t, forge.Tar(forge.Entry{Name: "a", Flag: '3'}, forge.Entry{Name: "b", Flag: '4'}, forge.Hardlink("c", "a")))
	if c.summary.Devices != 3 {
		t.Errorf("Devices = %d, want 3", c.summary.Devices)
	}
}

func TestScanRefuses(t *testing.T) {
	sparse := func(records ...string) []byte {
		return forge.Tar(forge.PAX(records...), forge.Entry{Name: "s", Data: strings.Repeat("x", 1024)})
	}
	body := func(data string) []byte { // a PAX header with this body
		return forge.Tar(forge.Entry{Name: "x", Flag: 'x', Data: data}, forge.File("f", ""))
	}
	tests := map[string][]byte{
		"IM-01 upwards":               forge.Tar(forge.File("../x", "")),
		"IM-01 upwards inside":        forge.Tar(forge.File("a/../../x", "")),
		"IM-01 upwards and back":      forge.Tar(forge.File("a/../b", "")),
		"IM-01 only dots":             forge.Tar(forge.Dir("..")),
		"IM-01 empty":                 forge.Tar(forge.File("", "")),
		"IM-01 root is a file":        forge.Tar(forge.File("./", "x")),
		"IM-01 root is a symlink":     forge.Tar(forge.Symlink(".", "x")),
		"IM-01 256 bytes":             forge.Tar(forge.LongName(strings.Repeat("x", 256)), forge.Entry{}),
		"IM-01 4097 bytes":            forge.Tar(forge.LongName(strings.Repeat("x/", 2048)+"y"), forge.Entry{}),
		"IM-01 depth":                 forge.Tar(forge.LongName(strings.Repeat("x/", 256)+"y"), forge.Entry{}),
		"IM-01 NUL in pax":            forge.Tar(forge.PAX("path", "a\x00b"), forge.File("f", "")),
		"IM-01 NUL in link":           forge.Tar(forge.PAX("linkpath", "a\x00b"), forge.Symlink("f", "x")),
		"IM-01 file with slash":       forge.Tar(forge.File("f/", "data")),
		"IM-04 link upwards":          forge.Tar(forge.Hardlink("a", "../../etc/shadow")),
		"IM-04 link to root":          forge.Tar(forge.Hardlink("a", "/")),
		"IM-04 link to nothing":       forge.Tar(forge.Hardlink("a", "")),
		"IM-04 link with data":        forge.Tar(forge.File("a", "x"), forge.Entry{Name: "b", Flag: '1', Link: "a", Data: "data"}),
		"IM-02 empty symlink":         forge.Tar(forge.Symlink("a", "")),
		"IM-02 long symlink":          forge.Tar(forge.PAX("linkpath", strings.Repeat("x", 4096)), forge.Symlink("a", "x")),
		"IM-05 of nothing":            forge.Tar(forge.File("a/.wh.", "")),
		"IM-05 of dot":                forge.Tar(forge.File(".wh..", "")),
		"IM-05 of dots":               forge.Tar(forge.File("a/.wh...", "")),
		"IM-05 folder":                forge.Tar(forge.Dir(".wh.a/")),
		"IM-05 below":                 forge.Tar(forge.File(".wh.a/b", "")),
		"IM-05 symlink":               forge.Tar(forge.Symlink(".wh.a", "b")),
		"IM-05 device":                forge.Tar(forge.Entry{Name: ".wh.a", Flag: '3'}),
		"IM-05 opaque folder":         forge.Tar(forge.Dir("a/.wh..wh..opq")),
		"IM-06 unknown type":          forge.Tar(forge.Entry{Name: "a", Flag: 'Z'}),
		"IM-06 dumpdir":               forge.Tar(forge.Entry{Name: "a", Flag: 'D', Magic: forge.GNU}),
		"IM-06 multivolume":           forge.Tar(forge.Entry{Name: "a", Flag: 'M', Magic: forge.GNU}),
		"IM-06 volume label":          forge.Tar(forge.Entry{Name: "a", Flag: 'V', Magic: forge.GNU}),
		"IM-06 solaris":               forge.Tar(forge.Entry{Name: "a", Flag: 'X'}),
		"IM-07 twice":                 forge.Tar(forge.PAX("SCHILY.xattr.user.a", "1", "SCHILY.xattr.user.a", "2"), forge.File("f", "")),
		"IM-07 too long":              forge.Tar(forge.PAX("SCHILY.xattr.user.a", strings.Repeat("x", 64<<10+1)), forge.File("f", "")),
		"IM-10 checksum":              forge.Tar(forge.Entry{Name: "f", BadSum: true}),
		"IM-10 garbage":               bytes.Repeat([]byte("garbage!"), 128),
		"IM-10 global path":           forge.Tar(forge.Global("path", "x"), forge.File("f", "")),
		"IM-10 global size":           forge.Tar(forge.Global("size", "0"), forge.File("f", "x")),
		"IM-10 global owner":          forge.Tar(forge.Global("uid", "0"), forge.File("f", "x")),
		"IM-10 L and pax path":        forge.Tar(forge.LongName("a"), forge.PAX("path", "b"), forge.File("c", "")),
		"IM-10 K and pax linkpath":    forge.Tar(forge.LongLink("a"), forge.PAX("linkpath", "b"), forge.Symlink("c", "d")),
		"IM-10 L twice":               forge.Tar(forge.LongName("a"), forge.LongName("b"), forge.File("c", "")),
		"IM-10 pax twice":             forge.Tar(forge.PAX("path", "a"), forge.PAX("path", "b"), forge.File("c", "")),
		"IM-10 pax key twice":         forge.Tar(forge.PAX("path", "a", "path", "b"), forge.File("c", "")),
		"IM-10 pax size smaller":      forge.Tar(forge.PAX("size", "0"), forge.File("c", strings.Repeat("x", 512))),
		"IM-10 pax size larger":       forge.Tar(forge.PAX("size", "1024"), forge.File("c", strings.Repeat("x", 512))),
		"IM-10 pax size negative":     forge.Tar(forge.PAX("size", "-1"), forge.File("c", "")),
		"IM-10 pax size huge":         forge.Tar(forge.PAX("size", "9223372036854775807"), forge.File("c", "")),
		"IM-10 size negative":         forge.Tar(forge.Entry{Name: "f", Size: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}),
		"IM-10 size 2^63":             forge.Tar(forge.Entry{Name: "f", Size: "\x80\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00"}),
		"IM-10 size not a number":     forge.Tar(forge.Entry{Name: "f", Size: "0000000000z"}),
		"IM-10 more than there is":    forge.Tar(forge.Entry{Name: "f", Size: "77777"}),
		"IM-10 cut in data":           forge.Tar(forge.File("f", strings.Repeat("x", 900)))[:1000],
		"IM-10 cut in padding":        forge.Open(forge.Entry{Name: "f", Data: "xxx", NoPadding: true}),
		"IM-10 cut in header":         forge.Tar(forge.File("f", ""))[:300],
		"IM-10 headers at the end":    forge.Tar(forge.PAX("path", "a")),
		"IM-10 headers, no end":       forge.Open(forge.LongName("a")),
		"IM-10 second archive":        append(forge.Tar(forge.File("a", "")), forge.Tar(forge.File("b", ""))...),
		"IM-10 after one zero block":  append(append(forge.Open(forge.File("a", "")), make([]byte, 512)...), forge.Tar(forge.File("b", ""))...),
		"IM-10 data behind the end":   append(forge.Tar(forge.File("a", "")), 1),
		"IM-10 folder with data":      forge.Tar(forge.Entry{Name: "d/", Flag: '5', Data: "x"}),
		"IM-10 empty long name":       forge.Tar(forge.Entry{Flag: 'L', Data: "\x00"}, forge.File("f", "")),
		"IM-10 long name with more":   forge.Tar(forge.Entry{Flag: 'L', Data: "a\x00b"}, forge.File("f", "")),
		"IM-10 huge long name":        forge.Tar(forge.Entry{Flag: 'L', Data: strings.Repeat("x", 5000)}, forge.File("f", "")),
		"IM-10 huge pax":              forge.Open(forge.Entry{Flag: 'x', Size: "77777777777"}),
		"pax no length":               body("path=a\n"),
		"pax length zero":             body("0 path=a\n"),
		"pax length short":            body("5 path=a\n"),
		"pax length long":             body("99 path=a\n"),
		"pax length signed":           body("+10 path=a\n"),
		"pax length overflow":         body("99999999999999999999 path=a\n"),
		"pax no newline":              body("9 path=ab"),
		"pax no equals":               body("9 pathab\n"),
		"pax no key":                  body("6 =ab\n"),
		"IM-13 uid 2^32-1":            forge.Tar(forge.PAX("uid", "4294967295"), forge.File("f", "")),
		"IM-13 uid 2^32":              forge.Tar(forge.PAX("uid", "4294967296"), forge.File("f", "")),
		"IM-13 uid negative":          forge.Tar(forge.Entry{Name: "f", UID: "\xff\xff\xff\xff\xff\xff\xff\xff"}),
		"IM-13 gid no number":         forge.Tar(forge.Entry{Name: "f", GID: "xx"}),
		"IM-13 mode no number":        forge.Tar(forge.Entry{Name: "f", Mode: "99"}),
		"IM-13 mtime 1e400":           forge.Tar(forge.PAX("mtime", "1e400"), forge.File("f", "")),
		"IM-13 mtime NaN":             forge.Tar(forge.PAX("mtime", "NaN"), forge.File("f", "")),
		"IM-13 mtime two dots":        forge.Tar(forge.PAX("mtime", "1.2.3"), forge.File("f", "")),
		"sparse unknown version":      sparse("GNU.sparse.major", "2", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "9"),
		"sparse unknown key":          sparse("GNU.sparse.what", "1"),
		"sparse overlap":              sparse("GNU.sparse.size", "4096", "GNU.sparse.map", "0,512,256,512"),
		"sparse backwards":            sparse("GNU.sparse.size", "4096", "GNU.sparse.map", "512,512,0,512"),
		"sparse past the end":         sparse("GNU.sparse.size", "1000", "GNU.sparse.map", "0,512,512,512"),
		"sparse wraps":                sparse("GNU.sparse.size", "4096", "GNU.sparse.map", "512,9223372036854775807"),
		"sparse too little stored":    sparse("GNU.sparse.size", "4096", "GNU.sparse.map", "0,512,1024,1024"),
		"sparse too much stored":      sparse("GNU.sparse.size", "4096", "GNU.sparse.map", "0,512"),
		"sparse not on a block":       sparse("GNU.sparse.size", "4096", "GNU.sparse.map", "0,512,513,512"),
		"sparse odd piece":            sparse("GNU.sparse.size", "4096", "GNU.sparse.map", "0,500,512,524"),
		"sparse odd count":            sparse("GNU.sparse.size", "4096", "GNU.sparse.map", "0,512,512"),
		"sparse wrong count":          sparse("GNU.sparse.size", "4096", "GNU.sparse.numblocks", "3", "GNU.sparse.map", "0,512,512,512"),
		"sparse no size":              sparse("GNU.sparse.map", "0,512,512,512"),
		"sparse 8 EiB":                forge.Tar(forge.PAX("GNU.sparse.size", "9223372036854775807", "GNU.sparse.map", "0,0"), forge.File("s", "")),
		"sparse halves out of order":  sparse("GNU.sparse.size", "4096", "GNU.sparse.numbytes", "512", "GNU.sparse.offset", "0"),
		"sparse 1.0 without a map":    forge.Tar(forge.PAX("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "9"), forge.File("s", "")),
		"sparse 1.0 1e9 regions":      forge.Tar(forge.PAX("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "9"), forge.File("s", "1000000000\n")),
		"sparse 1.0 long number":      forge.Tar(forge.PAX("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "9"), forge.File("s", strings.Repeat("1", 2000))),
		"sparse 1.0 broken":           forge.Tar(forge.PAX("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "9"), forge.File("s", "x\n")),
		"sparse link":                 forge.Tar(forge.PAX("GNU.sparse.size", "9", "GNU.sparse.map", "0,0"), forge.Symlink("s", "x")),
		"sparse in both ways":         forge.Tar(forge.PAX("GNU.sparse.size", "9", "GNU.sparse.map", "0,0"), forge.Entry{Name: "s", Flag: 'S', Magic: forge.GNU}),
		"sparse old, other dialect":   forge.Tar(forge.Entry{Name: "s", Flag: 'S'}),
		"sparse old, map goes on":     forge.Open(forge.Entry{Name: "s", Flag: 'S', Magic: forge.GNU, Raw: map[int]string{482: "\x01", 386: "00000000000\x0000000000000\x00"}}),
		"sparse of another volume":    forge.Tar(forge.PAX("GNU.volume.size", "9"), forge.File("s", "")),
		"sparse 0.0 with sparse size": sparse("GNU.sparse.size", "1", "GNU.sparse.realsize", "2", "GNU.sparse.map", "0,512"),
	}
	for name, b := range tests {
		t.Run(name, func(t *testing.T) {
			for _, step := range []int{1, 512, 700, len(b) + 1} {
				if _, err := scan(b, step); !errors.Is(err, layer.ErrMalformed) {
					t.Errorf("scan by %d = %v, want ErrMalformed", step, err)
				}
			}
			if err := ScanFile(tempFile(t, b), &collected{}); !errors.Is(err, layer.ErrMalformed) {
				t.Errorf("ScanFile() = %v, want ErrMalformed", err)
			}
		})
	}
}

func TestScanAttributes(t *testing.T) {
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	xattr := func(name, value string) layer.Xattr { return layer.Xattr{Name: name, Value: []byte(value)} }
	tests := map[string]struct {
		entries []forge.Entry
		want    layer.Fact
	}{
		"IM-08 all bits":      {[]forge.Entry{{Name: "f", Mode: "7777"}}, layer.Fact{Mode: 0o7777}},
		"IM-08 type bits":     {[]forge.Entry{{Name: "f", Mode: "0100644"}}, layer.Fact{Mode: 0o644}},
		"IM-13 large ids":     {[]forge.Entry{forge.PAX("uid", "2147483648", "gid", "4294967294"), forge.File("f", "")}, layer.Fact{Mode: 0o644, UID: 1 << 31, GID: 1<<32 - 2}},
		"IM-13 base 256":      {[]forge.Entry{{Name: "f", UID: "\x80\x00\x00\x00\x00\x98\x96\x80", Time: "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe"}}, layer.Fact{Mode: 0o644, UID: 10000000, Seconds: -2}},
		"IM-13 spaces":        {[]forge.Entry{{Name: "f", Raw: map[int]string{108: "   17 \x00\x00", 136: "      12345\x00"}}}, layer.Fact{Mode: 0o644, UID: 0o17, Seconds: 0o12345}},
		"IM-13 mtime":         {[]forge.Entry{forge.PAX("mtime", "253402300800.999999999999"), forge.File("f", "")}, layer.Fact{Mode: 0o644, Seconds: 253402300800, Nanos: 999999999}},
		"IM-13 mtime -1.5":    {[]forge.Entry{forge.PAX("mtime", "-1.5"), forge.File("f", "")}, layer.Fact{Mode: 0o644, Seconds: -2, Nanos: 500000000}},
		"IM-13 mtime -0.25":   {[]forge.Entry{forge.PAX("mtime", "-0.25"), forge.File("f", "")}, layer.Fact{Mode: 0o644, Seconds: -1, Nanos: 750000000}},
		"IM-07 kept":          {[]forge.Entry{forge.PAX("SCHILY.xattr.user.a", "x\ny=z\x00", "SCHILY.xattr.security.capability", capability, "SCHILY.xattr.user.empty", ""), forge.File("f", "")}, layer.Fact{Mode: 0o644, Xattrs: []layer.Xattr{xattr("user.a", "x\ny=z\x00"), xattr("security.capability", capability), xattr("user.empty", "")}}},
		"IM-07 overlay":       {[]forge.Entry{forge.PAX("SCHILY.xattr.trusted.overlay.opaque", "y", "SCHILY.xattr.user.overlay.redirect", "../..", "SCHILY.xattr.trusted.overlay.metacopy", ""), forge.File("f", "")}, layer.Fact{Mode: 0o644}},
		"IM-07 others":        {[]forge.Entry{forge.PAX("SCHILY.xattr.security.selinux", "x", "SCHILY.xattr.security.ima", "x", "SCHILY.xattr.system.posix_acl_access", "x", "SCHILY.xattr.trusted.x", "y", "LIBARCHIVE.xattr.user.b", "eA==", "RHT.security.selinux", "x"), forge.File("f", "")}, layer.Fact{Mode: 0o644}},
		"IM-07 odd names":     {[]forge.Entry{forge.PAX("SCHILY.xattr.user.", "y", "SCHILY.xattr.", "x", "SCHILY.xattr.user."+strings.Repeat("n", 260), "x"), forge.File("f", "")}, layer.Fact{Mode: 0o644}},
		"pax other keys":      {[]forge.Entry{forge.PAX("atime", "1", "ctime", "2", "uname", "root", "gname", "root", "SCHILY.dev", "5", "hdrcharset", "BINARY"), forge.File("f", "")}, layer.Fact{Mode: 0o644}},
		"pax of one only":     {[]forge.Entry{forge.PAX("uid", "7"), forge.Dir("d"), {Name: "f"}}, layer.Fact{Mode: 0o644}},
		"xattrs of hard link": {[]forge.Entry{forge.PAX("SCHILY.xattr.user.a", "x"), forge.Hardlink("f", "g")}, layer.Fact{Kind: layer.Hardlink, Link: "g"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			facts := mustScan(t, forge.Tar(test.entries...)).facts
			got, want := facts[len(facts)-1], test.want
			want.Path = "f"
			if want.Kind == 0 {
				want.Kind = layer.Regular
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("fact = %+v, want %+v", got, want)
			}
		})
	}
}

func TestScanExtents(t *testing.T) {
	blocks := func(n int) string { return strings.Repeat("x", 512*n) }
	old := map[int]string{
		386: "00000001000\x0000000001000\x00", // 512 at 512
		410: "00000010000\x0000000000100\x00", // 64 at 4096
		434: "00000020000\x0000000000000\x00", // the end
		483: "00000020000\x00",
	}
	var many string // 22 regions: 4 in the header, 18 in a block
	regions := []layer.Extent{}
	for i := range 22 {
		many += fmt.Sprintf("%011o\x00%011o\x00", i*1024, 512)
		regions = append(regions, layer.Extent{Logical: uint64(i) * 1024, Offset: uint64(1024 + i*512), Length: 512})
	}
	tests := map[string]struct {
		tar  []byte
		size uint64
		want []layer.Extent
	}{
		"plain":       {forge.Tar(forge.File("f", "hello")), 5, extentsOf(0, 512, 5)},
		"after pax":   {forge.Tar(forge.PAX("mtime", "1"), forge.File("f", "hello")), 5, extentsOf(0, 1536, 5)},
		"empty":       {forge.Tar(forge.File("f", "")), 0, nil},
		"0.1":         {forge.Tar(forge.PAX("GNU.sparse.size", "4100", "GNU.sparse.numblocks", "2", "GNU.sparse.map", "512,512,4096,4", "GNU.sparse.name", "f"), forge.Entry{Name: "GNUSparseFile.0/f", Data: blocks(1) + "tail"}), 4100, extentsOf(512, 1536, 512, 4096, 2048, 4)},
		"0.0":         {forge.Tar(forge.PAX("GNU.sparse.size", "4096", "GNU.sparse.numblocks", "2", "GNU.sparse.offset", "0", "GNU.sparse.numbytes", "512", "GNU.sparse.offset", "4096", "GNU.sparse.numbytes", "0"), forge.File("f", blocks(1))), 4096, extentsOf(0, 1536, 512)},
		"1.0":         {forge.Tar(forge.PAX("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "9000", "GNU.sparse.name", "f"), forge.Entry{Name: "GNUSparseFile.0/f", Data: "2\n512\n1024\n8192\n100\n" + strings.Repeat("\x00", 492) + blocks(2) + strings.Repeat("y", 100)}), 9000, extentsOf(512, 2048, 1024, 8192, 3072, 100)},
		"1.0 all":     {forge.Tar(forge.PAX("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "9000"), forge.File("f", "0\n"+strings.Repeat("\x00", 510))), 9000, nil},
		"old":         {forge.Tar(forge.Entry{Name: "f", Flag: 'S', Magic: forge.GNU, Raw: old, Data: blocks(1) + strings.Repeat("y", 64)}), 8192, extentsOf(512, 512, 512, 4096, 1024, 64)},
		"old, longer": {append(sparseHeader(many, 22*512, 22*1024), forge.Tar(forge.File("g", ""))...), 22 * 1024, regions},
		"hole only":   {forge.Tar(forge.PAX("GNU.sparse.size", "1099511627776", "GNU.sparse.map", "1099511627776,0"), forge.File("f", "")), 1 << 40, nil},
		"8 GiB":       {nil, 1 << 33, extentsOf(0, 1536, 1<<33)},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var f layer.Fact
			if name == "8 GiB" {
				f = scanHuge(t, 1<<33)
			} else {
				f = mustScan(t, test.tar).facts[0]
			}
			if f.Path != "f" || f.Size != test.size || !slices.Equal(f.Extents, test.want) {
				t.Errorf("fact = %+v, want size %d, extents %+v", f, test.size, test.want)
			}
		})
	}
}

// extentsOf are extents of triples: where in the file, where in the tar, how long.
func extentsOf(n ...uint64) (list []layer.Extent) {
	for ; len(n) > 0; n = n[3:] {
		list = append(list, layer.Extent{Logical: n[0], Offset: n[1], Length: n[2]})
	}
	return list
}

// sparseHeader is an old GNU sparse file whose map needs one more block.
func sparseHeader(entries string, stored, size int) []byte {
	b := forge.Open(forge.Entry{Name: "f", Flag: 'S', Magic: forge.GNU, Size: fmt.Sprintf("%o", stored),
		Raw: map[int]string{386: entries[:96], 482: "\x01", 483: fmt.Sprintf("%011o\x00", size)}})
	more := make([]byte, 512)
	copy(more, entries[96:])
	return append(append(b, more...), bytes.Repeat([]byte("x"), stored)...)
}

// scanHuge scans a file whose size is in a PAX record only, without making it.
func scanHuge(t *testing.T, size int64) layer.Fact {
	t.Helper()
	c := &collected{}
	s := NewScanner(c)
	if _, err := s.Write(forge.Open(forge.PAX("size", fmt.Sprint(size)), forge.File("f", ""))); err != nil {
		t.Fatal(err)
	}
	if s.Ahead() != size {
		t.Fatalf("Ahead() = %d, want %d", s.Ahead(), size)
	}
	s.Skip(size)
	if _, err := s.Write(make([]byte, 1024)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return c.facts[0]
}

// TestScanAgreesWithOtherTools makes real tars in each dialect and compares what
// the scanner finds with what archive/tar finds and what the files are.
func TestScanAgreesWithOtherTools(t *testing.T) {
	dir := t.TempDir()
	makeTree(t, dir)
	for _, options := range [][]string{
		{"--format=gnu"}, {"--format=gnu", "--sparse"}, {"--format=ustar"}, {"--format=posix", "--xattrs"},
		{"--format=posix", "--sparse", "--sparse-version=0.0"}, {"--format=posix", "--sparse", "--sparse-version=0.1"},
		{"--format=posix", "--sparse", "--sparse-version=1.0"}, {"--format=v7"},
	} {
		t.Run(strings.Join(options, " "), func(t *testing.T) {
			args := append([]string{"-C", dir, "-cf", "-", "--sort=name", "--numeric-owner"}, options...)
			if options[0] == "--format=ustar" || options[0] == "--format=v7" {
				args = append(args, "--exclude=*long*")
			}
			b, err := exec.Command("tar", append(args, ".")...).Output()
			if err != nil {
				t.Fatalf("tar: %v", err)
			}
			compareWithArchiveTar(t, b, mustScan(t, b))
		})
	}
}

func makeTree(t *testing.T, dir string) {
	t.Helper()
	long := filepath.Join(dir, "long", strings.Repeat("d", 150), strings.Repeat("e", 150))
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(long, 0o755))
	must(os.WriteFile(filepath.Join(long, "file"), []byte("deep"), 0o4711))
	must(os.Symlink(strings.Repeat("t", 200), filepath.Join(dir, "long", "link")))
	must(os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600))
	must(os.WriteFile(filepath.Join(dir, "big"), bytes.Repeat([]byte("0123456789"), 50000), 0o644))
	must(os.Link(filepath.Join(dir, "big"), filepath.Join(dir, "hard")))
	must(os.Mkdir(filepath.Join(dir, "sticky"), 0o755))
	must(os.Chmod(filepath.Join(dir, "sticky"), 0o777|os.ModeSticky))
	f, err := os.Create(filepath.Join(dir, "sparse"))
	must(err)
	for i := range 40 {
		_, err = f.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, 4096), int64(i)<<17)
		must(err)
	}
	must(f.Truncate(8<<20 + 123))
	must(f.Close())
	must(os.Chtimes(filepath.Join(dir, "big"), time.Unix(1234567890, 123456789), time.Unix(1234567890, 123456789)))
	if os.Getuid() == 0 {
		must(os.WriteFile(filepath.Join(dir, "long-ids"), nil, 0o644))
		must(os.Chown(filepath.Join(dir, "long-ids"), 3000000, 4000000))
	}
}

func compareWithArchiveTar(t *testing.T, b []byte, c *collected) {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(b))
	for _, f := range c.facts {
		h, err := r.Next()
		if err != nil {
			t.Fatalf("archive/tar: %v at %q", err, f.Path)
		}
		path, _, err := CleanName(h.Name)
		if err != nil || path != f.Path {
			t.Fatalf("path = %q, archive/tar has %q", f.Path, h.Name)
		}
		if f.Kind == layer.Hardlink {
			if link, _, _ := CleanName(h.Linkname); link != f.Link {
				t.Errorf("%s links to %q, archive/tar has %q", f.Path, f.Link, h.Linkname)
			}
			continue
		}
		if h.Mode&0o7777 != int64(f.Mode) || h.Uid != int(f.UID) || h.Gid != int(f.GID) || !h.ModTime.Equal(time.Unix(f.Seconds, int64(f.Nanos))) {
			t.Errorf("fact %+v, archive/tar has %+v", f, h)
		}
		if f.Kind == layer.Symlink && h.Linkname != f.Link {
			t.Errorf("%s links to %q, archive/tar has %q", f.Path, f.Link, h.Linkname)
		}
		want, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := content(b, f); !bytes.Equal(got, want) {
			t.Errorf("%s has %d bytes, archive/tar reads %d others", f.Path, len(got), len(want))
		}
	}
	if h, err := r.Next(); err != io.EOF {
		t.Errorf("archive/tar has one more: %+v, %v", h, err)
	}
}

// content are the bytes that the extents of a fact make of the tar.
func content(b []byte, f layer.Fact) []byte {
	out := make([]byte, f.Size)
	for _, e := range f.Extents {
		copy(out[e.Logical:], b[e.Offset:e.Offset+e.Length])
	}
	return out
}

func BenchmarkScan(b *testing.B) {
	var entries []forge.Entry
	for i := range 1000 {
		entries = append(entries, forge.File(fmt.Sprintf("usr/lib/package/file%d", i), strings.Repeat("x", 17000)))
	}
	t := forge.Tar(entries...)
	b.SetBytes(int64(len(t)))
	b.ReportAllocs()
	for b.Loop() {
		s := NewScanner(layer.NewWriter(io.Discard))
		for rest := t; len(rest) > 0; {
			n := min(256<<10, len(rest))
			if _, err := s.Write(rest[:n]); err != nil {
				b.Fatal(err)
			}
			rest = rest[n:]
		}
		if _, err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzScanner(f *testing.F) {
	seed := func(b []byte) {
		f.Add(b, false)
		f.Add(b, true)
	}
	seed(forge.Tar(forge.Dir("d"), forge.File("d/f", "hello"), forge.Symlink("s", "d"), forge.Hardlink("h", "d/f")))
	seed(forge.Tar(forge.PAX("path", "long", "mtime", "1.5", "SCHILY.xattr.user.a", "b"), forge.File("x", "y")))
	seed(forge.Tar(forge.LongName("long"), forge.LongLink("link"), forge.Symlink("s", "x")))
	seed(forge.Tar(forge.PAX("GNU.sparse.size", "4096", "GNU.sparse.map", "0,512"), forge.File("f", strings.Repeat("x", 512))))
	seed(forge.Tar(forge.PAX("GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "9"), forge.File("f", "0\n"+strings.Repeat("\x00", 510))))
	seed(sparseHeader(strings.Repeat("00000001000\x0000000000000\x00", 22), 0, 512))
	seed(forge.Tar(forge.File("etc/passwd", "root:x:0:0::/:/bin/sh\n"), forge.File("etc/group", "root:x:0:a,b\n"), forge.File(".wh.a", "")))
	f.Fuzz(func(t *testing.T, b []byte, sums bool) {
		if sums {
			b = withSums(b)
		}
		whole, err := scan(b, len(b)+1)
		pieces, err2 := scan(b, 37)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("scan = %v, in pieces %v", err, err2)
		}
		if err != nil {
			if !errors.Is(err, layer.ErrMalformed) {
				t.Fatalf("scan = %v, want ErrMalformed", err)
			}
			return
		}
		if !reflect.DeepEqual(whole, pieces) {
			t.Fatalf("scan = %+v, in pieces %+v", whole, pieces)
		}
		for _, fact := range whole.facts {
			for _, e := range fact.Extents {
				if e.Offset+e.Length > uint64(len(b)) || e.Offset%512 != 0 {
					t.Fatalf("extent %+v of %q is outside of a tar of %d bytes", e, fact.Path, len(b))
				}
			}
		}
	})
}

// withSums gives each block of b the checksum of a header, so that a fuzzer gets
// past it.
func withSums(b []byte) []byte {
	b = bytes.Clone(b)
	for at := 0; at+512 <= len(b); at += 512 {
		block := b[at : at+512]
		if block[257] != 'u' {
			continue
		}
		copy(block[148:156], "        ")
		sum := 0
		for _, c := range block {
			sum += int(c)
		}
		copy(block[148:156], fmt.Sprintf("%06o\x00 ", sum))
	}
	return b
}
