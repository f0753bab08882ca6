package stage0

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage0/pod"
	"rkt/stage1/contract"
)

// How long Stop waits.
const (
	// stopMargin is what a supervisor gets beyond the grace of its apps to end
	// the pod in order.
	stopMargin = 10 * time.Second
	// killLimit bounds the death of processes that were sent SIGKILL.
	killLimit = 10 * time.Second
	// askLimit is what a supervisor gets to answer, and with force to end the
	// pod, before it is taken for one that hangs.
	askLimit = 3 * time.Second
)

// StopOptions are the options of Stop.
type StopOptions struct {
	// Force ends the apps with SIGKILL at once, and a supervisor that does not
	// answer as well.
	Force bool
}

// NotRunningError reports a pod that cannot be stopped because it does not run
// yet.
type NotRunningError struct {
	UUID  pod.UUID
	State pod.State
}

func (e *NotRunningError) Error() string {
	return fmt.Sprintf("pod %s is not running, it is %s", e.UUID, e.State)
}

// StubbornError reports a pod that did not end in the time it was given.
type StubbornError struct {
	UUID   pod.UUID
	Waited time.Duration
}

func (e *StubbornError) Error() string {
	return fmt.Sprintf("pod %s did not end within %s", e.UUID, e.Waited)
}

// Hint implements the interface of errors that know what to do.
func (e *StubbornError) Hint() string { return "rkt stop --force " + e.UUID.String() }

// Stop ends a pod and returns when nothing of it is alive. stopped is false when
// it had ended before. A pod that does not run yet is a *NotRunningError, one
// that outlives its grace a *StubbornError. Processes without a supervisor are
// killed at once.
func Stop(ctx context.Context, p *pod.Pod, o StopOptions) (stopped bool, err error) {
	state, err := p.State()
	if errors.Is(err, pod.ErrNotFound) {
		return false, nil // removed meanwhile: it had ended
	}
	if err != nil {
		return false, err
	}
	switch state {
	case pod.Running:
		return true, stopRunning(ctx, p, o)
	case pod.Orphaned:
		return true, killAll(ctx, p)
	case pod.Exited, pod.ExitedGarbage, pod.Garbage, pod.Deleting:
		return false, nil
	}
	return false, &NotRunningError{UUID: p.UUID(), State: state}
}

// stopRunning asks the supervisor to end the pod and waits for that.
func stopRunning(ctx context.Context, p *pod.Pod, o StopOptions) error {
	limit := askToStop(ctx, p, o)
	waitCtx, cancel := context.WithTimeoutCause(ctx, limit, &StubbornError{UUID: p.UUID(), Waited: limit})
	defer cancel()
	err := p.AwaitEnd(waitCtx)
	var stubborn *StubbornError
	if !errors.As(err, &stubborn) || !o.Force {
		return err
	}
	// The supervisor hangs or is stopped. It goes first, so that it does not
	// start an app again.
	if err := p.SignalSupervisor(unix.SIGKILL); err != nil {
		return err
	}
	return killAll(ctx, p)
}

// askToStop asks the supervisor to end the pod, by the stop entrypoint or else
// by a signal, and returns how long that may take.
func askToStop(ctx context.Context, p *pod.Pod, o StopOptions) time.Duration {
	limit := stopMargin
	var args []string
	if o.Force {
		limit = askLimit
		args = []string{"--force"}
	}
	// One that a shell has stopped (Ctrl-Z) hears nothing until it goes on; where
	// this fails, asking does.
	_ = p.SignalSupervisor(unix.SIGCONT)
	c, err := p.Contract()
	if err == nil {
		if !o.Force {
			limit += grace(p, c)
		}
		askCtx, cancel := context.WithTimeout(ctx, askLimit)
		defer cancel()
		err = entrypoint(askCtx, p, c, contract.EntryStop, args...)
	}
	if err == nil {
		return limit
	}
	// No contract, no such entrypoint, or a supervisor that is not listening yet
	// or no more. A signal reaches it in any case.
	if o.Force {
		return 0
	}
	if err := p.SignalSupervisor(unix.SIGTERM); err != nil {
		return 0
	}
	return limit
}

// grace is the longest time that an app of the pod may take to end.
func grace(p *pod.Pod, c *contract.Pod) time.Duration {
	var longest time.Duration
	for _, name := range c.Apps {
		if a, err := p.App(name); err == nil {
			longest = max(longest, time.Duration(a.StopGraceMillis)*time.Millisecond)
		}
	}
	return longest
}

// killAll kills everything of a pod whose supervisor is gone, and waits.
func killAll(ctx context.Context, p *pod.Pod) error {
	ctx, cancel := context.WithTimeoutCause(ctx, killLimit, &StubbornError{UUID: p.UUID(), Waited: killLimit})
	defer cancel()
	if err := p.Kill(ctx); err != nil {
		return err
	}
	return p.AwaitEnd(ctx)
}
