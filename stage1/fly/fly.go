// Package fly is the flavour of stage1 that does not isolate: one app, in a root
// made of its image, in the namespaces of the host but for that of its mounts.
// It is for agents that look after the host and are shipped as images. What it
// lacks is what its manifest does not list; stage0 refuses that beforehand.
package fly

import (
	"errors"

	"rkt/stage1/compile"
	"rkt/stage1/contract"
	"rkt/stage1/program"
	"rkt/stage1/supervise"
)

// Flavour is fly as a supervise.Flavour.
type Flavour struct{}

// Sandbox makes nothing: the app shares the host's.
func (Flavour) Sandbox(*contract.Pod, *contract.Host, []*contract.App) error { return nil }

// Close has nothing to give up.
func (Flavour) Close() {}

// Network is an error: the app is on the host's.
func (Flavour) Network() (int, error) {
	return compile.None, errors.New("fly has no network namespaces")
}

// Started has nothing to do.
func (Flavour) Started() {}

// ExplainSandbox is nil.
func (Flavour) ExplainSandbox(*contract.Pod, *contract.Host, []*contract.App) *program.Program {
	return nil
}

// Confines is false: an app has the capabilities of the operator, unless its
// config.json says otherwise.
func (Flavour) Confines() bool { return false }

// HandOver has nothing to describe.
func (Flavour) HandOver() (supervise.Shared, bool) { return supervise.NothingShared(), true }

// TakeOver has nothing to go on with.
func (Flavour) TakeOver(supervise.Shared) {}

// Start compiles the start of the app.
func (Flavour) Start(t *supervise.Task) (*program.Program, func(), error) {
	join := func() (compile.Namespaces, error) {
		return compile.Namespaces{
			User: compile.None, Net: compile.None, IPC: compile.None, UTS: compile.None, PID: compile.None,
		}, nil
	}
	return supervise.CompileStart(t, compile.None, join, compile.Fly)
}

// Verify reads back the user and what the app's config.json takes from it.
func (Flavour) Verify(t *supervise.Task, pid int) error { return supervise.VerifyHost(t, pid) }
