package confined

import (
	"bufio"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// account is the user that rkt-fetch runs as where the administrator, or the
// package, has made it.
const account = "rkt-fetch"

// usualID is below the ids of pods and above those of people and services.
const usualID = 524287

// identity is the uid and gid of rkt-fetch.
type identity struct{ uid, gid int }

// findIdentity returns the ids of the account, or ids that nobody has: neither in
// /etc/passwd nor lent to a user by /etc/subuid, and known to this user namespace.
func findIdentity() (identity, error) {
	if u, err := user.Lookup(account); err == nil {
		uid, uidErr := strconv.Atoi(u.Uid)
		gid, gidErr := strconv.Atoi(u.Gid)
		if uidErr != nil || gidErr != nil || uid == 0 || gid == 0 {
			return identity{}, fmt.Errorf("the user %s has the ids %s and %s; it must not be root", account, u.Uid, u.Gid)
		}
		return identity{uid, gid}, nil
	}
	known, err := ranges("/proc/self/uid_map", " ", 0)
	if err != nil {
		return identity{}, err
	}
	lent, err := ranges("/etc/subuid", ":", 1)
	if err != nil {
		return identity{}, err
	}
	top := usualID
	if !within(known, top) {
		top = highest(known)
	}
	for id := top; id > 0 && id > top-100; id-- {
		if _, err := user.LookupId(strconv.Itoa(id)); err != nil && within(known, id) && !within(lent, id) && !isNobody(id) {
			return identity{id, id}, nil
		}
	}
	return identity{}, fmt.Errorf("no uid is free for rkt-fetch; make a system user %s", account)
}

// isNobody: the ids of nobody belong to everybody who wants to be nobody.
func isNobody(id int) bool { return id == 65534 || id == 65535 }

// idRange is a run of ids.
type idRange struct{ first, count int }

func within(list []idRange, id int) bool {
	for _, r := range list {
		if id >= r.first && id-r.first < r.count {
			return true
		}
	}
	return false
}

func highest(list []idRange) int {
	top := 0
	for _, r := range list {
		top = max(top, r.first+r.count-1)
	}
	return top
}

// ranges reads a file of lines of fields between separators. The field at begins
// a range; the last one of the line is its length. A missing file has none.
func ranges(path, separator string, at int) ([]idRange, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list []idRange
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.FieldsFunc(lines.Text(), func(r rune) bool { return strings.ContainsRune(separator, r) })
		if len(fields) != 3 {
			continue
		}
		first, err1 := strconv.ParseUint(fields[at], 10, 32)
		count, err2 := strconv.ParseUint(fields[2], 10, 32)
		if err1 == nil && err2 == nil {
			list = append(list, idRange{int(first), int(count)})
		}
	}
	return list, lines.Err()
}
