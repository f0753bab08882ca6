package tarball

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

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
