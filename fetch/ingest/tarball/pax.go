package tarball

import (
	"bytes"
	"strings"

	"rkt/image/layer"
	"rkt/internal/mutant"
)

// The families of PAX keys.
const (
	paxXattr  = "SCHILY.xattr."
	paxSparse = "GNU.sparse."
	paxVolume = "GNU.volume."
)

// records are the PAX records of one entry, as far as they mean something here.
// A record that is not there, or is empty, leaves what the header says.
type records struct {
	seen    map[string]bool // keys, of which each may come once
	name    string
	link    string
	size    int64 // -1 = none
	uid     int64 // -1 = none
	gid     int64 // -1 = none
	mtime   bool
	seconds int64
	nanos   uint32
	xattrs  []layer.Xattr
	sparse  sparseRecords
}

// parseRecords reads the body of a PAX extended header: records of the form
// "LENGTH KEY=VALUE\n", where the length counts the whole record.
func parseRecords(body []byte, each func(key, value string) error) error {
	for len(body) > 0 {
		space := bytes.IndexByte(body, ' ')
		if space < 0 {
			return malformed("pax record without a length")
		}
		n, ok := decimal(string(body[:space]))
		if !ok || n <= int64(space)+1 || n > int64(len(body)) || body[n-1] != '\n' {
			return malformed("pax record with a wrong length")
		}
		key, value, ok := strings.Cut(string(body[space+1:n-1]), "=")
		if !ok || key == "" || strings.IndexByte(key, 0) >= 0 {
			return malformed("pax record without a key")
		}
		if err := each(key, value); err != nil {
			return err
		}
		body = body[n:]
	}
	return nil
}

// newRecords reads the PAX header of one entry.
func newRecords(body []byte) (*records, error) {
	r := &records{seen: map[string]bool{}, size: -1, uid: -1, gid: -1}
	return r, parseRecords(body, r.add)
}

// checkGlobal reads a global PAX header. Tools disagree about what it changes
// and for how long, so it may change nothing: comments only.
func checkGlobal(body []byte) error {
	return parseRecords(body, func(key, _ string) error {
		if key != "comment" && !mutant.On("globalpax") {
			return malformed("global pax header that sets %.80q", key)
		}
		return nil
	})
}

func (r *records) add(key, value string) error {
	repeats := key == sparseOffset || key == sparseNumBytes
	if r.seen[key] && !repeats {
		return malformed("pax record %.80q twice", key)
	}
	r.seen[key] = true
	if value == "" && !strings.HasPrefix(key, paxXattr) {
		return nil
	}
	switch key {
	case "path":
		return setName(&r.name, key, value)
	case "linkpath":
		return setName(&r.link, key, value)
	case "size":
		return setNumber(&r.size, key, value)
	case "uid":
		return setNumber(&r.uid, key, value)
	case "gid":
		return setNumber(&r.gid, key, value)
	case "mtime":
		r.mtime = true
		return setTime(&r.seconds, &r.nanos, value)
	}
	switch {
	case strings.HasPrefix(key, paxXattr):
		r.addXattr(key[len(paxXattr):], value)
	case strings.HasPrefix(key, paxSparse):
		return r.sparse.add(key, value)
	case strings.HasPrefix(key, paxVolume):
		return malformed("file that goes on in another volume")
	}
	// All else is about other systems, names of owners, other times: no fact
	// depends on it.
	return nil
}

// addXattr keeps the attributes that a layer may carry and drops the others.
func (r *records) addXattr(name, value string) {
	if layer.AllowedXattr(name) {
		r.xattrs = append(r.xattrs, layer.Xattr{Name: name, Value: []byte(value)})
	}
}

func setName(to *string, key, value string) error {
	if strings.IndexByte(value, 0) >= 0 {
		return malformed("pax record %q with a NUL", key)
	}
	*to = value
	return nil
}

func setNumber(to *int64, key, value string) error {
	n, ok := decimal(value)
	if !ok {
		return malformed("pax record %q is %.40q", key, value)
	}
	*to = n
	return nil
}

// setTime reads seconds with a fraction: "-1.5" is half a second before -1.
func setTime(seconds *int64, nanos *uint32, value string) error {
	whole, fraction, _ := strings.Cut(value, ".")
	digits, negative := strings.CutPrefix(whole, "-")
	s, ok := decimal(digits)
	if !ok {
		return malformed("pax record \"mtime\" is %.40q", value)
	}
	var n uint32
	for i, unit := 0, uint32(1e8); i < len(fraction); i, unit = i+1, unit/10 {
		c := fraction[i]
		if c < '0' || c > '9' {
			return malformed("pax record \"mtime\" is %.40q", value)
		}
		n += uint32(c-'0') * unit // digits past the ninth count nothing
	}
	if negative {
		s = -s
		if n > 0 {
			s, n = s-1, 1e9-n
		}
	}
	*seconds, *nanos = s, n
	return nil
}
