package supervise

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// proxy is the socket on which an app tells what it has to tell to the service
// manager. What gets through is a short list of words about the app itself, with
// values of their form; never a file, and nothing that names other processes.
type proxy struct {
	keeper
	file  *os.File
	fd    int // of file
	notes chan<- note
	pace  pace
}

const (
	// maxNote is what systemd, too, takes at once (NOTIFY_BUFFER_MAX).
	maxNote = 4096
	// maxStatus bounds the line for people.
	maxStatus = 512
	// An app may send noteBurst messages at once and then one each noteEvery. One
	// that sends more waits in its own system call.
	noteBurst = 64
	noteEvery = 25 * time.Millisecond
)

// note is what of one message of an app may get through: lines NAME=VALUE.
type note struct{ lines []string }

// listenNotify makes the socket in the folder dir, in place of one that a dead
// supervisor left. All users of the app may write to it; on the host nobody else
// gets into the folder.
func listenNotify(dir string, notes chan<- note) (*proxy, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("make notify socket: %w", err)
	}
	path := filepath.Join(dir, contract.NotifyFile) // relative: short enough for an address
	err = unix.Unlink(path)
	if err == nil || err == unix.ENOENT {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = unix.Chmod(path, 0o666)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make notify socket: %w", err)
	}
	return newProxy(fd, notes), nil
}

// newProxy takes over the socket fd, and hands what may get through to notes.
func newProxy(fd int, notes chan<- note) *proxy {
	p := &proxy{file: os.NewFile(uintptr(fd), contract.NotifyFile), fd: fd, notes: notes}
	p.pace = pace{tokens: noteBurst, at: time.Now()}
	p.serve = p.receive
	p.interrupt = func() { _ = p.file.SetReadDeadline(time.Now()) }
	p.clear = func() { _ = p.file.SetReadDeadline(time.Time{}) }
	p.start()
	return p
}

// close ends serve once it does not wait for the loop.
func (p *proxy) close() { _ = p.file.Close() }

// receive hands what may get through to the loop, one message at a time.
func (p *proxy) receive() {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	for {
		var b []byte
		var n, flags int
		var rerr error
		err := conn.Read(func(fd uintptr) bool {
			if !ready(int(fd), unix.POLLIN) {
				return false // no buffer before there is something to read
			}
			b = make([]byte, maxNote)
			// Without room for control data the kernel closes the files that come
			// with a message: also the one by whose end sd_notify_barrier(3) knows
			// that what was sent before has been taken, as it has.
			n, _, flags, _, rerr = unix.Recvmsg(int(fd), b, nil, 0)
			return rerr != unix.EAGAIN
		})
		if errors.Is(err, os.ErrDeadlineExceeded) && !p.leaves() {
			continue
		}
		if err != nil {
			return
		}
		if rerr != nil || flags&unix.MSG_TRUNC != 0 {
			continue
		}
		if lines := permitted(string(b[:n])); len(lines) > 0 {
			p.notes <- note{lines}
		}
		p.pace.wait()
	}
}

// pace bounds how many messages are read.
type pace struct {
	tokens int
	at     time.Time // when tokens were counted
}

// full says whether the whole burst is there.
func (p *pace) full() bool { return p.tokens+int(time.Since(p.at)/noteEvery) >= noteBurst }

// wait returns at once until the burst is used up, and then in time.
func (p *pace) wait() {
	now := time.Now()
	if n := int(now.Sub(p.at) / noteEvery); n > 0 {
		p.tokens = min(p.tokens+n, noteBurst)
		p.at = p.at.Add(time.Duration(n) * noteEvery)
		if p.tokens == noteBurst {
			p.at = now
		}
	}
	if p.tokens--; p.tokens < 0 {
		p.tokens = 0
		time.Sleep(noteEvery - now.Sub(p.at))
		p.at = p.at.Add(noteEvery)
	}
}

// permit is the value that an app may give a word, in the form that is passed on.
func permit(word, value string) (string, bool) {
	switch word {
	case "READY", "RELOADING", "STOPPING":
		return value, value == "1"
	case "WATCHDOG":
		return value, value == "1" || value == "trigger"
	case "STATUS":
		return statusValue(value), true
	case "ERRNO", "WATCHDOG_USEC", "EXTEND_TIMEOUT_USEC", "MONOTONIC_USEC":
		n, err := strconv.ParseUint(value, 10, 64)
		return strconv.FormatUint(n, 10), err == nil
	}
	return "", false
}

// statusValue makes a line for people printable: what could steer a terminal or
// hide text, and what is not UTF-8, becomes a replacement character.
func statusValue(value string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, value[:min(len(value), maxStatus)])
}

// permitted are the lines of a message that may get through, each word once.
func permitted(message string) []string {
	var lines []string
	for line := range strings.SplitSeq(message, "\n") {
		word, value, _ := strings.Cut(line, "=")
		twice := slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, word+"=") })
		if value, ok := permit(word, value); ok && !twice {
			lines = append(lines, word+"="+value)
		}
	}
	return lines
}

// has says whether the line is there.
func (n note) has(line string) bool { return slices.Contains(n.lines, line) }

// without is the lines that begin in no such way.
func (n note) without(prefixes ...string) []string {
	return slices.DeleteFunc(n.lines, func(l string) bool {
		return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(l, p) })
	})
}
