package stage0

import (
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rkt/internal/escape"
)

// Tell tells the service manager what is done before the pod is run, as a line
// for people, and that it takes a while more: what a manager allows for a start
// is not made for fetching an image. What the manager does not take at once is
// lost, and no harm is done. A nil Handover tells nobody.
func (h *Handover) Tell(status string, more time.Duration) {
	if h == nil || h.unit == nil || h.unit.NotifySocket == "" {
		return
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var message strings.Builder
	message.WriteString("STATUS=" + escape.Text(status))
	if more > 0 {
		message.WriteString("\nEXTEND_TIMEOUT_USEC=" + strconv.FormatInt(more.Microseconds(), 10))
	}
	_ = unix.Sendto(fd, []byte(message.String()), unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: h.unit.NotifySocket})
}
