package supervise

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// handover is what a supervisor that executes itself again tells itself. Files
// are numbers of open ones, -1 where there is none. Times are nanoseconds from
// now, 0 where there is none.
type handover struct {
	Pod     *contract.Pod  `json:"pod"`
	Host    *contract.Host `json:"host"`
	Apps    []appHandover  `json:"apps"`
	Shared  Shared         `json:"shared"`
	Control int            `json:"control"`
	Code    int            `json:"code"`
	Signal  int            `json:"signal"`

	Ready bool   `json:"ready"`
	Told  string `json:"told"`
	Live  int64  `json:"live"` // the next sign of life for the service manager
	Proxy int    `json:"proxy"`

	Ports []portHandover `json:"ports"`

	Feeding bool `json:"feeding"`
	Fed     bool `json:"fed"` // stdin is at its end
	Guard   int  `json:"guard"`
}

// appHandover is what there is to say about an app. It runs, waits or is over.
type appHandover struct {
	Conf      *contract.App    `json:"conf"`
	State     int              `json:"state"`
	Due       int64            `json:"due"`
	PID       int              `json:"pid"`
	Pidfd     int              `json:"pidfd"`
	Since     int64            `json:"since"`
	OOMBefore uint64           `json:"oomBefore"`
	StandsFor int              `json:"standsFor"`
	Restarts  int              `json:"restarts"`
	Backoff   int64            `json:"backoff"`
	Last      *contract.Exit   `json:"last"`
	Streams   *streamsHandover `json:"streams"`
}

// streamsHandover are the streams of an app that runs.
type streamsHandover struct {
	Relays []relayHandover `json:"relays"`
	Logs   []logHandover   `json:"logs"`
	Master int             `json:"master"`
	Modes  string          `json:"modes"` // of the caller's terminal, "" = it is none
}

type relayHandover struct {
	FD     int `json:"fd"`
	Output int `json:"output"`
}

type logHandover struct {
	FD   int    `json:"fd"`
	Path string `json:"path"`
	Max  int64  `json:"max"`
}

// toNanos is how far away t is.
func toNanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	if n := time.Until(t).Nanoseconds(); n != 0 {
		return n
	}
	return 1
}

// fromNanos is the time that is so far away.
func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(n))
}

// handOver describes the supervisor, and lists the files that stay open.
func (s *supervisor) handOver() (*handover, []int, error) {
	shared, ok := s.flavour.HandOver()
	if !ok {
		return nil, nil, errors.New("internal error: the sandbox is not complete")
	}
	h := &handover{
		Pod: s.pod, Host: s.host, Shared: shared, Control: s.control.fd, Code: s.code, Signal: s.signal,
		Ready: s.ready, Told: s.notifier.told, Live: toNanos(s.notifier.next), Proxy: -1,
		Feeding: s.stdin.began, Fed: s.stdin.ended,
	}
	files := append(shared.files(), h.Control)
	if s.proxy != nil {
		h.Proxy = s.proxy.fd
		files = append(files, h.Proxy)
	}
	h.Ports = s.ports.describe()
	for _, p := range h.Ports {
		files = append(files, p.FD)
	}
	if s.host.Unit != nil {
		for _, socket := range s.host.Unit.Sockets {
			files = append(files, socket.FD)
		}
	}
	for _, a := range s.apps {
		ah := appHandover{
			Conf: a.conf, State: int(a.state), Due: toNanos(a.due), PID: a.pid, Pidfd: a.pidfd,
			Since: toNanos(a.since), OOMBefore: a.oomBefore, StandsFor: int(a.standsFor),
			Restarts: a.restarts, Backoff: int64(a.backoff), Last: &a.last,
		}
		if a.pidfd >= 0 {
			files = append(files, a.pidfd)
		}
		if a.streams != nil {
			ah.Streams = a.streams.describe()
			files = append(files, ah.Streams.files()...)
		}
		h.Apps = append(h.Apps, ah)
	}
	return h, files, nil
}

// describe is the handover of streams.
func (s *streams) describe() *streamsHandover {
	h := &streamsHandover{Master: s.master}
	for _, r := range s.relays {
		h.Relays = append(h.Relays, relayHandover{r.fd, r.output})
	}
	for _, l := range s.logs {
		h.Logs = append(h.Logs, logHandover{l.fd, l.path, l.max})
	}
	if s.tty != nil {
		h.Modes = hex.EncodeToString(modeBytes(&s.tty.saved))
	}
	return h
}

func (h *streamsHandover) files() (fds []int) {
	for _, r := range h.Relays {
		fds = append(fds, r.FD) // the master is one of these
	}
	for _, l := range h.Logs {
		fds = append(fds, l.FD)
	}
	return fds
}

// modeBytes are the modes of a terminal as bytes.
func modeBytes(m *unix.Termios) []byte {
	return (*[unsafe.Sizeof(unix.Termios{})]byte)(unsafe.Pointer(m))[:]
}

// takeOver makes this supervisor what the one was that wrote the memory file.
func (s *supervisor) takeOver(memory int) error {
	b, err := readAll(memory, "memory file")
	unix.Close(memory)
	if err != nil {
		return err
	}
	h := &handover{}
	if err := contract.Decode(b, h); err != nil {
		return err
	}
	if h.Pod == nil || h.Host == nil {
		return errors.New("internal error: no pod")
	}
	s.pod, s.host, s.cg = h.Pod, h.Host, cgroups{h.Host.Cgroup}
	if s.journal, err = newPodJournal(s.host, s.pod); err != nil {
		return err
	}
	s.flavour.TakeOver(h.Shared)
	if err := s.keepNetworks(); err != nil {
		return err
	}
	if s.ports, err = takeOverPorts(h.Ports); err != nil {
		return err
	}
	if s.notifier, err = openNotifier(s.host.Unit, s.pod.Notify); err != nil {
		return err
	}
	s.notifier.told, s.notifier.next = h.Told, fromNanos(h.Live)
	s.code, s.signal, s.ready, s.guard = h.Code, h.Signal, h.Ready, h.Guard
	for _, ah := range h.Apps {
		a := &app{
			name: ah.Conf.Name, conf: ah.Conf, state: appState(ah.State), due: fromNanos(ah.Due), pid: ah.PID, pidfd: ah.Pidfd,
			since: fromNanos(ah.Since), oomBefore: ah.OOMBefore, standsFor: unix.Signal(ah.StandsFor),
			restarts: ah.Restarts, backoff: time.Duration(ah.Backoff), last: *ah.Last,
		}
		s.apps = append(s.apps, a)
		if ah.Streams == nil {
			continue
		}
		if a.streams, err = takeOverStreams(a.conf, s.journal, ah.Streams, s.stdin); err != nil {
			return fmt.Errorf("app %s: %w", a.name, err)
		}
	}
	s.control = newControl(h.Control, s.requests)
	if h.Proxy >= 0 {
		s.notes = make(chan note)
		s.proxy = newProxy(h.Proxy, s.notes)
	}
	return s.stdin.takeOver(h.Feeding, h.Fed)
}

// takeOverStreams goes on with the streams of an app.
func takeOverStreams(conf *contract.App, j *podJournal, h *streamsHandover, stdin *feeder) (*streams, error) {
	s := &streams{app: conf, journal: j, master: h.Master}
	for _, l := range h.Logs {
		f, err := adoptLog(l.FD, l.Path, l.Max)
		if err != nil {
			return s, err
		}
		s.logs = append(s.logs, &sharedLog{logFile: f})
	}
	for _, r := range h.Relays {
		want := contract.Stream{Kind: contract.StreamPTY}
		switch r.Output {
		case 1:
			want = conf.Stdout
		case 2:
			want = conf.Stderr
		}
		w, err := s.writer(max(r.Output, 1), want)
		if err != nil {
			return s, err
		}
		s.relays = append(s.relays, newRelay(w, r.FD, r.Output))
		if r.Output == 0 {
			stdin.to = s.relays[len(s.relays)-1].from
		}
	}
	if h.Modes != "" {
		var saved unix.Termios
		b, err := hex.DecodeString(h.Modes)
		if err != nil || len(b) != len(modeBytes(&saved)) {
			return s, errors.New("internal error: no modes of a terminal")
		}
		copy(modeBytes(&saved), b)
		s.tty, s.stdin = newTerminal(0, s.master, saved), stdin
		stdin.tty = s.tty
	}
	return s, nil
}

// Shared is what a flavour hands over of what the apps of the pod share: files
// of namespaces, -1 where there is none, and the process that keeps them.
type Shared struct {
	User  int    `json:"user"`
	Net   int    `json:"net"`
	IPC   int    `json:"ipc"`
	UTS   int    `json:"uts"`
	PID   int    `json:"pid"`
	All   uint64 `json:"all"`
	Init  int    `json:"init"` // the process, 0 = there is none
	Pidfd int    `json:"pidfd"`
}

// NothingShared is a Shared of apps that share all with the host.
func NothingShared() Shared {
	return Shared{User: none, Net: none, IPC: none, UTS: none, PID: none, Pidfd: -1}
}

func (h Shared) files() (fds []int) {
	for _, fd := range []int{h.User, h.Net, h.IPC, h.UTS, h.PID, h.Pidfd} {
		if fd >= 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}
