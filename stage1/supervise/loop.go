package supervise

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// The back-off between restarts doubles from the first to the last, and starts
// anew after an app has run for longer than steadyAfter.
const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 30 * time.Second
	steadyAfter  = 30 * time.Second
)

// phase says how far a pod is on its way to its end. It only grows.
type phase int

const (
	running     phase = iota
	interrupted       // an interrupt was passed on to the apps; the next one stops
	stopping          // stop signals have been sent
	killing           // SIGKILL has been sent
)

// loop serves until every app is over.
func (s *supervisor) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()

	<-s.taken // an end before that is found by the first reap
	s.dismissGuard()
	for s.settle(); !s.over(); s.settle() {
		if s.turns++; s.turns%restlessTurns == 0 {
			s.restLater()
		}
		if due, ok := s.nextDue(); ok {
			timer.Reset(time.Until(due))
		} else {
			timer.Stop()
		}
		select {
		case sig := <-s.signals:
			s.onSignal(sig.(unix.Signal))
		case r := <-s.requests:
			answer(r.peer, s.onRequest(r.op))
		case n := <-s.heard():
			s.onNote(n)
		case <-timer.C:
			s.onTime(time.Now())
		}
	}
}

// settle takes what has happened meanwhile, signals first: an app that ends
// together with an order to stop, which a service manager may send to all
// processes at once, is not to be restarted.
func (s *supervisor) settle() {
	s.takeSignals()
	s.reap()
	s.tell()
}

func (s *supervisor) over() bool {
	for _, a := range s.apps {
		if a.state != appOver {
			return false
		}
	}
	return true
}

// nextDue is when an app must be killed or restarted next, or the supervisor is to
// rest.
func (s *supervisor) nextDue() (due time.Time, ok bool) {
	sooner := func(t time.Time) {
		if !t.IsZero() && (!ok || t.Before(due)) {
			due, ok = t, true
		}
	}
	sooner(s.restAt)
	sooner(s.notifier.due())
	for _, a := range s.apps {
		sooner(a.due)
	}
	return due, ok
}

// onTime kills the apps whose grace has passed and restarts those whose back-off
// has, and rests when it is time.
func (s *supervisor) onTime(now time.Time) {
	s.notifier.onTime(now)
	for _, a := range s.apps {
		if a.due.IsZero() || a.due.After(now) {
			continue
		}
		a.due = time.Time{}
		switch a.state {
		case appRunning:
			a.kill()
		case appWaiting:
			a.restarts++
			s.startOrEnd(a)
			s.restLater()
		}
	}
	if !s.restAt.IsZero() && !s.restAt.After(now) {
		s.rest()
	}
}

// onSignal gives a signal of the caller its meaning for the pod.
func (s *supervisor) onSignal(sig unix.Signal) {
	switch sig {
	case unix.SIGCHLD, unix.SIGPIPE:
	case unix.SIGHUP:
		s.reload()
	case unix.SIGTERM:
		s.escalate(max(stopping, s.phase+1))
	case unix.SIGABRT:
		// A service manager that has waited in vain for a sign of life wants to
		// know where the app hangs.
		s.stop(false, sig)
	case unix.SIGINT:
		s.escalate(s.phase + 1)
	case unix.SIGCONT:
		for _, a := range s.apps {
			a.resume()
		}
	case unix.SIGWINCH:
		// The caller's terminal has a new size. Without one it is a signal like
		// others; apps exist that take it as the order to stop.
		for _, a := range s.apps {
			a.resize()
		}
		if !s.host.Terminal {
			s.forward(sig)
		}
	default:
		s.forward(sig)
	}
}

// forward sends sig to all apps that run.
func (s *supervisor) forward(sig unix.Signal) {
	for _, a := range s.apps {
		if err := a.signal(sig); err != nil {
			s.warn(a, fmt.Errorf("send signal %d: %w", sig, err))
		}
	}
}

// escalate takes the pod nearer to its end.
func (s *supervisor) escalate(to phase) {
	switch {
	case to <= s.phase:
	case to == interrupted:
		s.phase = interrupted
		s.forward(unix.SIGINT)
	case to == stopping:
		s.stop(false, 0)
	default:
		s.phase = killing
		for _, a := range s.apps {
			a.kill()
			s.cancel(a)
		}
	}
}

// onRequest answers a request of the socket.
func (s *supervisor) onRequest(op contract.Operation) error {
	switch op {
	case contract.OpStop:
		s.escalate(stopping)
	case contract.OpKill:
		s.escalate(killing)
	default:
		return fmt.Errorf("unknown operation %q", op)
	}
	return nil
}

// stop sends each app its stop signal; SIGKILL follows after its grace. Apps
// that wait for their restart are over. With discard, the failure of another app
// is the reason, and the exit records say so. A signal given is sent instead of
// the stop signals.
func (s *supervisor) stop(discard bool, instead unix.Signal) {
	if s.phase >= stopping {
		return
	}
	s.phase = stopping
	s.tellStopping()
	for _, a := range s.apps {
		a.discarded = discard && a.state != appOver
		s.cancel(a)
		if a.state != appRunning {
			continue
		}
		sig := unix.Signal(a.conf.StopSignal)
		if instead != 0 {
			sig = instead
		}
		if err := a.signal(sig); err != nil {
			s.warn(a, fmt.Errorf("send stop signal: %w", err))
		}
		a.due = time.Now().Add(time.Duration(a.conf.StopGraceMillis) * time.Millisecond)
	}
}

// cancel ends an app that waits for its restart.
func (s *supervisor) cancel(a *app) {
	if a.state == appWaiting {
		s.finish(a, a.last)
	}
}

// reap takes the exit status of every child that is over.
func (s *supervisor) reap() {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG|unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		for _, a := range s.apps {
			if a.state == appRunning && a.pid == pid {
				s.ended(a, ws)
			}
		}
	}
}

// ended decides what follows the end of an app's process.
func (s *supervisor) ended(a *app, ws unix.WaitStatus) {
	exit := a.outcome(ws, s.cg)
	a.release()
	if s.phase >= stopping || !a.wantsRestart(exit.Code) {
		s.finish(a, exit)
		return
	}
	if err := s.cg.empty(a.name, time.Now().Add(killDeadline)); err != nil {
		exit.Error = err.Error()
		s.finish(a, exit)
		return
	}
	if time.Since(a.since) > steadyAfter {
		a.backoff = 0
	}
	a.backoff = min(max(2*a.backoff, firstBackoff), lastBackoff)
	a.state, a.last, a.due = appWaiting, exit, time.Now().Add(a.backoff)
}

// startOrEnd starts an app, and gives it an exit record if that fails.
func (s *supervisor) startOrEnd(a *app) {
	err := s.start(a)
	if err == nil {
		return
	}
	s.warn(a, err)
	exit := contract.Exit{Code: contract.ExitFailure, Error: err.Error()}
	var e *startError
	if errors.As(err, &e) {
		exit.Code = e.code
	}
	s.finish(a, exit)
}

// finish records that an app is over for good. The first failure ends the pod
// and is its exit code.
func (s *supervisor) finish(a *app, exit contract.Exit) {
	exit.Nanos, exit.Restarts, exit.Discarded = nanos(), a.restarts, a.discarded
	a.state, a.last, a.due = appOver, exit, time.Time{}
	if err := contract.Write(a.dir(), contract.ExitFile, exit); err != nil {
		s.warn(a, fmt.Errorf("write exit record: %w", err))
	}
	if exit.Code == 0 {
		return
	}
	if s.code == 0 {
		s.code, s.signal = exit.Code, a.endedBy(exit)
	}
	s.stop(true, 0)
}
