package supervise

import (
	"path/filepath"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// appState says what the supervisor does about an app.
type appState int

const (
	appWaiting appState = iota // for its first start or its next one, at due
	appRunning                 // SIGKILL at due, if that is set
	appOver                    // its exit is on disk
)

// app is one app of the pod under supervision.
type app struct {
	name string
	conf *contract.App
	spec *specs.Spec // nil but for a start

	state appState
	due   time.Time // of what the state says; zero = nothing

	pid, pidfd int
	since      time.Time
	streams    *streams
	oomBefore  uint64
	standsFor  unix.Signal // the signal that a SIGKILL stands for, 0 = itself

	restarts  int
	backoff   time.Duration
	last      contract.Exit // while it waits for its restart
	discarded bool
}

// dir is the app's folder, relative to the pod directory.
func (a *app) dir() string { return filepath.Join(contract.AppsDir, a.name) }

// isInit says whether the app is pid 1 of its pid namespace, to which the kernel
// gives no signal that it has no handler for.
func (a *app) isInit() bool { return a.conf.PID == contract.PIDOwn && !a.conf.Init }

// signal sends sig to the app if it runs.
func (a *app) signal(sig unix.Signal) error {
	if a.state != appRunning {
		return nil
	}
	var err error
	if !a.isInit() {
		// An init of ours passes every signal on. What it blocks does not show: the
		// kernel takes what is waited for (rt_sigtimedwait) out of the set meanwhile.
		err = unix.PidfdSendSignal(a.pidfd, sig, nil, 0)
	} else {
		var standsFor bool
		standsFor, err = signalInit(a.pid, a.pidfd, sig)
		if standsFor && a.standsFor == 0 {
			a.standsFor = sig
		}
	}
	if err == unix.ESRCH || exited(a.pidfd) {
		return nil // its end is on its way to us
	}
	return err
}

// kill ends the app at once, if it runs.
func (a *app) kill() {
	if a.state == appRunning {
		_ = unix.PidfdSendSignal(a.pidfd, unix.SIGKILL, nil, 0)
	}
}

// outcome is the exit record of the process that ended with status ws.
func (a *app) outcome(ws unix.WaitStatus, cg cgroups) contract.Exit {
	var exit contract.Exit
	exit.OOM = cg.oomKills(a.name) > a.oomBefore
	if !ws.Signaled() {
		exit.Code = ws.ExitStatus()
		return exit
	}
	sig := ws.Signal()
	if sig == unix.SIGKILL && a.standsFor != 0 && !exit.OOM {
		sig = a.standsFor
	}
	exit.Signal, exit.Code = int(sig), contract.ExitSignal+int(sig)
	return exit
}

// endedBy is the signal that ended the app, 0 if none did. An init above it has
// only an exit code to say that with.
func (a *app) endedBy(exit contract.Exit) int {
	const last = 64
	if sig := exit.Code - contract.ExitSignal; a.conf.Init && exit.Signal == 0 && sig > 0 && sig <= last {
		return sig
	}
	return exit.Signal
}

// wantsRestart says whether the policy restarts an app that ended with code.
func (a *app) wantsRestart(code int) bool {
	r := a.conf.Restart
	if r.Max > 0 && a.restarts >= r.Max {
		return false
	}
	return r.Policy == contract.RestartAlways || r.Policy == contract.RestartOnFailure && code != 0
}

// release gives up what belonged to the process that is over.
func (a *app) release() {
	if a.streams != nil {
		a.streams.close()
		a.streams = nil
	}
	if a.pidfd >= 0 {
		unix.Close(a.pidfd)
	}
	a.pid, a.pidfd, a.standsFor = 0, -1, 0
}

// resize gives the app's terminal the size of the caller's.
func (a *app) resize() {
	if a.streams != nil {
		a.streams.resize()
	}
}

// resume takes the caller's terminal again after the supervisor was stopped.
func (a *app) resume() {
	if a.streams != nil {
		a.streams.resume()
	}
}
