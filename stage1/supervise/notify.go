package supervise

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// notifier tells the service manager that started the pod how it is doing, in
// the words of sd_notify(3). It belongs to the goroutine of Run and never waits:
// what a manager that is busy does not take is kept, in its order, and offered
// again. Without a manager it does nothing.
type notifier struct {
	fd    int // -1 = nobody listens
	to    unix.Sockaddr
	queue []string  // what the manager has not taken yet
	retry time.Time // when to offer it again, if there is any

	every time.Duration // between two signs of life, 0 = none are wanted
	next  time.Time     // of the next one; zero before the first
	told  string        // the status that the manager knows
}

const (
	// notifyRetry is the time after which a manager with a full queue is asked again.
	notifyRetry = 100 * time.Millisecond
	// maxQueue bounds what is kept for a manager that takes nothing. Each kind of
	// message is there once, so it is not reached by a pod that behaves.
	maxQueue = 64
)

// openNotifier opens the way to the manager. Signs of life are sent when the
// manager wants some and no app is the one to give them.
func openNotifier(u *contract.Unit, mode contract.NotifyMode) (*notifier, error) {
	n := &notifier{fd: -1}
	if u == nil || u.NotifySocket == "" || mode == contract.NotifyNo {
		return n, nil
	}
	if c := u.NotifySocket[0]; c != '/' && c != '@' {
		return nil, fmt.Errorf("notify the service manager: socket %q is neither a path nor an abstract name", u.NotifySocket)
	}
	n.to = &unix.SockaddrUnix{Name: u.NotifySocket}
	if mode != contract.NotifyApp {
		n.every = time.Duration(u.WatchdogMicros) * time.Microsecond / 2
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("notify the service manager: %w", err)
	}
	n.fd = fd
	return n, nil
}

// send tells the manager a message, now or as soon as it takes it. One that
// waits already is not sent twice.
func (n *notifier) send(lines ...string) {
	if n.fd < 0 {
		return
	}
	message := strings.Join(lines, "\n")
	if last := len(n.queue) - 1; last >= 0 {
		if n.queue[last] == message {
			return
		}
		if strings.HasPrefix(message, statusPrefix) && strings.HasPrefix(n.queue[last], statusPrefix) {
			n.queue = n.queue[:last] // out of date
		}
	}
	if len(n.queue) < maxQueue {
		n.queue = append(n.queue, message)
	}
	n.flush()
}

const statusPrefix = "STATUS="

// status tells the manager a line for people, if it does not know it.
func (n *notifier) status(text string) {
	if text != n.told {
		n.told = text
		n.send(statusPrefix + text)
	}
}

// flush offers the manager what it has not taken.
func (n *notifier) flush() {
	for len(n.queue) > 0 {
		err := unix.Sendto(n.fd, []byte(n.queue[0]), unix.MSG_NOSIGNAL, n.to)
		switch err {
		case unix.EINTR:
			continue
		case unix.EAGAIN, unix.ENOBUFS:
			n.retry = time.Now().Add(notifyRetry)
			return
		case nil:
		default:
			// A manager that is gone, or has no ear for this process, is no reason
			// to end a pod.
			complain(fmt.Errorf("notify the service manager: %w", err))
		}
		n.queue = n.queue[1:]
	}
	n.queue, n.retry = nil, time.Time{}
}

// idle says whether the manager has taken everything.
func (n *notifier) idle() bool { return len(n.queue) == 0 }

// live begins to send signs of life.
func (n *notifier) live() {
	if n.fd >= 0 && n.every > 0 {
		n.next = time.Now()
		n.onTime(n.next)
	}
}

// due is when onTime is to be called, zero if it is not.
func (n *notifier) due() time.Time {
	if n.next.IsZero() || !n.retry.IsZero() && n.retry.Before(n.next) {
		return n.retry
	}
	return n.next
}

// onTime does what is due.
func (n *notifier) onTime(now time.Time) {
	if !n.retry.IsZero() && !n.retry.After(now) {
		n.flush()
	}
	if !n.next.IsZero() && !n.next.After(now) {
		n.next = now.Add(n.every)
		n.send("WATCHDOG=1")
	}
}

// close offers the manager the rest, once.
func (n *notifier) close() {
	if n.fd >= 0 {
		n.flush()
		unix.Close(n.fd)
		n.fd = -1
	}
}

// openNotify opens the way to the service manager and, for the app that speaks
// for the pod, the socket on which it does.
func (s *supervisor) openNotify() (err error) {
	if s.notifier, err = openNotifier(s.host.Unit, s.pod.Notify); err != nil {
		return err
	}
	for _, a := range s.apps {
		if !a.conf.Notify {
			continue
		}
		if s.proxy != nil {
			return errors.New("two apps are to notify the service manager")
		}
		s.notes = make(chan note)
		if s.proxy, err = listenNotify(a.dir(), s.notes); err != nil {
			return fmt.Errorf("app %s: %w", a.name, err)
		}
	}
	return nil
}

// closeNotify gives up both ways.
func (s *supervisor) closeNotify() {
	if s.proxy != nil {
		s.proxy.close()
	}
	if s.notifier != nil {
		s.tellStopping()
		s.notifier.status(s.summary())
		s.notifier.close()
	}
}

// heard is where the loop hears the app that speaks for the pod: not while the
// manager still has to take what it said before.
func (s *supervisor) heard() <-chan note {
	if s.notes == nil || !s.notifier.idle() {
		return nil
	}
	return s.notes
}

// onNote passes on what an app said. Once the pod is to end, an app that is
// ready has nothing to say.
func (s *supervisor) onNote(n note) {
	if s.phase >= stopping {
		n.lines = n.without("READY=", "RELOADING=")
	}
	if len(n.lines) > 0 {
		s.notifier.send(n.lines...)
	}
	if s.phase < stopping && n.has("READY=1") {
		s.becomeReady()
	}
}

// started follows the start of all apps.
func (s *supervisor) started() {
	if s.pod.Notify == contract.NotifyApp {
		return
	}
	s.becomeReady()
	s.notifier.told = s.summary()
	s.notifier.send("READY=1", statusPrefix+s.notifier.told)
	s.notifier.live()
}

// becomeReady writes the ready file, once.
func (s *supervisor) becomeReady() {
	if s.ready {
		return
	}
	s.ready = true
	r, err := identity(os.Getpid())
	if err == nil {
		err = contract.Write(".", contract.ReadyFile, r)
	}
	if err != nil {
		complain(fmt.Errorf("write %s: %w", contract.ReadyFile, err))
	}
}

// tell tells the manager in a line how the pod is. While all is well, an app
// that speaks for the pod has that line for itself.
func (s *supervisor) tell() {
	if s.notifier.fd < 0 || s.phase < stopping && (!s.ready || s.pod.Notify == contract.NotifyApp && s.running() == len(s.apps)) {
		return
	}
	s.notifier.status(s.summary())
}

// tellStopping tells the manager, once, that the pod is ending. A grace that does
// not fit into the time that managers give by default was asked for: then that
// time must be longer.
func (s *supervisor) tellStopping() {
	if s.ending {
		return
	}
	s.ending = true
	lines := []string{"STOPPING=1"}
	var grace time.Duration
	for _, a := range s.apps {
		if a.state == appRunning {
			grace = max(grace, time.Duration(a.conf.StopGraceMillis)*time.Millisecond)
		}
	}
	if grace += killDeadline; grace > managerPatience {
		lines = append(lines, "EXTEND_TIMEOUT_USEC="+strconv.FormatInt(grace.Microseconds(), 10))
	}
	s.notifier.send(lines...)
}

// managerPatience is systemd's DefaultTimeoutStopSec.
const managerPatience = 90 * time.Second

// reload passes on the signal that means an order to reload, and tells the
// manager that it is done: nobody knows when a program is that does not tell.
func (s *supervisor) reload() {
	var now unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	if err != nil || s.pod.Notify == contract.NotifyApp || !s.ready || s.phase >= stopping {
		s.forward(unix.SIGHUP)
		return
	}
	s.notifier.send("RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(now.Nano()/1000, 10))
	s.forward(unix.SIGHUP)
	s.notifier.send("READY=1")
}

// running is the number of apps that run.
func (s *supervisor) running() (n int) {
	for _, a := range s.apps {
		if a.state == appRunning {
			n++
		}
	}
	return n
}

// summary says in a line how the apps are.
func (s *supervisor) summary() string {
	var rest, left []string
	for _, a := range s.apps {
		switch {
		case a.state == appRunning:
			left = append(left, a.name)
		case a.state == appWaiting && a.since.IsZero():
			rest = append(rest, a.name+" was not started")
		case a.state == appWaiting:
			rest = append(rest, fmt.Sprintf("%s is to be restarted after %s", a.name, endText(a.last)))
		default:
			rest = append(rest, fmt.Sprintf("%s ended with %s", a.name, endText(a.last)))
		}
	}
	switch {
	case s.phase >= stopping && len(left) > 0:
		return "stopping, waiting for " + strings.Join(left, ", ")
	case len(rest) > 0:
		return fmt.Sprintf("%d of %d apps running; %s", len(left), len(s.apps), strings.Join(rest, "; "))
	case len(left) == 1:
		return "1 app running"
	}
	return fmt.Sprintf("%d apps running", len(left))
}

// endText says how a process of an app ended.
func endText(e contract.Exit) string {
	switch {
	case e.Error != "":
		return "an error: " + statusValue(e.Error)
	case e.OOM:
		return "no memory left"
	case e.Signal != 0:
		return "signal " + strconv.Itoa(e.Signal)
	}
	return "exit code " + strconv.Itoa(e.Code)
}
