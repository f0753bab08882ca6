package tarball

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"rkt/fetch/ingest/forge"
	"rkt/image/layer"
)

// refusedTars are tars that are hostile or broken, by attack.
var refusedTars = map[string][]byte{
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

// sparse is a tar with a file of 1024 stored bytes that has these records.
func sparse(records ...string) []byte {
	return forge.Tar(forge.PAX(records...), forge.Entry{Name: "s", Data: strings.Repeat("x", 1024)})
}

// body is a tar with a PAX header of this body.
func body(data string) []byte {
	return forge.Tar(forge.Entry{Name: "x", Flag: 'x', Data: data}, forge.File("f", ""))
}

func TestScanRefuses(t *testing.T) {
	for name, b := range refusedTars {
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
