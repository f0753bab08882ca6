package supervise

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// terminal is the caller's terminal while an app's is relayed to it.
type terminal struct {
	fd    int
	saved unix.Termios
}

// isTerminal says whether fd is a terminal.
func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// makeRaw puts the terminal fd into raw mode: every byte, Ctrl-C included, goes
// to the app, whose own terminal gives it its meaning. The caller restores it on
// every way out.
func makeRaw(fd int) (*terminal, error) {
	t := &terminal{fd: fd}
	saved, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("read modes of the terminal: %w", err)
	}
	t.saved = *saved
	return t, t.raw()
}

// raw sets raw mode, also again after the caller's shell had the terminal.
func (t *terminal) raw() error {
	m := t.saved
	m.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	m.Oflag &^= unix.OPOST
	m.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	m.Cflag = m.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	m.Cc[unix.VMIN], m.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(t.fd, unix.TCSETS, &m); err != nil {
		return fmt.Errorf("set raw mode of the terminal: %w", err)
	}
	return nil
}

// restore gives the terminal back the modes it had.
func (t *terminal) restore() {
	if t != nil {
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
