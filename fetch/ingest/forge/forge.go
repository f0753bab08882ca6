// Package forge writes tars for tests, field by field: honest ones, and those
// that no tool would write. It is imported by tests only.
package forge

import (
	"bytes"
	"fmt"
	"strings"
)

// Entry is a header with its data. Zero fields get what an honest writer would
// put there.
type Entry struct {
	Name, Link string
	Flag       byte   // 0 = '0'
	Mode       string // octal digits, like all numeric fields; "" = "644"
	UID, GID   string
	Size       string // "" = that of Data
	Time       string
	Magic      string // "" = ustar
	Prefix     string
	Data       string
	// Raw replaces bytes of the header before the checksum is made.
	Raw map[int]string
	// BadSum makes the checksum wrong. NoPadding leaves the data's last block short.
	BadSum, NoPadding bool
}

// GNU is the magic of GNU's dialect.
const GNU = "ustar  \x00"

// Bytes returns the header and data.
func (e Entry) Bytes() []byte {
	b := make([]byte, 512)
	flag := e.Flag
	if flag == 0 {
		flag = '0'
	}
	copy(b[0:100], e.Name)
	copy(b[100:108], number(e.Mode, 7, "644"))
	copy(b[108:116], number(e.UID, 7, "0"))
	copy(b[116:124], number(e.GID, 7, "0"))
	copy(b[124:136], number(e.Size, 11, fmt.Sprintf("%o", len(e.Data))))
	copy(b[136:148], number(e.Time, 11, "0"))
	b[156] = flag
	copy(b[157:257], e.Link)
	magic := e.Magic
	if magic == "" {
		magic = "ustar\x0000"
	}
	copy(b[257:265], magic)
	copy(b[345:500], e.Prefix)
	for at, text := range e.Raw {
		copy(b[at:], text)
	}
	copy(b[148:156], "        ")
	sum := 0
	for _, c := range b {
		sum += int(c)
	}
	if e.BadSum {
		sum++
	}
	copy(b[148:156], fmt.Sprintf("%06o\x00 ", sum))
	b = append(b, e.Data...)
	if !e.NoPadding {
		b = append(b, make([]byte, -len(e.Data)&511)...)
	}
	return b
}

// number lays out a numeric field. One that begins with a byte over 0x7f is raw.
func number(s string, digits int, honest string) string {
	if s == "" {
		s = honest
	}
	if s[0] > 0x7f {
		return s
	}
	return strings.Repeat("0", max(0, digits-len(s))) + s
}

// Tar joins entries and ends the archive with two blocks of zeros.
func Tar(entries ...Entry) []byte { return append(Open(entries...), make([]byte, 1024)...) }

// Open joins entries without an end.
func Open(entries ...Entry) []byte {
	var buf bytes.Buffer
	for _, e := range entries {
		buf.Write(e.Bytes())
	}
	return buf.Bytes()
}

// Dir, File, Symlink and Hardlink are honest entries.
func Dir(name string) Entry { return Entry{Name: name, Flag: '5', Mode: "755"} }

// File is a plain file.
func File(name, data string) Entry { return Entry{Name: name, Data: data} }

// Symlink is a symbolic link.
func Symlink(name, to string) Entry { return Entry{Name: name, Flag: '2', Link: to, Mode: "777"} }

// Hardlink is a hard link.
func Hardlink(name, to string) Entry { return Entry{Name: name, Flag: '1', Link: to} }

// PAX is an extended header for the next entry, of records key, value, key, value.
func PAX(records ...string) Entry {
	return Entry{Name: "PaxHeaders/x", Flag: 'x', Data: Records(records...)}
}

// Global is a global extended header.
func Global(records ...string) Entry {
	return Entry{Name: "pax_global_header", Flag: 'g', Data: Records(records...)}
}

// Records is the body of an extended header.
func Records(records ...string) string {
	var b strings.Builder
	for i := 0; i+1 < len(records); i += 2 {
		b.WriteString(record(records[i], records[i+1]))
	}
	return b.String()
}

func record(key, value string) string {
	rest := " " + key + "=" + value + "\n"
	n := len(rest) + 1
	for len(fmt.Sprint(n))+len(rest) != n {
		n++
	}
	return fmt.Sprint(n) + rest
}

// LongName is GNU's header for a name that is too long for the next one.
func LongName(name string) Entry {
	return Entry{Name: "././@LongLink", Flag: 'L', Magic: GNU, Data: name + "\x00"}
}

// LongLink is the same for a link target.
func LongLink(name string) Entry {
	return Entry{Name: "././@LongLink", Flag: 'K', Magic: GNU, Data: name + "\x00"}
}
