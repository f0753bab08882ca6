// Package stage0 decides: it prepares pods, hands them to a stage1, looks after
// them and cleans up behind them. There is no daemon; each function reads the
// truth from the pod directories and leaves it there.
//
// Start with Prepare and Run for the way of a pod into the world, with Status,
// Stop, Remove and GC for the way out.
package stage0

import (
	"github.com/sirupsen/logrus"

	"rkt/image"
	"rkt/image/rootfs"
	"rkt/stage0/pod"
)

// Env is what the functions of this package work on. A field that a function
// does not need may be nil.
type Env struct {
	Pods   *pod.Dir
	Images *image.Store
	Layers *rootfs.Layers
	// RunDir is the folder of what does not outlive a boot, usually /run/rkt.
	RunDir string
	// Stage1Dirs are the folders with one stage1 each, searched in order.
	Stage1Dirs []string
	// Networks is what attaches pods to networks.
	Networks Networks
	Log      logrus.FieldLogger
	// Handover is what a service manager has handed to this process; nil = nothing.
	Handover *Handover
	// Trace is told each step of a start as soon as it is done; nil = nobody.
	Trace func(step string)
}

// did tells that a step is done.
func (e *Env) did(step string) {
	if e.Trace != nil {
		e.Trace(step)
	}
}
