package tarball

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"rkt/fetch/ingest/forge"
	"rkt/image/layer"
)

func TestAccounts(t *testing.T) {
	root := layer.User{Name: "root", Home: "/root"}
	passwd := forge.File("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
	tests := map[string]struct {
		entries []forge.Entry
		want    layer.Accounts
	}{
		"none":  {[]forge.Entry{forge.Dir("etc"), forge.File("usr/etc/passwd", "x")}, layer.Accounts{}},
		"users": {[]forge.Entry{passwd}, layer.Accounts{HasPasswd: true, Users: []layer.User{root}}},
		"groups": {[]forge.Entry{forge.File("./etc/group", "root:x:0:\nstaff:x:50:a,b,,c\nlast:x:7")},
			layer.Accounts{HasGroup: true, Groups: []layer.Group{{Name: "root"}, {Name: "staff", GID: 50, Members: []string{"a", "b", "c"}}, {Name: "last", GID: 7}}}},
		"RT-09 odd lines": {[]forge.Entry{forge.File("etc/passwd", "# comment\n\n+::::::\n-bad\n:x:1:1::/:\nneg:x:-1:0::/:\nbig:x:4294967296:0::/:\nnone:x:4294967295:0::/:\nplus:x:+5:0::/:\nhex:x:0x1:0::/:\ncrlf:x:1:2::/home:\r\nnul\x00:x:3:3::/:\nshort:x:4:5\nfew:x:6\ndup:x:0:0::/a:\ndup:x:1:1::/b:\nend:x:9:9::/e:/sh")},
			layer.Accounts{HasPasswd: true, Users: []layer.User{{Name: "crlf", UID: 1, GID: 2, Home: "/home"}, {Name: "short", UID: 4, GID: 5}, {Name: "dup", Home: "/a"}, {Name: "dup", UID: 1, GID: 1, Home: "/b"}, {Name: "end", UID: 9, GID: 9, Home: "/e"}}}},
		"RT-09 long line":     {[]forge.Entry{forge.File("etc/passwd", strings.Repeat("x", 70000)+":x:1:1::/:\nroot:x:0:0::/root:\n")}, layer.Accounts{HasPasswd: true, Users: []layer.User{root}}},
		"RT-09 symlink":       {[]forge.Entry{forge.Symlink("etc/passwd", "/etc/shadow")}, layer.Accounts{HasPasswd: true, Problem: "etc/passwd is not a plain file"}},
		"RT-09 fifo":          {[]forge.Entry{{Name: "etc/group", Flag: '6'}}, layer.Accounts{HasGroup: true, Problem: "etc/group is not a plain file"}},
		"RT-09 folder":        {[]forge.Entry{forge.Dir("etc/passwd/")}, layer.Accounts{HasPasswd: true, Problem: "etc/passwd is not a plain file"}},
		"RT-09 device":        {[]forge.Entry{{Name: "etc/passwd", Flag: '3'}}, layer.Accounts{}},
		"RT-09 hard link":     {[]forge.Entry{forge.File("x", "root:x:0:0::/:\n"), forge.Hardlink("etc/passwd", "x")}, layer.Accounts{HasPasswd: true, Problem: "etc/passwd is not a plain file"}},
		"RT-09 large":         {[]forge.Entry{forge.File("etc/passwd", strings.Repeat("x", 1<<20+1))}, layer.Accounts{HasPasswd: true, Problem: "etc/passwd has 1048577 bytes"}},
		"RT-09 sparse":        {[]forge.Entry{forge.PAX("GNU.sparse.size", "8589934592", "GNU.sparse.map", "0,0"), forge.File("etc/passwd", "")}, layer.Accounts{HasPasswd: true, Problem: "etc/passwd has 8589934592 bytes"}},
		"RT-09 small sparse":  {[]forge.Entry{forge.PAX("GNU.sparse.size", "4096", "GNU.sparse.map", "0,0"), forge.File("etc/passwd", "")}, layer.Accounts{HasPasswd: true, Problem: "etc/passwd is a sparse file"}},
		"RT-09 many lines":    {[]forge.Entry{forge.File("etc/passwd", strings.Repeat("u::0:0\n", layer.MaxAccounts+1))}, layer.Accounts{HasPasswd: true, Problem: "etc/passwd has too many lines"}},
		"RT-09 many members":  {[]forge.Entry{forge.File("etc/group", groupLines(40000)+groupLines(40000))}, layer.Accounts{HasGroup: true, Problem: "etc/group has too many lines or members"}},
		"both have a problem": {[]forge.Entry{forge.Symlink("etc/passwd", "a"), forge.Symlink("etc/group", "a")}, layer.Accounts{HasPasswd: true, HasGroup: true, Problem: "etc/passwd is not a plain file; etc/group is not a plain file"}},
		"later one wins":      {[]forge.Entry{forge.File("etc/passwd", "old:x:1:1::/:\n"), passwd}, layer.Accounts{HasPasswd: true, Users: []layer.User{root}}},
		"later symlink wins":  {[]forge.Entry{passwd, forge.Symlink("etc/passwd", "a")}, layer.Accounts{HasPasswd: true, Problem: "etc/passwd is not a plain file"}},
		"whiteout":            {[]forge.Entry{forge.File("etc/.wh.passwd", "")}, layer.Accounts{HasPasswd: true}},
		"whiteout and file":   {[]forge.Entry{passwd, forge.File("etc/.wh.passwd", "")}, layer.Accounts{HasPasswd: true, Users: []layer.User{root}}},
		"opaque folder":       {[]forge.Entry{forge.File("etc/.wh..wh..opq", "")}, layer.Accounts{HasPasswd: true, HasGroup: true}},
		"opaque root":         {[]forge.Entry{forge.File(".wh..wh..opq", ""), passwd}, layer.Accounts{HasPasswd: true, HasGroup: true, Users: []layer.User{root}}},
		"no folder any more":  {[]forge.Entry{forge.File(".wh.etc", "")}, layer.Accounts{HasPasswd: true, HasGroup: true}},
		"folder is a symlink": {[]forge.Entry{forge.Symlink("etc", "usr/etc")}, layer.Accounts{HasPasswd: true, HasGroup: true, Problem: "etc is not a folder"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := mustScan(t, forge.Tar(test.entries...)).accounts; !reflect.DeepEqual(got, test.want) {
				t.Errorf("accounts = %+v, want %+v", got, test.want)
			}
		})
	}
}

// groupLines is one group with n members, on lines that are not too long.
func groupLines(n int) string {
	var b strings.Builder
	for i := 0; i < n; i += 4000 {
		fmt.Fprintf(&b, "g%d:x:%d:%s\n", i, i, strings.Repeat("m,", 4000))
	}
	return b.String()
}
