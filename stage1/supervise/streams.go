package supervise

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// streams are the standard streams of one start of an app: what the app gets,
// and the relays of what it may not have itself. The operator's terminal never
// enters a pod: an app that holds one could read what is typed into it later and
// leave it in any mode. Nor does a file of the host, which the app could
// truncate and, in its own user namespace, not open a second time.
type streams struct {
	fds    [3]int // what becomes 0, 1 and 2 of the app; -1 = the terminal made for it
	own    []int  // those of them to close once the app has them
	relays []*relay
	logs   []*sharedLog

	app     *contract.App
	journal *podJournal // nil = the caller's streams do not lead there
	lines   []*journalWriter

	master int       // the other side of the terminal made for the app
	tty    *terminal // the caller's
	stdin  *feeder   // what reads from it
}

// sharedLog is one log file for both output streams of an app.
type sharedLog struct {
	sync.Mutex
	*logFile
}

// Write appends b. What a full disk does not take is lost: an app is not to hang
// because its log cannot be written.
func (l *sharedLog) Write(b []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	_, _ = l.logFile.Write(b)
	return len(b), nil
}

// openStreams opens the streams of app, whose user is uid on the host. Close
// releases them.
func openStreams(app *contract.App, uid int, j *podJournal) (s *streams, err error) {
	s = &streams{app: app, journal: j}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.fds[0], err = s.input(app.Stdin); err != nil {
		return s, fmt.Errorf("open stdin: %w", err)
	}
	shared := -1 // the pipe to the terminal that stdout and stderr both lead to
	for fd, want := range []contract.Stream{1: app.Stdout, 2: app.Stderr} {
		if fd == 0 {
			continue
		}
		if s.fds[fd], err = s.output(fd, want, &shared); err != nil {
			return s, fmt.Errorf("open %s: %w", streamNames[fd], err)
		}
		if err = ownPipe(s.fds[fd], uid); err != nil {
			return s, fmt.Errorf("open %s: %w", streamNames[fd], err)
		}
	}
	return s, nil
}

var streamNames = [3]string{"stdin", "stdout", "stderr"}

// input is what the app gets as stdin.
func (s *streams) input(want contract.Stream) (int, error) {
	switch want.Kind {
	case contract.StreamInherit:
		// A terminal is relayed with --interactive or not at all.
		if isTerminal(0) {
			return s.null()
		}
		return 0, passable(0)
	case contract.StreamNull:
		return s.null()
	case contract.StreamPTY:
		return -1, nil
	}
	return -1, fmt.Errorf("stream kind %q is not supported", want.Kind)
}

// output is what the app gets as stdout or stderr.
func (s *streams) output(fd int, want contract.Stream, shared *int) (int, error) {
	switch want.Kind {
	case contract.StreamInherit:
		if s.journal.takes(fd) {
			return s.relay(fd, want)
		}
		direct, err := direct(fd)
		if err != nil || direct {
			return fd, err
		}
		if *shared >= 0 && sameFile(1, 2) {
			return *shared, nil
		}
		*shared, err = s.relay(fd, want)
		return *shared, err
	case contract.StreamNull:
		return s.null()
	case contract.StreamPTY:
		return -1, nil
	case contract.StreamFile:
		return s.relay(fd, want)
	}
	return -1, fmt.Errorf("stream kind %q is not supported", want.Kind)
}

func (s *streams) null() (int, error) {
	fd, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/null: %w", err)
	}
	s.own = append(s.own, fd)
	return fd, nil
}

// relay starts copying from a new pipe to where the app's output fd leads, and
// returns the pipe's other end.
func (s *streams) relay(fd int, want contract.Stream) (int, error) {
	w, err := s.writer(fd, want)
	if err != nil {
		return -1, err
	}
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, fmt.Errorf("make pipe: %w", err)
	}
	if err := unix.SetNonblock(p[0], true); err != nil {
		return -1, errors.Join(err, unix.Close(p[0]), unix.Close(p[1]))
	}
	s.own = append(s.own, p[1])
	s.relays = append(s.relays, newRelay(w, p[0], fd))
	return p[1], nil
}

// writer is where a relay of the app's output fd writes.
func (s *streams) writer(fd int, want contract.Stream) (io.Writer, error) {
	switch {
	case want.Kind == contract.StreamFile:
		l, err := s.logFile(want)
		if err != nil {
			return nil, err
		}
		return logWriter(l, streamNames[fd], want.Format)
	case s.journal.takes(fd):
		w := s.journal.writer(s.app, fd)
		s.lines = append(s.lines, w)
		return w, nil
	}
	return stream(fd), nil
}

// logFile is the log file of a stream, which may be another's too.
func (s *streams) logFile(want contract.Stream) (*sharedLog, error) {
	for _, l := range s.logs {
		if l.path == want.Path {
			return l, nil
		}
	}
	f, err := openLog(want.Path, want.Max)
	if err != nil {
		return nil, err
	}
	l := &sharedLog{logFile: f}
	s.logs = append(s.logs, l)
	return l, nil
}

// handOver closes what only the app is to hold, now that it has been cloned.
func (s *streams) handOver() {
	for _, fd := range s.own {
		unix.Close(fd)
	}
	s.own = nil
}

// attach relays the terminal that was made for the app, whose other side is
// master, to the caller's terminal, which becomes raw. It takes over master.
func (s *streams) attach(master int, stdin *feeder) error {
	if err := unix.SetNonblock(master, true); err != nil {
		unix.Close(master)
		return fmt.Errorf("use terminal of the app: %w", err)
	}
	s.master = master
	r := newRelay(stream(1), master, 0)
	s.relays = append(s.relays, r)
	if isTerminal(0) {
		copySize(master, 0)
		t, err := takeTerminal(0, master)
		if err != nil {
			return err
		}
		s.tty = t
	}
	s.stdin = stdin
	return stdin.feed(r.from, s.tty)
}

// resize gives the app's terminal the size of the caller's.
func (s *streams) resize() {
	if s.tty != nil {
		copySize(s.master, s.tty.fd)
	}
}

// resume takes the caller's terminal again after the supervisor was stopped.
func (s *streams) resume() {
	if s.tty != nil {
		s.tty.retake()
		s.stdin.look()
		s.resize()
	}
}

// close passes on what the app has written, ends the relays and restores the
// caller's terminal. The app is over.
func (s *streams) close() {
	s.handOver()
	for _, r := range s.relays {
		r.end()
	}
	s.relays = nil
	for _, w := range s.lines {
		w.flush()
	}
	s.lines = nil
	s.tty.restore()
	s.tty = nil
	for _, l := range s.logs {
		_ = l.logFile.Close()
	}
	s.logs = nil
}

// passable refuses an inherited descriptor that would let the app out: with a
// folder of the host it could walk up to the host's root.
func passable(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return errors.New("it is a directory of the host")
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	if flags&unix.O_PATH != 0 {
		return errors.New("it is a path of the host without access")
	}
	return nil
}

// direct says whether the app gets the caller's output fd itself.
func direct(fd int) (bool, error) {
	if err := passable(fd); err != nil {
		return false, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return false, err
	}
	return st.Mode&unix.S_IFMT != unix.S_IFREG && !isTerminal(fd), nil
}

func sameFile(a, b int) bool {
	var x, y unix.Stat_t
	return unix.Fstat(a, &x) == nil && unix.Fstat(b, &y) == nil &&
		x.Dev == y.Dev && x.Ino == y.Ino && x.Rdev == y.Rdev
}

// ownPipe makes an anonymous pipe the app user's own: /dev/stdout is opened by
// name by many images, and a pipe of the host's root could not be. Nothing that
// has a name on the host changes its owner.
func ownPipe(fd, uid int) error {
	var fs unix.Statfs_t
	if fd < 0 || unix.Fstatfs(fd, &fs) != nil || fs.Type != unix.PIPEFS_MAGIC {
		return nil
	}
	if err := unix.Fchown(fd, uid, -1); err != nil {
		return fmt.Errorf("own the pipe: %w", err)
	}
	return nil
}
