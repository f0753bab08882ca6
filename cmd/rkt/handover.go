package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"rkt/fetch"
	"rkt/internal/escape"
	"rkt/stage0"
	"rkt/stage0/plan"
	"rkt/stage1/contract"
)

// handoverOptions are the flags of an app about what a service manager hands to
// the pod.
type handoverOptions struct{ sockets, credentials []string }

func (o *handoverOptions) flags(fs *pflag.FlagSet) {
	const only = "; the only app of a pod gets all"
	fs.StringSliceVar(&o.sockets, "listen-fds", nil, "sockets of the unit that the app gets as 3, 4 and so on: NAME,NAME or, without a value, all"+only)
	fs.StringSliceVar(&o.credentials, "credentials", nil, "credentials of the unit that the app gets: NAME,NAME or, without a value, all"+only)
	for _, name := range []string{"listen-fds", "credentials"} {
		fs.Lookup(name).NoOptDefVal = contract.Every
	}
}

// apply makes what the plan wants of what the flags say.
func (o *handoverOptions) apply(a *plan.App, set *pflag.FlagSet) {
	if set.Changed("listen-fds") {
		a.Sockets = append([]string{}, o.sockets...)
	}
	if set.Changed("credentials") {
		a.Credentials = append([]string{}, o.credentials...)
	}
}

// catch lets a signal that means the end cancel the work of rkt.
func (e *environment) catch(cancel func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGINT, unix.SIGTERM)
	go func() {
		e.caught <- <-c
		cancel()
	}()
}

// dieOfCaught ends the main process of a unit by the signal that has ended its
// work, which was given up in order: to stop a unit while it fetches an image is
// no failure of the unit. It returns when there is no such signal or no unit.
func (e *environment) dieOfCaught() {
	select {
	case sig := <-e.caught:
		if e.handover.IsMain() {
			signal.Reset(sig)
			runtime.LockOSThread()
			_ = unix.Tgkill(os.Getpid(), unix.Gettid(), sig.(unix.Signal))
		}
	default:
	}
}

const (
	// toldEvery is how often a service manager hears how a fetch goes on.
	toldEvery = 5 * time.Second
	// toldMore is what it is to allow for the rest from then on: a fetch of which
	// nothing comes for so long has failed.
	toldMore = time.Minute
)

// toldProgress lets a service manager know that a start waits for an image.
type toldProgress struct {
	progress
	handover  *stage0.Handover
	reference string
	bytes     []int64 // of each layer
	total     int64
	last      time.Time
}

func (p *toldProgress) show(e fetch.Event) {
	p.progress.show(e)
	switch e := e.(type) {
	case fetch.Started:
		p.reference, p.last = e.Reference, time.Time{}
	case fetch.Resolved:
		p.bytes, p.total = make([]int64, len(e.Layers)), 0
		for _, l := range e.Layers {
			if !l.Present {
				p.total += l.Size
			}
		}
	case fetch.Progress:
		if e.Layer < len(p.bytes) {
			p.bytes[e.Layer] = e.Bytes
		}
	}
	if now := time.Now(); p.reference != "" && now.Sub(p.last) >= toldEvery {
		p.last = now
		p.handover.Tell(p.text(), toldMore)
	}
}

func (p *toldProgress) text() string {
	text := "fetching " + escape.Text(p.reference)
	if p.total > 0 {
		var sum int64
		for _, n := range p.bytes {
			sum += n
		}
		text += fmt.Sprintf(", %d%%", min(100, 100*sum/p.total))
	}
	return text
}
