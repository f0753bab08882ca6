package supervise

import (
	"fmt"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"
)

// terminal is the caller's terminal while an app's is relayed to it. It is in
// raw mode as long as this process is in the foreground there: what a shell does
// with it while another job has it is not to be disturbed.
type terminal struct {
	sync.Mutex
	fd    int
	app   int // the other side of the app's terminal, which gets its size
	saved unix.Termios
	mine  bool // in the foreground when last looked at
	over  bool // restored
}

// isTerminal says whether fd is a terminal.
func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// foreground says whether the terminal fd is this process's to read from and to
// set. One that is not its controlling terminal has no jobs.
func foreground(fd int) bool {
	group, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// takeTerminal puts the terminal fd into raw mode, once it is this process's:
// every byte, Ctrl-C included, goes to the app, whose own terminal gives it its
// meaning. The caller restores it on every way out.
func takeTerminal(fd, app int) (*terminal, error) {
	saved, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("read modes of the terminal: %w", err)
	}
	return newTerminal(fd, app, *saved), nil
}

// newTerminal goes on with the terminal fd, whose modes were saved.
func newTerminal(fd, app int, saved unix.Termios) *terminal {
	// In the background, what touches the terminal would stop this process. It
	// looks before it touches; these are for what happens in between, and for
	// output where the terminal stops that as well (stty tostop).
	signal.Ignore(unix.SIGTTIN, unix.SIGTTOU)
	t := &terminal{fd: fd, app: app, saved: saved}
	t.take()
	return t
}

// take sets raw mode if the terminal has become this process's, and says whether
// it is.
func (t *terminal) take() bool {
	t.Lock()
	defer t.Unlock()
	before := t.mine
	if t.mine = foreground(t.fd); t.mine && !before && !t.over {
		_ = unix.IoctlSetTermios(t.fd, unix.TCSETS, raw(t.saved))
		copySize(t.app, t.fd) // nobody tells those in the background
	}
	return t.mine
}

// retake is take after a shell may have set the modes of the terminal.
func (t *terminal) retake() {
	t.Lock()
	t.mine = false
	t.Unlock()
	t.take()
}

// raw are the modes m made raw.
func raw(m unix.Termios) *unix.Termios {
	m.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	m.Oflag &^= unix.OPOST
	m.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	m.Cflag = m.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	m.Cc[unix.VMIN], m.Cc[unix.VTIME] = 1, 0
	return &m
}

// restore gives the terminal back the modes it had. In the background it has
// those of another job.
func (t *terminal) restore() {
	if t == nil {
		return
	}
	t.Lock()
	defer t.Unlock()
	t.over = true
	if foreground(t.fd) {
		_ = unix.IoctlSetTermios(t.fd, unix.TCSETS, &t.saved)
	}
}

// copySize makes the terminal to as large as the terminal from. The kernel sends
// SIGWINCH to whoever is in the foreground there.
func copySize(to, from int) {
	if ws, err := unix.IoctlGetWinsize(from, unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(to, unix.TIOCSWINSZ, ws)
	}
}
