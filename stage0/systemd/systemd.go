// Package systemd asks the systemd of this host for things, over D-Bus: a unit
// for a pod (StartScope, StartService), a place in the list of machines
// (Register). It is the only code that speaks D-Bus, and it connects only when
// it is asked to.
//
// Each call has a bound in time. Whoever cannot be asked is an
// *UnreachableError, and then nothing has been done.
//
// Begin with OwnUnit, which says where this process is, and Connect.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// How long others may take.
const (
	// connectLimit bounds the connection, which includes the first answer.
	connectLimit = 5 * time.Second
	// callLimit bounds one call.
	callLimit = 10 * time.Second
	// jobLimit bounds a job in which nothing is executed. systemctl gives its calls
	// as much.
	jobLimit = 25 * time.Second
)

// Names on the bus.
const (
	managerName  = "org.freedesktop.systemd1"
	managerPath  = "/org/freedesktop/systemd1"
	managerIface = managerName + ".Manager"
	ping         = "org.freedesktop.DBus.Peer.Ping"
)

// Sockets are where systemd and the system's bus listen. "" = the usual place.
type Sockets struct {
	Private string // systemd's own, for root, which needs no bus
	Bus     string
}

// The usual sockets.
const (
	usualPrivate = "/run/systemd/private"
	usualBus     = "/run/dbus/system_bus_socket"
)

// Booted says whether systemd is the init of this host (sd_booted(3)).
func Booted() bool {
	st, err := os.Lstat("/run/systemd/system")
	return err == nil && st.IsDir()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// UnreachableError reports a systemd that cannot be asked: there is no bus, or
// no answer in time. What was asked for has not been done.
type UnreachableError struct{ Err error }

func (e *UnreachableError) Error() string { return fmt.Sprintf("systemd cannot be asked: %v", e.Err) }

func (e *UnreachableError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *UnreachableError) Hint() string {
	return "systemctl status dbus.socket, or run with --scope=no: without a unit of its own"
}

// errSilent is the cause of what took too long.
var errSilent = errors.New("no answer in time")

// Manager is a connection to the system's systemd. It is not safe for several
// goroutines.
type Manager struct {
	conn    *dbus.Conn
	private bool
	signals chan *dbus.Signal
}

// Connect connects to systemd by its own socket or else by the bus, and waits
// for a first answer. The error is an *UnreachableError. The caller closes the
// Manager.
func Connect(ctx context.Context, at Sockets) (*Manager, error) {
	m, err := open(ctx, or(at.Private, usualPrivate), true)
	if err == nil || errors.Is(err, errSilent) {
		return m, err
	}
	return connectBus(ctx, at)
}

// ConnectBus is Connect for what only the bus can do: units that are kept as
// long as the connection lasts. Without a bus it is Connect.
func ConnectBus(ctx context.Context, at Sockets) (*Manager, error) {
	m, err := connectBus(ctx, at)
	if err == nil || errors.Is(err, errSilent) {
		return m, err
	}
	m, privateErr := open(ctx, or(at.Private, usualPrivate), true)
	if errors.Is(privateErr, errSilent) {
		return nil, privateErr
	}
	if privateErr != nil {
		return nil, err
	}
	return m, nil
}

func connectBus(ctx context.Context, at Sockets) (*Manager, error) {
	return open(ctx, or(at.Bus, usualBus), false)
}

func or(s, usual string) string {
	if s == "" {
		return usual
	}
	return s
}

// open connects to a socket and makes sure that somebody answers there.
func open(ctx context.Context, socket string, private bool) (*Manager, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, connectLimit, errSilent)
	defer cancel()
	conn, err := dial(ctx, socket, private)
	if err != nil {
		return nil, &UnreachableError{err}
	}
	m := &Manager{conn: conn, private: private}
	if err := m.call(ctx, managerName, managerPath, ping).Store(); err != nil {
		return nil, errors.Join(&UnreachableError{fmt.Errorf("ping over %s: %w", socket, cause(ctx, err))}, conn.Close())
	}
	return m, nil
}

// dial connects to a socket and says who it is.
func dial(ctx context.Context, socket string, private bool) (*dbus.Conn, error) {
	pipe, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, err
	}
	conn, err := dbus.NewConn(pipe)
	if err != nil {
		return nil, errors.Join(err, pipe.Close())
	}
	// What blocks below goes on with an error when the connection is closed.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))})
	switch {
	case err != nil:
	case private:
		err = awaitRead(ctx, pipe.(*net.UnixConn))
	default:
		err = conn.Hello()
	}
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("connect to %s: %w", socket, cause(ctx, err))
	}
	return conn, nil
}

// awaitRead waits until the other side has read what was written. Systemd's own
// socket needs that between the authentication and the first message: what
// systemd reads together with the end of the former, it looks at when something
// else arrives, which may be never. It answers nothing that could be waited for.
func awaitRead(ctx context.Context, pipe *net.UnixConn) error {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return err
	}
	for wait := 20 * time.Microsecond; ; wait = min(2*wait, 5*time.Millisecond) {
		var left int
		var ioctlErr error
		err := raw.Control(func(fd uintptr) { left, ioctlErr = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
		if err = errors.Join(err, ioctlErr); err != nil || left == 0 {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// cause is why ctx ended, if it did, else err.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// call calls a method. The reply carries the error.
func (m *Manager) call(ctx context.Context, name string, path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	ctx, cancel := context.WithTimeoutCause(ctx, callLimit, errSilent)
	defer cancel()
	c := m.conn.Object(name, path).CallWithContext(ctx, method, 0, args...)
	if c.Err != nil {
		c.Err = cause(ctx, c.Err)
	}
	return c
}

// Close ends the connection.
func (m *Manager) Close() error { return m.conn.Close() }
