package tarball

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	"rkt/image/layer"
)

// maxAccountFile bounds etc/passwd and etc/group, in bytes; maxAccountLine a
// line of them, as C libraries do. Longer lines are passed over.
const (
	maxAccountFile = 1 << 20
	maxAccountLine = 64 << 10
)

// accountFile is one of the two files, as far as the layer has it.
type accountFile struct {
	path    string
	has     bool
	problem string
	body    []byte
}

// accountFiles watches the facts for etc/passwd and etc/group.
type accountFiles struct {
	files [2]accountFile
	now   *accountFile // the data that comes is its
}

const (
	passwd = 0
	group  = 1
)

// see notes what a fact means for the two files, and tells whether the data of
// the entry is wanted.
func (a *accountFiles) see(f *layer.Fact) (keep bool) {
	switch f.Path {
	case ".", "etc":
		a.seeParent(f)
	case "etc/passwd":
		return a.seeFile(passwd, f)
	case "etc/group":
		return a.seeFile(group, f)
	}
	return false
}

// seeParent: what hides the folder hides the files of the layers below.
func (a *accountFiles) seeParent(f *layer.Fact) {
	for i := range a.files {
		file := &a.files[i]
		switch f.Kind {
		case layer.Dir:
		case layer.Whiteout, layer.Opaque:
			file.has = true
		default:
			*file = accountFile{has: true, problem: "etc is not a folder"}
		}
	}
}

func (a *accountFiles) seeFile(i int, f *layer.Fact) (keep bool) {
	file := &a.files[i]
	if f.Kind == layer.Whiteout {
		file.has = true
		return false
	}
	*file = accountFile{path: f.Path, has: true}
	switch {
	case f.Kind != layer.Regular:
		file.problem = f.Path + " is not a plain file"
	case f.Size > maxAccountFile:
		file.problem = f.Path + " has " + strconv.FormatUint(f.Size, 10) + " bytes"
	case f.Size > 0 && (len(f.Extents) != 1 || f.Extents[0].Length != f.Size):
		file.problem = f.Path + " is a sparse file"
	default:
		a.now = file
		return true
	}
	return false
}

func (a *accountFiles) data(p []byte) { a.now.body = append(a.now.body, p...) }

// accounts parses what was seen.
func (a *accountFiles) accounts() *layer.Accounts {
	out := &layer.Accounts{HasPasswd: a.files[passwd].has, HasGroup: a.files[group].has}
	problem := a.files[passwd].problem
	if problem == "" {
		out.Users, problem = users(a.files[passwd].body)
	}
	groups, more := []layer.Group(nil), a.files[group].problem
	if more == "" {
		groups, more = groupsOf(a.files[group].body)
	}
	out.Groups = groups
	switch {
	case problem == "":
		problem = more
	case more != "" && more != problem:
		problem += "; " + more
	}
	out.Problem = problem
	return out
}

// lines gives each of the lines in b that can be an account its fields. What is
// no account, such as comments and the "+" of NIS, is passed over, as C libraries do.
func lines(b []byte, fields int, each func(f []string) bool) {
	for line := range bytes.Lines(b) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) > maxAccountLine || bytes.IndexByte(line, 0) >= 0 {
			continue
		}
		f := bytes.Split(line, []byte(":"))
		if len(f) < fields || len(f[0]) == 0 || len(f[0]) > layer.MaxAccountName || bytes.IndexByte([]byte("#+-"), f[0][0]) >= 0 {
			continue
		}
		text := make([]string, len(f))
		for i := range f {
			text[i] = string(f[i])
		}
		if !each(text) {
			return
		}
	}
}

// accountID reads an ID; the largest number of 32 bits means "none" to the kernel.
func accountID(s string) (uint32, bool) {
	if s == "" || s[0] == '+' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n != math.MaxUint32
}

// users reads lines of the form name:password:uid:gid:comment:home:shell.
func users(b []byte) (list []layer.User, problem string) {
	lines(b, 4, func(f []string) bool {
		if len(list) == layer.MaxAccounts {
			list, problem = nil, "etc/passwd has too many lines"
			return false
		}
		uid, ok1 := accountID(f[2])
		gid, ok2 := accountID(f[3])
		if !ok1 || !ok2 {
			return true
		}
		u := layer.User{Name: f[0], UID: uid, GID: gid}
		if len(f) > 5 && len(f[5]) <= layer.MaxPath {
			u.Home = f[5]
		}
		list = append(list, u)
		return true
	})
	return list, problem
}

// groupsOf reads lines of the form name:password:gid:member,member.
func groupsOf(b []byte) (list []layer.Group, problem string) {
	members := 0
	lines(b, 3, func(f []string) bool {
		gid, ok := accountID(f[2])
		if !ok {
			return true
		}
		g := layer.Group{Name: f[0], GID: gid}
		if len(f) > 3 {
			g.Members = memberNames(f[3])
		}
		members += len(g.Members)
		if len(list) == layer.MaxAccounts || members > layer.MaxMembers {
			list, problem = nil, "etc/group has too many lines or members"
			return false
		}
		list = append(list, g)
		return true
	})
	return list, problem
}

func memberNames(s string) []string {
	var names []string
	for name := range strings.SplitSeq(s, ",") {
		if name = strings.TrimSpace(name); name != "" && len(name) <= layer.MaxAccountName {
			names = append(names, name)
		}
	}
	return names
}
