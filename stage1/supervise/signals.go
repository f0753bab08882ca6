package supervise

import (
	"os"
	"os/signal"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// watched are the signals that have a meaning for a pod or are passed on.
// SIGPIPE is one of them only because a closed stderr must not end a pod.
// Realtime signals are not: taking a signal costs the runtime two changes of
// thread, and nobody sends these to a supervisor.
func watched() []os.Signal {
	set := []os.Signal{
		unix.SIGCHLD, unix.SIGTERM, unix.SIGABRT, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM,
		unix.SIGCONT, unix.SIGWINCH, unix.SIGPIPE,
	}
	// What the caller ignores stays ignored: a pod that was started with nohup
	// outlives its terminal.
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGINT} {
		if !ignored(sig) {
			set = append(set, sig)
		}
	}
	return set
}

// watch takes the signals. It does so while the caller goes on: taken is closed
// when each signal from then on gets to the channel.
func watch() (signals chan os.Signal, taken <-chan struct{}) {
	c, done := make(chan os.Signal, 64), make(chan struct{})
	go func() {
		signal.Notify(c, watched()...)
		close(done)
	}()
	return c, done
}

// dieOf ends the process by a signal, as the app was ended by it: then a service
// manager sees what it would see of the app itself, such as a stop that was in
// order. It returns when that cannot be.
func dieOf(sig unix.Signal) {
	runtime.LockOSThread()
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0) // no core: this is not the program that crashed
	var action struct{ handler, flags, restorer, mask uint64 }
	_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	_ = unix.PthreadSigmask(unix.SIG_SETMASK, &unix.Sigset_t{}, nil)
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), sig)
}

// ignored says whether the process ignores sig. The runtime leaves SIGHUP and
// SIGINT alone when the caller ignored them, and takes over all others.
func ignored(sig unix.Signal) bool {
	var action struct{ handler, flags, restorer, mask uint64 }
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), 0, uintptr(unsafe.Pointer(&action)), 8, 0, 0)
	const sigIgn = 1
	return errno == 0 && action.handler == sigIgn
}
