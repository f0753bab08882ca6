package supervise

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/compile"
	"rkt/stage1/contract"
	"rkt/stage1/program"
)

// Flavour is what a stage1 does in its own way: everything else, from the lock
// to the exit record, is the same for all.
type Flavour interface {
	// Sandbox begins to make what the apps of the pod share. It is called once,
	// before the first Start. Close gives it up, after the last app.
	Sandbox(pod *contract.Pod, host *contract.Host, apps []*contract.App) error
	Close()
	// Network waits until the network namespace of the pod is there and returns
	// it, which stays the flavour's.
	Network() (fd int, err error)
	// Started says that all apps have been started for the first time.
	Started()
	// HandOver describes what Sandbox has made; ok is false if that is not complete.
	// TakeOver goes on with it in the same process after an exec, instead of
	// Sandbox.
	HandOver() (h Shared, ok bool)
	TakeOver(h Shared)
	// ExplainSandbox is the program behind Sandbox, nil where there is nothing to
	// make.
	ExplainSandbox(pod *contract.Pod, host *contract.Host, apps []*contract.App) *program.Program
	// Start opens what one start of an app needs and compiles its program, which
	// waits where compile.Start's waits. Release closes what was opened, after
	// the program has been started.
	Start(t *Task) (p *program.Program, release func(), err error)
	// Verify reads back the confinement of a process that waits at
	// compile.WaitExec. An error ends it.
	Verify(t *Task, pid int) error
	// Confines says whether a process without capabilities in its config.json has
	// none, rather than the supervisor's.
	Confines() bool
}

// Task is one start of an app.
type Task struct {
	Pod  *contract.Pod
	Host *contract.Host
	Dir  string // the app's folder, relative to the pod directory
	App  *contract.App
	Spec *specs.Spec
	// Stdio are the descriptors for 0, 1 and 2 of the app.
	Stdio [3]int
	// Files and PIDVariables are compile.Common's.
	Files        []int
	PIDVariables []string
	// KeepCapabilities is compile.Common's.
	KeepCapabilities bool
	// Explain is true when the program is only to be printed: Start opens nothing
	// and compiles it with made-up descriptors.
	Explain bool
}

// Common opens what the start of an app needs in every flavour.
func (t *Task) Common() (compile.Common, error) {
	c := compile.Common{Stdio: t.Stdio, Files: t.Files, PIDVariables: t.PIDVariables, Terminal: wantsTerminal(t.App), KeepCapabilities: t.KeepCapabilities}
	var err error
	if c.Rlimits, err = compile.Rlimits(); err != nil {
		return c, err
	}
	c.Seccomp, err = readFile(filepath.Join(t.Dir, contract.SeccompFile))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return c, fmt.Errorf("read seccomp filter: %w", err)
	}
	return c, nil
}

// Native is the flavour that isolates: namespaces, id-mapped layers,
// capabilities and seccomp.
type Native struct{ sandbox *sandbox }

// Sandbox begins to make the namespaces of the pod.
func (n *Native) Sandbox(pod *contract.Pod, host *contract.Host, apps []*contract.App) (err error) {
	n.sandbox, err = beginSandbox(pod, host, sharesPID(apps))
	return err
}

// Started lets the process go in which the namespaces were made.
func (n *Native) Started() { n.sandbox.dismiss() }

// HandOver describes the namespaces.
func (n *Native) HandOver() (Shared, bool) { return n.sandbox.handOver() }

// TakeOver goes on with them.
func (n *Native) TakeOver(h Shared) { n.sandbox = takeOverSandbox(h) }

// sharesPID says whether apps share a pid namespace of the pod.
func sharesPID(apps []*contract.App) bool {
	return slices.ContainsFunc(apps, func(a *contract.App) bool { return a.PID == contract.PIDPod })
}

// Close gives up the namespaces.
func (n *Native) Close() {
	if n.sandbox != nil {
		n.sandbox.close()
	}
}

// Network is the network namespace of the sandbox.
func (n *Native) Network() (int, error) {
	ns, err := n.sandbox.namespaces()
	return ns.Net, err
}

// Confines is true.
func (n *Native) Confines() bool { return true }

// Start opens the layers, the writable layer and the sources of the mounts, all
// with the pod's id map, and compiles the start.
func (n *Native) Start(t *Task) (*program.Program, func(), error) {
	if t.Explain {
		return CompileStart(t, none, pretendNamespaces(t), compile.Start)
	}
	join := func() (compile.Namespaces, error) {
		ns, err := n.sandbox.namespaces()
		if t.App.PID != contract.PIDPod {
			ns.PID = none
		}
		return ns, err
	}
	return CompileStart(t, n.sandbox.user, join, compile.Start)
}

// CompileStart opens what a start takes, with the id map of userns, and hands it
// to one of the compilers of package compile. It asks for the namespaces to join
// last. The result is that of Flavour.Start.
func CompileStart(t *Task, userns int, join Join, compiler Compiler) (*program.Program, func(), error) {
	r := &opened{}
	var err error
	if r.Common, err = t.Common(); err == nil && t.Explain {
		r.pretend(t)
	} else if err == nil {
		err = r.open(t, userns)
	}
	if err == nil {
		r.Namespaces, err = join()
	}
	if err != nil {
		r.close()
		return nil, nil, err
	}
	p, err := compiler(t.App, t.Spec, t.Pod, t.Host, &r.Resources)
	if err != nil {
		r.close()
		return nil, nil, err
	}
	return p, r.close, nil
}

// Join tells the namespaces that an app joins.
type Join func() (compile.Namespaces, error)

// Compiler is compile.Start or one like it.
type Compiler func(*contract.App, *specs.Spec, *contract.Pod, *contract.Host, *compile.Resources) (*program.Program, error)

// opened are the resources of one start and the descriptors to close after it.
type opened struct {
	compile.Resources
	own []int
}

func (r *opened) close() { closeFDs(r.own) }

func (r *opened) open(t *Task, userns int) (err error) {
	if r.Tasks, err = (cgroups{t.Host.Cgroup}).openTasks(t.App.Name); err != nil {
		return err
	}
	for _, tasks := range r.Tasks {
		r.own = append(r.own, tasks.FD)
	}
	var layers []contract.Mounted
	for _, d := range t.App.Layers {
		m, ok := t.Host.Layers[d]
		if !ok {
			return fmt.Errorf("layer %s is not mounted", d)
		}
		layers = append(layers, m)
	}
	if r.Layers, err = openLayers(layers, userns); err != nil {
		return err
	}
	r.own = append(r.own, r.Layers...)
	if t.App.Volatile {
		// What the kernel keeps there says that a volatile overlay was not synced;
		// it refuses to mount such a one again (overlayfs.rst, "Volatile mount").
		// At a restart that is what is asked for.
		if err := os.RemoveAll(filepath.Join(t.Dir, contract.WorkDir, "work")); err != nil {
			return fmt.Errorf("empty the overlay's work folder: %w", err)
		}
	}
	if r.Upper, err = openFolder(filepath.Join(t.Dir, filepath.Dir(contract.UpperDir)), userns); err != nil {
		return err
	}
	r.own = append(r.own, r.Upper)

	r.Binds = map[int]compile.Bind{}
	for i, m := range t.Spec.Mounts {
		if !compile.IsBind(m) {
			continue
		}
		var b compile.Bind
		if t.isCredentials(m) {
			b, err = t.openCredentials()
		} else {
			b, err = openBind(m, userns)
		}
		if err != nil {
			return err
		}
		r.own = append(r.own, b.FD)
		r.Binds[i] = b
	}
	return nil
}
