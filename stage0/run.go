package stage0

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/internal/safepath"
	"rkt/internal/sealed"
	"rkt/internal/undo"
	"rkt/stage0/cgroup"
	"rkt/stage0/pod"
	"rkt/stage1/contract"
)

// podsRunDir in the run directory holds one folder per running pod.
const podsRunDir = "pods"

// RunOptions are what Run is told of its caller.
type RunOptions struct {
	Terminal bool // stdin is a terminal
	// Enter moves this process to where the pod is to live, once the pod cannot
	// be had by anybody else. nil = it is there.
	Enter func(context.Context) error
	// Announce is contract.Host.Announce.
	Announce []string
}

// NoUserNamespacesError reports a host that forbids what isolates pods.
type NoUserNamespacesError struct{}

func (*NoUserNamespacesError) Error() string {
	return "this host allows no user namespaces: the sysctl user.max_user_namespaces is 0"
}

// Hint says what to do about it.
func (*NoUserNamespacesError) Hint() string {
	return "sysctl -w user.max_user_namespaces=10000, or run with --private-users=no, with less isolation"
}

// Run hands a prepared pod to its stage1: it lends the pod what the host has to
// give, writes that down, moves the pod to run, and becomes the stage1. It
// returns only on error, with everything given back; the pod is where it was,
// unless the very last step failed: then it is over. Nothing is synced: after a
// crash of the host nothing of a run is left that would have to be true.
func Run(ctx context.Context, env *Env, p *Prepared, o RunOptions) (err error) {
	command, err := p.stage1.command(contract.EntryRun)
	if err != nil {
		return err
	}

	unit, err := env.handed(p)
	if err != nil {
		return err
	}

	var done undo.Stack
	defer done.OnError(&err)

	host, err := env.lend(ctx, p, o, &done)
	if err != nil {
		return err
	}
	host.Unit = unit
	if host.Program, err = describeProgram(p.stage1, command[0]); err != nil {
		return err
	}
	if err := contract.Write(p.Pod.Path(), contract.HostFile, host); err != nil {
		return fmt.Errorf("write what the host lends: %w", err)
	}
	if err := p.Pod.ToRun(); err != nil {
		return err
	}
	env.did("becomes " + command[0])
	return become(p.Pod, command, unit)
}

// lend takes what the pod needs of this host, in an order in which each step
// can be taken back.
func (e *Env) lend(ctx context.Context, p *Prepared, o RunOptions, done *undo.Stack) (*contract.Host, error) {
	boot, err := pod.BootID()
	if err != nil {
		return nil, err
	}
	host := &contract.Host{Version: contract.Version, BootID: boot, Terminal: o.Terminal, Journal: callersJournal(), Announce: o.Announce}
	uuid := p.UUID().String()

	// A pod that stays after its end is looked at by its name; the claim goes
	// with the directory, or to the next pod that wants the name.
	if claim := p.Pod.Claim(p.sandbox.Name); p.sandbox.Name != "" && p.sandbox.Remove {
		host.Release = append(host.Release, claim)
	}
	if p.sandbox.User == contract.Private {
		if err := checkUserNamespaces(); err != nil {
			return nil, err
		}
		ids, claim, err := e.claimIDs(ctx, uuid)
		if err != nil {
			return nil, err
		}
		done.Add(func(context.Context) error { return os.Remove(claim) })
		host.IDs, host.Release = ids, append(host.Release, claim)
		e.did("took a range of user ids")
	}
	if o.Enter != nil {
		if err := o.Enter(ctx); err != nil {
			return nil, err
		}
		if p.cgroups, err = cgroup.Detect(); err != nil {
			return nil, err
		}
		e.did("entered a unit of its own")
	}
	if host.Cgroup, err = makeCgroups(p, done); err != nil {
		return nil, err
	}
	e.did("made cgroups")
	layers := p.layers()
	if host.Layers, err = e.Layers.Ensure(ctx, layers); err != nil {
		return nil, p.damagedImage(fmt.Errorf("mount layers: %w", err))
	}
	host.Integrity = string(e.Layers.Tier(layers))
	e.did("mounted the layers")
	host.RunDir = filepath.Join(e.RunDir, podsRunDir, uuid)
	for _, dir := range []string{filepath.Dir(host.RunDir), host.RunDir} {
		if err := safepath.PrivateDir(dir); err != nil {
			return nil, fmt.Errorf("make run directory: %w", err)
		}
	}
	done.Add(func(context.Context) error { return os.Remove(host.RunDir) })
	if err := e.lendNetworks(host, &p.sandbox); err != nil {
		return nil, err
	}
	return host, writeEtc(p.Pod.Path(), &p.sandbox)
}

// checkUserNamespaces refuses early what clone would refuse late and tersely.
func checkUserNamespaces() error {
	if n, err := readNumber("/proc/sys/user/max_user_namespaces"); err == nil && n == 0 {
		return &NoUserNamespacesError{}
	}
	return nil
}

// makeCgroups makes the pod's cgroups, with the limits of the apps.
func makeCgroups(p *Prepared, done *undo.Stack) (contract.Cgroup, error) {
	apps := make([]cgroup.App, 0, len(p.apps))
	for _, a := range p.apps {
		apps = append(apps, cgroup.App{Name: a.app.Name, Limits: a.limits})
	}
	cg, err := p.cgroups.Make(p.UUID().String(), apps)
	if err != nil {
		return cg, err
	}
	done.Add(func(context.Context) error { return cgroup.Remove(cg) })
	return cg, nil
}

// layers are the layers of all apps, each once.
func (p *Prepared) layers() []cas.Digest {
	var all []cas.Digest
	seen := make(map[string]bool)
	for _, a := range p.apps {
		for _, hex := range a.app.Layers {
			if seen[hex] {
				continue
			}
			seen[hex] = true
			if d, err := cas.FromHex(hex); err == nil {
				all = append(all, d)
			}
		}
	}
	return all
}

// become replaces this process by an entrypoint of the pod's stage1, in the
// pod's directory and with the pod's lock, and the sockets of its unit. It
// returns only on error.
func become(p *pod.Pod, command []string, unit *contract.Unit) error {
	if err := unix.Fchdir(int(p.Folder().Fd())); err != nil {
		return fmt.Errorf("change to the pod's directory: %w", err)
	}
	// Whatever the caller of rkt left open is none of the pod's.
	if err := unix.CloseRange(contract.LockFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("mark files close-on-exec: %w", err)
	}
	if err := keepSockets(unit); err != nil {
		return err
	}
	if err := p.PassLock(); err != nil {
		return err
	}
	if err := sealed.Exec(command[0], command, stage1Environment()); err != nil {
		return fmt.Errorf("execute stage1: %w", err)
	}
	return nil
}
