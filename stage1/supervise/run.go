// Package supervise is the pod's parent process: it boots the pod, starts its
// apps, restarts them, waits for them, relays their streams, takes requests and
// gives back what the host lent when all is over.
//
// It runs outside of the pod's namespaces and does nothing there itself: what
// happens inside is a program that package compile made. One goroutine, that of
// Run, owns all state; others only copy bytes and hand over messages.
//
// Begin with Run, whose body is the life of a pod.
package supervise

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// supervisor is a pod under supervision.
type supervisor struct {
	flavour Flavour
	pod     *contract.Pod
	host    *contract.Host
	cg      cgroups
	apps    []*app
	stdin   *feeder
	journal *podJournal // nil = no stream of the caller leads there

	networks *networks // nil = there is nothing to attach
	ports    *ports

	signals  <-chan os.Signal
	taken    <-chan struct{} // closed when all signals get to signals
	requests chan request
	control  *control

	notifier *notifier
	proxy    *proxy    // of the app that speaks for the pod; nil = there is none
	notes    chan note // what it says
	ready    bool      // the ready file is there
	ending   bool      // the service manager knows

	phase  phase
	code   int // the exit code of the pod so far
	signal int // the signal behind it, 0 = none

	caught    chan os.Signal // signals, as the runtime knows it
	restAt    time.Time      // when to rest; zero = there is no need
	restDelay time.Duration
	restless  bool // resting has failed
	turns     int  // of the loop
	guard     int  // the file to tell the guard by, 0 = there is none
}

// Run is the run entrypoint: it runs the pod whose directory is the working
// directory and whose lock is contract.LockFD, and returns the exit code of
// the pod. What went wrong is told on stderr. memory is the file of ResumeFlag, 0
// without that.
func Run(f Flavour, memory int) int {
	unix.Umask(0o077)
	if err := holdLock(); err != nil {
		return Fail(err)
	}
	s := &supervisor{flavour: f, requests: make(chan request), stdin: &feeder{}}
	s.caught, s.taken = watch()
	s.signals = s.caught
	if memory > 0 {
		if err := s.takeOver(memory); err != nil {
			return Fail(fmt.Errorf("go on with the pod: %w", err))
		}
		s.loop()
	} else if err := s.load(); err != nil {
		return Fail(err)
	} else if err := s.boot(); err != nil {
		s.code = Fail(err)
	} else {
		s.startAll()
		s.loop()
	}
	if err := s.finishPod(); err != nil {
		complain(err)
	}
	s.journal.finish()
	if u := s.host.Unit; u != nil && u.Main && s.signal != 0 {
		dieOf(unix.Signal(s.signal))
	}
	return s.code
}

// boot makes everything ready for the first app.
func (s *supervisor) boot() (err error) {
	if s.control, err = listen(s.host.RunDir, s.requests); err != nil {
		return err
	}
	if err := s.openNotify(); err != nil {
		return err
	}
	if err := checkSockets(s.host.Unit); err != nil {
		return err
	}
	if slices.ContainsFunc(s.apps, func(a *app) bool { return a.conf.PID == contract.PIDHost }) {
		// What such an app leaves behind has no pid 1 of a namespace to reap it.
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("become the reaper of the pod: %w", err)
		}
	}
	if err := s.publish(); err != nil {
		return err
	}
	if err := s.flavour.Sandbox(s.pod, s.host, confs(s.apps)); err != nil {
		return err
	}
	return s.attach()
}

func confs(apps []*app) []*contract.App {
	list := make([]*contract.App, len(apps))
	for i, a := range apps {
		list[i] = a.conf
	}
	return list
}

// holdLock takes over the lock on the pod directory. No program that is started
// may have it, or the pod would be running for as long as that lives; nor may it
// have any other file that the caller happened to have open.
func holdLock() error {
	if err := unix.CloseRange(contract.LockFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("keep files from apps: %w", err)
	}
	var lock, file unix.Stat_t
	if err := unix.Fstat(contract.LockFD, &lock); err != nil {
		return fmt.Errorf("take over the lock of the pod: %w", err)
	}
	if err := unix.Lstat(contract.LockFile, &file); err != nil {
		return fmt.Errorf("take over the lock of the pod: %w", err)
	}
	if lock.Dev != file.Dev || lock.Ino != file.Ino {
		return errors.New("take over the lock of the pod: it is not that of the working directory")
	}
	// Nothing happens if this open file holds the lock already.
	owner := unix.Flock_t{Type: unix.F_WRLCK, Start: 0, Len: 1}
	if err := unix.FcntlFlock(contract.LockFD, unix.F_OFD_SETLK, &owner); err != nil {
		return fmt.Errorf("take over the lock of the pod: %w", err)
	}
	return nil
}

// load reads the contract.
func (s *supervisor) load() (err error) {
	if s.pod, err = contract.LoadPod("."); err != nil {
		return err
	}
	if s.host, err = contract.LoadHost("."); err != nil {
		return err
	}
	s.cg = cgroups{s.host.Cgroup}
	if s.journal, err = newPodJournal(s.host, s.pod); err != nil {
		return err
	}
	s.apps, err = loadApps(s.pod)
	return err
}

func loadApps(pod *contract.Pod) ([]*app, error) {
	var apps []*app
	for _, name := range pod.Apps {
		a := &app{name: name, pidfd: -1}
		var err error
		if a.conf, err = contract.LoadApp(".", name); err != nil {
			return nil, fmt.Errorf("app %s: %w", name, err)
		}
		if a.spec, err = loadSpec(name); err != nil {
			return nil, fmt.Errorf("app %s: %w", name, err)
		}
		apps = append(apps, a)
	}
	if len(apps) == 0 {
		return nil, errors.New("the pod has no apps")
	}
	return apps, nil
}

// loadSpec reads what a start of an app needs, and nothing else does.
func loadSpec(app string) (*specs.Spec, error) {
	spec, err := contract.LoadSpec(".", app)
	if err != nil {
		return nil, err
	}
	if spec.Process == nil || spec.Linux == nil {
		return nil, fmt.Errorf("%s has no process or no linux section", contract.SpecFile)
	}
	return spec, nil
}

// startAll starts the apps in order, until one fails or a signal ends the pod.
func (s *supervisor) startAll() {
	for _, a := range s.apps {
		s.takeSignals()
		if s.phase >= stopping {
			a.discarded = s.code != 0
			s.finish(a, contract.Exit{Code: contract.ExitSignal + int(unix.SIGTERM), Signal: int(unix.SIGTERM), Error: "the pod was stopped before the app was started"})
			continue
		}
		s.startOrEnd(a)
	}
	s.flavour.Started()
	if s.phase >= stopping {
		return
	}
	s.restLater()
	s.started()
}

// takeSignals handles the signals that have arrived, without waiting.
func (s *supervisor) takeSignals() {
	for {
		select {
		case sig := <-s.signals:
			s.onSignal(sig.(unix.Signal))
		default:
			return
		}
	}
}

// finishPod ends what is left of the pod, gives back what the host lent, and
// removes the pod if that was asked for.
func (s *supervisor) finishPod() error {
	s.closeNotify()
	s.flavour.Close()
	if s.control != nil {
		s.control.end() // its socket goes with the run folder
	}
	s.ports.close()
	if err := clear(s.pod, s.host); err != nil {
		return err
	}
	if err := s.leaveNetworks(); err != nil {
		return err
	}
	if s.pod.Remove {
		return removePod(s.pod.UUID)
	}
	return nil
}

// warn tells the operator what went wrong with an app.
func (s *supervisor) warn(a *app, err error) {
	complain(fmt.Errorf("app %s: %w", a.name, err))
}

// complain writes an error as one line on stderr.
func complain(err error) {
	text := strings.ReplaceAll(err.Error(), "\n", "; ")
	writeAll(2, []byte("stage1: "+text+"\n"))
}

// writeAll writes b to one of the caller's streams. A reader that is gone is
// none of the pod's business: os.File would end the process.
func writeAll(fd int, b []byte) {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EAGAIN {
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, -1)
		}
		if err != nil && err != unix.EINTR {
			return
		}
		b = b[max(n, 0):]
	}
}

// stream is one of the caller's streams as an io.Writer that never fails.
type stream int

func (s stream) Write(b []byte) (int, error) {
	writeAll(int(s), b)
	return len(b), nil
}

// Fail tells an error of an entrypoint on stderr and gives its exit code.
func Fail(err error) int {
	if err == nil {
		return 0
	}
	complain(err)
	return contract.ExitFailure
}
