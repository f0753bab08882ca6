package supervise

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// fakeJournal is a journal's socket.
type fakeJournal struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func newFakeJournal(t *testing.T) *fakeJournal {
	f := &fakeJournal{t: t, path: filepath.Join(t.TempDir(), "socket")}
	f.listen()
	t.Cleanup(func() { f.conn.Close() })
	return f
}

func (f *fakeJournal) listen() {
	f.t.Helper()
	var err error
	if f.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: f.path, Net: "unixgram"}); err != nil {
		f.t.Fatal(err)
	}
}

// writer is that of an app named web.
func (f *fakeJournal) writer() *journalWriter {
	f.t.Helper()
	j, err := newPodJournal(&contract.Host{Journal: &contract.Journal{Socket: f.path, Stdout: true}}, &contract.Pod{UUID: "u", Name: "a\nb"})
	if err != nil {
		f.t.Fatal(err)
	}
	return j.writer(&contract.App{Name: "web", Image: contract.Image{Reference: "r", ID: "i"}}, 1)
}

// next reads the fields of the next entry.
func (f *fakeJournal) next() map[string]string {
	f.t.Helper()
	buf, oob := make([]byte, 1<<20), make([]byte, 256)
	if err := f.conn.SetReadDeadline(time.Now().Add(patienceOfTests)); err != nil {
		f.t.Fatal(err)
	}
	n, oobn, _, _, err := f.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		f.t.Fatal(err)
	}
	if oobn > 0 {
		return fields(f.t, readPassed(f.t, oob[:oobn]))
	}
	return fields(f.t, buf[:n])
}

const patienceOfTests = 20 * time.Second

// readPassed reads the file that came with a datagram, which must be sealed.
func readPassed(t *testing.T, oob []byte) []byte {
	t.Helper()
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fds[0]), "passed")
	defer file.Close()
	seals, err := unix.FcntlInt(file.Fd(), unix.F_GET_SEALS, 0)
	if want := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL; err != nil || seals != want {
		t.Errorf("seals %#x (%v), want %#x", seals, err, want)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fields parses an entry as the journal does.
func fields(t *testing.T, b []byte) map[string]string {
	t.Helper()
	all := map[string]string{}
	for len(b) > 0 {
		line, rest, ok := bytes.Cut(b, newline)
		if !ok {
			t.Fatalf("a field without an end: %q", b)
		}
		name, value, ok := strings.Cut(string(line), "=")
		if !ok {
			n := binary.LittleEndian.Uint64(rest)
			value, rest = string(rest[8:8+n]), rest[8+n+1:]
		}
		if _, twice := all[name]; twice {
			t.Errorf("the field %s is there twice", name)
		}
		all[name], b = value, rest
	}
	return all
}

func TestJournalEntries(t *testing.T) {
	f := newFakeJournal(t)
	w := f.writer()
	long := strings.Repeat("x", maxJournalLine)
	written := make(chan struct{})
	defer func() { <-written }()
	go func() { // a queue of datagrams is short
		defer close(written)
		writeEntries(t, w, long)
	}()
	for i, want := range []struct {
		priority, message, partial string
	}{
		{"6", "one", ""}, {"3", "two", ""}, {"6", "", ""}, {"1", "loud", ""}, {"6", "PRIORITY=0", ""}, {"6", "b\x00\xff\r", ""},
		{"6", long, "true"}, {"6", "y", ""},
		{"4", long[3:], "true"}, {"4", "xxxz", ""},
		{"6", "<9>x", ""}, {"6", "end", ""}, {"", "last", ""},
	} {
		got := f.next()
		if got["PRIORITY"] != want.priority || got["MESSAGE"] != want.message || got["RKT_PARTIAL"] != want.partial {
			t.Fatalf("entry %d is %.200q, want %.100q", i, fmt.Sprint(got), want)
		}
		for name, value := range map[string]string{
			"RKT_POD": "u", "RKT_POD_NAME": "a\nb", "RKT_APP": "web", "RKT_IMAGE": "r", "RKT_IMAGE_ID": "i", "RKT_STREAM": "stdout", "SYSLOG_IDENTIFIER": "web",
		} {
			if got[name] != value {
				t.Errorf("%s is %q, want %q", name, got[name], value)
			}
		}
	}
}

func writeEntries(t *testing.T, w *journalWriter, long string) {
	for _, part := range []string{"one\n<", "3>two\n\n", "<0>loud\nPRIORITY=0\nb\x00\xff", "\r\n", long + "y\n", "<4>" + long, "z\n", "<9>x\nend"} {
		if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
	}
	w.flush()
	w.flush() // nothing is left
	w.journal.send(w.head, []byte("MESSAGE=last\n"))
}

// TestJournalTooLarge sends what no datagram holds.
func TestJournalTooLarge(t *testing.T) {
	f := newFakeJournal(t)
	w := f.writer()
	if err := w.journal.open(); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(w.journal.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 40000)
	w.Write([]byte(long + "\nshort\n"))
	for _, want := range []string{long, "short"} {
		if got := f.next(); got["MESSAGE"] != want || got["RKT_POD"] != "u" {
			t.Errorf("the message has %d bytes, want %d", len(got["MESSAGE"]), len(want))
		}
	}
}

// TestJournalIsGone writes to a journal that is away for a moment, and loses
// nothing.
func TestJournalIsGone(t *testing.T) {
	f := newFakeJournal(t)
	w := f.writer()
	f.conn.Close()
	if err := os.RemoveAll(f.path); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); w.Write([]byte("one\ntwo\n")) }()
	select {
	case <-done:
		t.Fatal("it did not wait")
	case <-time.After(4 * journalRetry):
	}
	f.listen()
	for _, want := range []string{"one", "two"} {
		if got := f.next(); got["MESSAGE"] != want {
			t.Errorf("the message is %q, want %q", got["MESSAGE"], want)
		}
	}
	<-done
}

// TestJournalHangs writes to a journal that does not read: the app waits once,
// and what is lost is told as soon as somebody reads.
func TestJournalHangs(t *testing.T) {
	f := newFakeJournal(t)
	w := f.writer()
	const lines = 3000 // more than any queue of datagrams holds
	begin := time.Now()
	for i := range lines {
		fmt.Fprintf(w, "%d\n", i)
	}
	if d := time.Since(begin); d < journalPatience || d > 2*journalPatience {
		t.Errorf("it took %s, want one wait of %s", d, journalPatience)
	}
	lost := w.journal.lost
	for i := range lines - int(lost) {
		if got := f.next(); got["MESSAGE"] != fmt.Sprint(i) {
			t.Fatalf("line %d is %q", i, got["MESSAGE"])
		}
	}
	io.WriteString(w, "again\n")
	if got := f.next(); got["MESSAGE"] != "again" {
		t.Errorf("then %q", got["MESSAGE"])
	}
	if got, want := f.next(), fmt.Sprintf("%d lines of the pod are lost", lost); !strings.HasPrefix(got["MESSAGE"], want) || got["RKT_POD"] != "u" {
		t.Errorf("then %q, want %q", got, want)
	}
}

// TestJournalSync waits until the journal has read everything, and not for ever.
func TestJournalSync(t *testing.T) {
	f := newFakeJournal(t)
	w := f.writer()
	io.WriteString(w, "line\n")
	begin := time.Now()
	w.journal.sync()
	if d := time.Since(begin); d < journalSync || d > 3*journalSync {
		t.Errorf("with a journal that does not read it took %s, want %s", d, journalSync)
	}
	f.next()
	f.next() // what sync sent
	io.WriteString(w, "line\n")
	synced := make(chan struct{})
	go func() { defer close(synced); w.journal.sync() }()
	f.next()
	select {
	case <-synced:
		t.Error("it did not wait until the journal was done with the last entry")
	case <-time.After(50 * time.Millisecond):
	}
	f.next()
	select {
	case <-synced:
	case <-time.After(journalSync / 2):
		t.Error("it waits although everything was read")
	}
}

// TestJournalAllocates writes many lines, which must leave nothing on the heap.
func TestJournalAllocates(t *testing.T) {
	f := newFakeJournal(t)
	go func() {
		for buf := make([]byte, 1<<16); ; {
			if _, err := f.conn.Read(buf); err != nil {
				return
			}
		}
	}()
	w := f.writer()
	line := []byte("a line as apps print it\n")
	if n := testing.AllocsPerRun(1000, func() { w.Write(line) }); n > 0 {
		t.Errorf("%v allocations for a line, want none", n)
	}
}
