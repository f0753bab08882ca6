package stage0

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// maxSockets bounds what a service manager can pass: below the number of files
// that every program may have open.
const maxSockets = 512

// firstSocket is the number of the first file that a service manager passes
// (SD_LISTEN_FDS_START).
const firstSocket = 3

// Handover is what a service manager has handed to this process.
type Handover struct {
	unit *contract.Unit
	err  error
}

// TakeHandover takes what a service manager such as systemd has handed to this
// process: files, and variables that say what else there is. The files get other
// numbers and are closed by exec, the variables are unset: nothing that this
// process starts is to take them for its own. Call it first thing in main. What
// is wrong with it is told when a pod is run.
func TakeHandover() *Handover {
	h := &Handover{unit: &contract.Unit{
		Main:         isMain(),
		NotifySocket: os.Getenv("NOTIFY_SOCKET"),
		Credentials:  os.Getenv("CREDENTIALS_DIRECTORY"),
	}}
	h.unit.Sockets, h.err = takeSockets()
	if c := h.unit.Credentials; c != "" && !filepath.IsAbs(c) {
		h.err = errors.Join(h.err, fmt.Errorf("CREDENTIALS_DIRECTORY=%q is not an absolute path", c))
	}
	if micros := os.Getenv("WATCHDOG_USEC"); micros != "" && isOwn("WATCHDOG_PID", true) {
		n, err := strconv.ParseUint(micros, 10, 63)
		if err != nil || n == 0 {
			h.err = errors.Join(h.err, fmt.Errorf("WATCHDOG_USEC=%q is not a time", micros))
		}
		h.unit.WatchdogMicros = n
	}
	for _, name := range []string{
		"NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID",
	} {
		_ = os.Unsetenv(name)
	}
	u := h.unit
	if !u.Main && u.NotifySocket == "" && u.Credentials == "" && len(u.Sockets) == 0 && u.WatchdogMicros == 0 {
		h.unit = nil
	}
	return h
}

// IsMain says whether this process is the main process of a unit.
func (h *Handover) IsMain() bool { return h != nil && h.unit != nil && h.unit.Main }

// isOwn says whether the variable has the number of this process; without it, otherwise.
func isOwn(variable string, otherwise bool) bool {
	pid := os.Getenv(variable)
	if pid == "" {
		return otherwise
	}
	return pid == strconv.Itoa(os.Getpid())
}

// isMain says whether this process is the one that systemd has started for a
// unit. Before version 248 it does not say so: then a child of the init with the
// id of a unit's start is.
func isMain() bool {
	return isOwn("SYSTEMD_EXEC_PID", os.Getppid() == 1 && os.Getenv("INVOCATION_ID") != "")
}

// takeSockets moves the files that were passed to this process to other numbers
// than the ones that they have, of which one is contract.LockFD.
func takeSockets() ([]contract.Socket, error) {
	count := os.Getenv("LISTEN_FDS")
	if count == "" || !isOwn("LISTEN_PID", false) {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxSockets {
		return nil, fmt.Errorf("LISTEN_FDS=%q is not a number of files up to %d", count, maxSockets)
	}
	names, err := socketNames(os.Getenv("LISTEN_FDNAMES"), n)
	if err != nil {
		return nil, err
	}
	sockets := make([]contract.Socket, 0, n)
	for i, name := range names {
		from := firstSocket + i
		// Files of this program close on exec: what was passed to it does not.
		flags, err := unix.FcntlInt(uintptr(from), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			return sockets, fmt.Errorf("LISTEN_FDS=%d, but file %d was not passed", n, from)
		}
		fd, err := unix.FcntlInt(uintptr(from), unix.F_DUPFD_CLOEXEC, firstSocket+n+1)
		if err != nil {
			return sockets, fmt.Errorf("take file %d of the service manager: %w", from, err)
		}
		unix.Close(from)
		sockets = append(sockets, contract.Socket{FD: fd, Name: name})
	}
	return sockets, nil
}

// socketNames are the names of n files, as sd_listen_fds_with_names(3) has them.
func socketNames(list string, n int) ([]string, error) {
	if list == "" {
		return slices.Repeat([]string{"unknown"}, n), nil
	}
	names := strings.Split(list, ":")
	if len(names) != n {
		return nil, fmt.Errorf("LISTEN_FDNAMES=%q does not have a name for each of %d files", list, n)
	}
	for _, name := range names {
		if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r >= 0x7f }) || name == contract.Every {
			return nil, fmt.Errorf("LISTEN_FDNAMES=%q has a name that is none", list)
		}
	}
	return names, nil
}

// handed is what a pod gets of what was handed to this process. What it has no
// use for is an error that says what to do: a client that connects to a socket
// which nobody serves would wait for ever.
func (e *Env) handed(p *Prepared) (*contract.Unit, error) {
	if e.Handover == nil || e.Handover.unit == nil {
		if e.Handover != nil && e.Handover.err != nil {
			return nil, e.Handover.err
		}
		return nil, nil
	}
	u := *e.Handover.unit
	if err := e.Handover.err; err != nil {
		return nil, err
	}
	if p.sandbox.Notify == contract.NotifyNo {
		u.NotifySocket, u.WatchdogMicros = "", 0
	}
	if err := p.checkHanded(&u); err != nil {
		return nil, err
	}
	return &u, nil
}

func (p *Prepared) checkHanded(u *contract.Unit) error {
	if !slices.Contains(p.stage1.manifest.Features, contract.FeatureUnit) {
		if len(u.Sockets) > 0 || u.NotifySocket != "" || u.Credentials != "" {
			return fmt.Errorf("stage1 %q cannot pass on sockets, notifications or credentials of a unit: it lacks the feature %q", p.stage1.Name, contract.FeatureUnit)
		}
		return nil
	}
	there := make([]string, len(u.Sockets))
	var taken, wanted []string
	credentials := false
	for i, s := range u.Sockets {
		there[i] = s.Name
	}
	for _, a := range p.apps {
		taken = append(taken, a.app.Sockets...)
		credentials = credentials || a.app.Credentials != nil || len(p.apps) == 1
	}
	for _, name := range taken {
		if name != contract.Every && !slices.Contains(there, name) {
			wanted = append(wanted, name)
		}
	}
	for _, name := range there {
		if !slices.Contains(taken, name) && !slices.Contains(taken, contract.Every) {
			return &HandedError{Option: "--listen-fds", What: fmt.Sprintf("the unit passes the socket %q, which no app of the pod takes", name), App: p.sandbox.Apps[0]}
		}
	}
	if len(there) > 0 && len(wanted) > 0 {
		return fmt.Errorf("--listen-fds: the unit passes no socket %q, it passes %q; FileDescriptorName= of a socket unit names it", wanted[0], there)
	}
	if u.Credentials != "" && !credentials {
		return &HandedError{Option: "--credentials", What: "the unit has credentials, which no app of the pod takes", App: p.sandbox.Apps[0]}
	}
	return nil
}

// HandedError reports something that a unit hands to a pod of several apps none
// of which is to get it.
type HandedError struct{ Option, What, App string }

func (e *HandedError) Error() string { return e.What }

// Hint says what to do about it.
func (e *HandedError) Hint() string {
	return fmt.Sprintf("give an app, such as %s, the flag %s or %s=NAME", e.App, e.Option, e.Option)
}

// keepSockets lets exec keep the sockets.
func keepSockets(u *contract.Unit) error {
	if u == nil {
		return nil
	}
	for _, s := range u.Sockets {
		if _, err := unix.FcntlInt(uintptr(s.FD), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("pass on socket %q: %w", s.Name, err)
		}
	}
	return nil
}
