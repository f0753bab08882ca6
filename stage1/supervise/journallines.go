package supervise

import (
	"bytes"
	"encoding/binary"
	"strings"
	"sync"
)

const (
	// maxJournalLine is the longest message of an entry, as for services
	// (LineMax= in journald.conf(5)). Longer lines become several entries.
	maxJournalLine = 48 << 10
	// keptJournalLine is how much memory an unfinished line may leave behind.
	keptJournalLine = 4 << 10
)

// The priorities of syslog(3) that matter here.
const (
	highestPriority = 1 // alert; the journal shows what is higher on every terminal
	defaultPriority = 6 // info, as for services
)

// journalWriter cuts what an app writes into entries, one for each line. A line
// may begin with its priority as "<N>" (sd-daemon(3)).
type journalWriter struct {
	sync.Mutex
	journal  *journal
	head     []byte // the fields of every entry
	held     []byte // the beginning of a line
	further  bool   // the entry before had the beginning of this line
	priority byte   // of the line
	meta     []byte
}

// Write never fails: what the journal does not take is lost.
func (w *journalWriter) Write(b []byte) (int, error) {
	w.Lock()
	defer w.Unlock()
	n := len(b)
	for len(b) > 0 {
		line, rest, whole := bytes.Cut(b, newline)
		if room := maxJournalLine - len(w.held); len(line) > room {
			line, rest, whole = b[:room], b[room:], false
			w.emit(line, true)
		} else if whole {
			w.emit(line, false)
		} else {
			w.held = append(w.held, line...)
		}
		b = rest
	}
	return n, nil
}

var newline = []byte{'\n'}

// flush makes an entry of a line that was not ended.
func (w *journalWriter) flush() {
	w.Lock()
	defer w.Unlock()
	if len(w.held) > 0 {
		w.emit(nil, false)
	}
}

// midLine says whether a line has begun and not ended.
func (w *journalWriter) midLine() bool {
	w.Lock()
	defer w.Unlock()
	return len(w.held) > 0 || w.further
}

// emit makes an entry of what is held and text. With partial, the line goes on.
func (w *journalWriter) emit(text []byte, partial bool) {
	if len(w.held) > 0 {
		w.held = append(w.held, text...)
		text = w.held
	}
	if !w.further {
		w.priority, text = linePriority(text)
	}
	w.further = partial
	w.meta = append(w.meta[:0], "PRIORITY="...)
	w.meta = append(w.meta, '0'+w.priority, '\n')
	if partial {
		w.meta = append(w.meta, "RKT_PARTIAL=true\n"...)
	}
	// The length goes before: a message can be any bytes.
	w.meta = append(w.meta, "MESSAGE\n"...)
	w.meta = binary.LittleEndian.AppendUint64(w.meta, uint64(len(text)))
	w.journal.send(w.head, w.meta, text, newline)
	if w.held = w.held[:0]; cap(w.held) > keptJournalLine {
		w.held = nil
	}
}

// linePriority takes the priority off a line.
func linePriority(line []byte) (byte, []byte) {
	if len(line) < 3 || line[0] != '<' || line[1] < '0' || line[1] > '7' || line[2] != '>' {
		return defaultPriority, line
	}
	return max(line[1]-'0', highestPriority), line[3:]
}

// appendField appends a field of an entry. A value can be any text.
func appendField(b []byte, name, value string) []byte {
	b = append(b, name...)
	if strings.Contains(value, "\n") {
		b = append(b, '\n')
		b = binary.LittleEndian.AppendUint64(b, uint64(len(value)))
	} else {
		b = append(b, '=')
	}
	return append(append(b, value...), '\n')
}
