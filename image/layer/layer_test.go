package layer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
)

func sample() ([]*Fact, *Accounts, Summary) {
	facts := []*Fact{
		{Path: ".", Kind: Dir, Mode: 0o755, Seconds: -1, Nanos: 999999999},
		{Path: "a", Kind: Regular, Mode: 0o4755, UID: 1 << 31, GID: math.MaxUint32 - 1, Seconds: 1 << 40, Size: 10,
			Extents: []Extent{{0, 512, 3}, {5, 1024, 5}},
			Xattrs:  []Xattr{{"user.k", []byte("v")}, {"security.capability", []byte{1, 0, 0, 2}}}},
		{Path: "a/../b"[5:], Kind: Symlink, Mode: 0o777, Link: "../../etc/\xff\n"},
		{Path: strings.Repeat("n", MaxComponent), Kind: Hardlink, Link: "a"},
		{Path: "f", Kind: Fifo},
		{Path: "d/w", Kind: Whiteout},
		{Path: "d", Kind: Opaque},
		{Path: "e", Kind: Regular, Size: MaxSize},
	}
	accounts := &Accounts{
		HasPasswd: true, HasGroup: true, Problem: "none",
		Users:  []User{{"root", 0, 0, "/root"}, {"u", 1000, 1000, ""}},
		Groups: []Group{{"root", 0, nil}, {"g", 5, []string{"u", "root"}}},
	}
	return facts, accounts, Summary{Devices: 1, Sockets: 2, TarSize: 1 << 41}
}

func encode(t *testing.T, facts []*Fact, a *Accounts, s Summary) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := NewWriter(&buf)
	for _, f := range facts {
		if err := w.Fact(f); err != nil {
			t.Fatal(err)
		}
	}
	if a != nil {
		if err := w.Accounts(a); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(s); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func decode(b []byte) (facts []*Fact, r *Reader, err error) {
	r = NewReader(bytes.NewReader(b))
	for {
		f, err := r.Next()
		if err == io.EOF {
			return facts, r, nil
		}
		if err != nil {
			return nil, nil, err
		}
		facts = append(facts, f)
	}
}

func TestRoundTrip(t *testing.T) {
	facts, accounts, summary := sample()
	got, r, err := decode(encode(t, facts, accounts, summary))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, facts) {
		t.Errorf("facts = %+v, want %+v", got, facts)
	}
	if !reflect.DeepEqual(r.Accounts(), accounts) {
		t.Errorf("accounts = %+v, want %+v", r.Accounts(), accounts)
	}
	summary.Entries = uint64(len(facts))
	if r.Summary() != summary {
		t.Errorf("summary = %+v, want %+v", r.Summary(), summary)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Errorf("Next after the end = %v, want io.EOF", err)
	}
}

// Every prefix of a file, and the file with more behind it, is refused.
func TestEveryTruncationIsRefused(t *testing.T) {
	facts, accounts, summary := sample()
	b := encode(t, facts, accounts, summary)
	for n := range b {
		if _, _, err := decode(b[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("first %d of %d bytes: %v, want ErrMalformed", n, len(b), err)
		}
	}
	if _, _, err := decode(append(b, 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("with a byte behind: %v, want ErrMalformed", err)
	}
}

func TestCheckRefuses(t *testing.T) {
	long := strings.Repeat("x", MaxComponent+1)
	many := make([]Xattr, MaxXattrs+1)
	for i := range many {
		many[i].Name = fmt.Sprintf("user.%d", i)
	}
	reg := func(size uint64, e ...Extent) Fact { return Fact{Path: "a", Kind: Regular, Size: size, Extents: e} }
	tests := map[string]Fact{
		"no path":            {Kind: Dir},
		"parent":             {Path: "..", Kind: Dir},
		"parent inside":      {Path: "a/../../x", Kind: Regular},
		"dot inside":         {Path: "a/./x", Kind: Regular},
		"absolute":           {Path: "/abs", Kind: Regular},
		"double slash":       {Path: "a//b", Kind: Regular},
		"trailing slash":     {Path: "a/", Kind: Dir},
		"NUL":                {Path: "a\x00b", Kind: Regular},
		"long name":          {Path: long, Kind: Regular},
		"long path":          {Path: strings.Repeat("abcdefg/", 513) + "x", Kind: Regular},
		"deep path":          {Path: strings.Repeat("a/", MaxDepth) + "a", Kind: Regular},
		"root as file":       {Path: ".", Kind: Regular},
		"root as whiteout":   {Path: ".", Kind: Whiteout},
		"kind 0":             {Path: "a"},
		"kind beyond":        {Path: "a", Kind: Opaque + 1},
		"mode bits":          {Path: "a", Kind: Dir, Mode: 0o10000},
		"no uid":             {Path: "a", Kind: Dir, UID: math.MaxUint32},
		"no gid":             {Path: "a", Kind: Dir, GID: math.MaxUint32},
		"nanos":              {Path: "a", Kind: Dir, Nanos: 1e9},
		"empty symlink":      {Path: "a", Kind: Symlink},
		"long symlink":       {Path: "a", Kind: Symlink, Link: strings.Repeat("x", MaxPath)},
		"NUL in symlink":     {Path: "a", Kind: Symlink, Link: "x\x00"},
		"link outside":       {Path: "a", Kind: Hardlink, Link: "../x"},
		"link absolute":      {Path: "a", Kind: Hardlink, Link: "/x"},
		"link to root":       {Path: "a", Kind: Hardlink, Link: "."},
		"dir with target":    {Path: "a", Kind: Dir, Link: "x"},
		"whiteout attribute": {Path: "a", Kind: Whiteout, Xattrs: []Xattr{{Name: "user.x"}}},
		"trusted xattr":      {Path: "a", Kind: Dir, Xattrs: []Xattr{{Name: "trusted.overlay.opaque"}}},
		"user overlay xattr": {Path: "a", Kind: Dir, Xattrs: []Xattr{{Name: "user.overlay.redirect"}}},
		"ACL":                {Path: "a", Kind: Dir, Xattrs: []Xattr{{Name: "system.posix_acl_access"}}},
		"label":              {Path: "a", Kind: Dir, Xattrs: []Xattr{{Name: "security.selinux"}}},
		"bare user.":         {Path: "a", Kind: Dir, Xattrs: []Xattr{{Name: "user."}}},
		"xattr twice":        {Path: "a", Kind: Dir, Xattrs: []Xattr{{Name: "user.x"}, {Name: "user.x"}}},
		"many xattrs":        {Path: "a", Kind: Dir, Xattrs: many},
		"large xattr":        {Path: "a", Kind: Dir, Xattrs: []Xattr{{Name: "user.x", Value: make([]byte, MaxXattr+1)}}},
		"dir with size":      {Path: "a", Kind: Dir, Size: 1},
		"fifo with extent":   {Path: "a", Kind: Fifo, Extents: []Extent{{0, 0, 1}}},
		"huge file":          reg(MaxSize + 1),
		"empty extent":       reg(1, Extent{0, 0, 0}),
		"extent past end":    reg(4, Extent{0, 0, 5}),
		"extent wraps":       reg(4, Extent{2, 0, math.MaxUint64}),
		"extents overlap":    reg(9, Extent{0, 0, 5}, Extent{4, 8, 5}),
		"extents backwards":  reg(9, Extent{5, 0, 2}, Extent{0, 8, 2}),
		"offset wraps":       reg(9, Extent{0, math.MaxUint64, 2}),
	}
	for name, f := range tests {
		t.Run(name, func(t *testing.T) {
			if err := f.Check(); !errors.Is(err, ErrMalformed) {
				t.Errorf("Check() = %v, want ErrMalformed", err)
			}
			if err := NewWriter(io.Discard).Fact(&f); !errors.Is(err, ErrMalformed) {
				t.Errorf("Fact() = %v, want ErrMalformed", err)
			}
		})
	}
}

func TestReaderRefuses(t *testing.T) {
	head := string(append([]byte(magic), formatVersion))
	num := func(n uint64) string { return string(binary.AppendUvarint(nil, n)) }
	end := string([]byte{tagSummary, 0, 0, 0, 0})
	tests := map[string]string{
		"nothing":             "",
		"other magic":         "rktfactz\x01" + end,
		"newer version":       magic + "\x02" + end,
		"unknown record":      head + "\x09" + end,
		"claimed long path":   head + "\x01\x01" + num(1<<40),
		"overflowing number":  head + "\x01\x01" + strings.Repeat("\xff", 11),
		"bad fact":            head + "\x01\x01" + num(2) + ".." + strings.Repeat("\x00", 9) + end,
		"accounts twice":      head + strings.Repeat("\x02\x00\x00\x00\x00\x00", 2) + end,
		"flag of two":         head + "\x02\x02\x00\x00\x00\x00" + end,
		"users without file":  head + "\x02\x00\x00\x00\x01\x01u\x00\x00\x00\x00" + end,
		"user with a colon":   head + "\x02\x01\x00\x00\x01\x02u:\x00\x00\x00\x00" + end,
		"miscounted entries":  head + string([]byte{tagSummary, 1, 0, 0, 0}),
		"no summary":          head,
		"two ends":            head + end + end,
		"too many extents":    head + "\x01\x02\x01a" + strings.Repeat("\x00", 7) + "\x00" + num(MaxExtents+1),
		"many claimed xattrs": head + "\x01\x02\x01a" + strings.Repeat("\x00", 6) + num(MaxXattrs+1),
	}
	for name, in := range tests {
		t.Run(name, func(t *testing.T) {
			if _, _, err := decode([]byte(in)); !errors.Is(err, ErrMalformed) {
				t.Errorf("decode = %v, want ErrMalformed", err)
			}
		})
	}
}

func TestReaderPassesOnErrors(t *testing.T) {
	broken := errors.New("broken disk")
	r := NewReader(io.MultiReader(strings.NewReader(magic), errorReader{broken}))
	if _, err := r.Next(); !errors.Is(err, broken) || errors.Is(err, ErrMalformed) {
		t.Errorf("Next() = %v, want %v", err, broken)
	}
}

func TestWriterReportsAFullDisk(t *testing.T) {
	full := errors.New("no space")
	w := NewWriter(errorWriter{full})
	if err := w.Close(Summary{}); !errors.Is(err, full) {
		t.Errorf("Close() = %v, want %v", err, full)
	}
}

func TestWriterAfterClose(t *testing.T) {
	w := NewWriter(io.Discard)
	if err := w.Close(Summary{}); err != nil {
		t.Fatal(err)
	}
	if err := w.Fact(&Fact{Path: "a", Kind: Dir}); err == nil {
		t.Error("Fact after Close succeeded")
	}
}

type errorReader struct{ err error }

func (e errorReader) Read([]byte) (int, error) { return 0, e.err }

type errorWriter struct{ err error }

func (e errorWriter) Write([]byte) (int, error) { return 0, e.err }

func FuzzReader(f *testing.F) {
	facts, accounts, summary := sample()
	var buf bytes.Buffer
	w := NewWriter(&buf)
	for _, fact := range facts {
		_ = w.Fact(fact)
	}
	_ = w.Accounts(accounts)
	_ = w.Close(summary)
	f.Add(buf.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		facts, r, err := decode(b)
		if err != nil {
			return
		}
		// What is accepted can be written again and reads the same.
		again, _, err := decode(encode(t, facts, r.Accounts(), r.Summary()))
		if err != nil || !reflect.DeepEqual(again, facts) {
			t.Fatalf("second reading: %v", err)
		}
	})
}
