package stage0

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage0/pod"
)

// Default times of GC.
const (
	DefaultGrace          = 30 * time.Minute // to look at what a pod left behind
	DefaultExpirePrepared = 24 * time.Hour
)

// GCOptions are the options of GC. The zero value removes everything that is
// not running.
type GCOptions struct {
	// Grace is how long a pod stays after it has ended.
	Grace time.Duration
	// ExpirePrepared is how long a prepared pod waits to be run.
	ExpirePrepared time.Duration
	// MarkOnly moves pods that are over aside and removes nothing.
	MarkOnly bool
}

// GCAction is what GC did with a pod.
type GCAction string

// The actions.
const (
	GCKept    GCAction = "kept"
	GCMarked  GCAction = "marked" // over, and waiting for the end of its grace period
	GCRemoved GCAction = "removed"
	GCFailed  GCAction = "failed"
)

// Collected is what GC did with one pod, and why.
type Collected struct {
	UUID   pod.UUID  `json:"uuid"`
	State  pod.State `json:"state"` // before
	Action GCAction  `json:"action"`
	Why    string    `json:"why"`
	// Killed is true when processes without a supervisor were killed.
	Killed bool `json:"killed,omitempty"`
}

// GC removes the pods that are over: those that ended longer ago than the grace
// period, prepared ones that have expired, and what crashes left behind. What
// is alive without a supervisor is killed. It never removes anything under
// something alive, and goes on with the other pods when one fails; the error
// joins all failures. Any number of GC may work at the same time, and each goes
// on where a killed one stopped.
func GC(ctx context.Context, env *Env, o GCOptions) ([]Collected, error) {
	var done []Collected
	var errs []error
	err := env.Pods.Walk(
		func(path string, err error) {
			if env.Log != nil {
				env.Log.WithError(err).WithField("path", path).Warn("skip foreign entry among the pods")
			}
		},
		func(p *pod.Pod) error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			c, err := gcPod(ctx, env, p, o)
			if errors.Is(err, pod.ErrNotFound) {
				return nil // another gc was faster
			}
			if err != nil {
				c.Action, c.Why = GCFailed, err.Error()
				errs = append(errs, err)
			}
			done = append(done, c)
			return nil
		})
	errs = append(errs, err)
	if !o.MarkOnly {
		_, err := env.Pods.SweepNames()
		errs = append(errs, err)
	}
	return done, errors.Join(errs...)
}

// gcPod does with one pod what its state calls for.
func gcPod(ctx context.Context, env *Env, p *pod.Pod, o GCOptions) (Collected, error) {
	state, err := p.State()
	c := Collected{UUID: p.UUID(), State: state, Action: GCKept}
	if err != nil {
		return c, err
	}
	switch state {
	case pod.Running, pod.Preparing, pod.Deleting:
		c.Why = "is " + string(state)
		return c, nil
	case pod.Prepared:
		if wait := o.ExpirePrepared - time.Since(createdAt(p)); wait > 0 {
			c.Why = fmt.Sprintf("is prepared, expires in %s", wait.Round(time.Second))
			return c, nil
		}
	}
	if state == pod.ExitedGarbage {
		// Before it is locked, which others see as being removed.
		if wait, err := graceLeft(p, o); err != nil || wait > 0 {
			c.Why = staysFor(wait)
			return c, err
		}
	}
	if o.MarkOnly && state != pod.Exited {
		c.Why = "only marking"
		return c, nil
	}
	if state == pod.Embryo {
		return gcEmbryo(p, c)
	}
	err = p.LockToCollect()
	if errors.Is(err, pod.ErrLocked) {
		c.Why = "is in use by another process"
		return c, nil
	}
	if err != nil {
		return c, err
	}
	defer p.Unlock()
	return gcLocked(ctx, env, p, o, c)
}

// gcEmbryo removes what a crash at the very beginning of a pod left behind.
func gcEmbryo(p *pod.Pod, c Collected) (Collected, error) {
	gone, err := p.DeleteEmbryo()
	if gone {
		c.Action, c.Why = GCRemoved, "was never prepared"
	} else {
		c.Why = "is being created"
	}
	return c, err
}

// gcLocked goes on with a pod that nobody else can move any more. Where it is
// may have changed since its state was computed.
func gcLocked(ctx context.Context, env *Env, p *pod.Pod, o GCOptions, c Collected) (Collected, error) {
	if p.Place() == pod.InPrepared && c.State != pod.Prepared {
		c.Why = "is prepared"
		return c, nil
	}
	alive, err := p.Alive()
	if err != nil {
		return c, err
	}
	if alive {
		if err := mustBeDead(ctx, p); err != nil {
			return c, err
		}
		c.Killed = true
	}
	if p.Place() == pod.InRun {
		if err := p.ToExitedGarbage(); err != nil && !noSpace(err) {
			return c, err
		}
		c.Action = GCMarked
	}
	switch wait, err := graceLeft(p, o); {
	case err != nil:
		return c, err
	case o.MarkOnly:
		c.Why = "only marking"
		return c, nil
	case wait > 0:
		c.Why = staysFor(wait)
		return c, nil
	}
	if err := collect(ctx, env, p); err != nil {
		return c, err
	}
	c.Action = GCRemoved
	c.Why = "was " + string(c.State)
	return c, nil
}

// graceLeft is how long a locked pod that is over still has to stay.
func graceLeft(p *pod.Pod, o GCOptions) (time.Duration, error) {
	if p.Place() != pod.InExitedGarbage && p.Place() != pod.InRun {
		return 0, nil
	}
	ended, err := p.Ended()
	if err != nil || o.Grace == 0 {
		return 0, err
	}
	return o.Grace - time.Since(ended), nil
}

func staysFor(d time.Duration) string {
	return fmt.Sprintf("ended, stays for another %s", d.Round(time.Second))
}

// createdAt is when a pod was prepared.
func createdAt(p *pod.Pod) time.Time {
	c, err := p.Contract()
	if err != nil {
		c = nil
	}
	return p.Times(c).Created
}

// noSpace reports whether a move failed for want of room. It is only for the
// looks of it: the pod can be removed where it is.
func noSpace(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
