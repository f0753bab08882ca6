package stage0

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/internal/undo"
	"rkt/stage0/cgroup"
	"rkt/stage0/plan"
	"rkt/stage0/pod"
	"rkt/stage0/seccomp"
	"rkt/stage1/contract"
)

// PrepareOptions are what Prepare needs besides the spec.
type PrepareOptions struct {
	Stage1 string // name of the flavour; "" = DefaultStage1
	// Durable lets the pod be run by anybody, at any time later, and survive a power
	// cut once Prepare has returned. One that is not is for this process alone: if
	// that ends, the pod is over.
	Durable bool
	// Delegated says that the pod will be run in cgroups that are delegated to it.
	Delegated bool
	// LogFiles lets the output of the apps go to files in the pod directory.
	LogFiles bool
	// Created is told the UUID as soon as the pod has one, before anything else
	// is done for it. Its error ends the preparation. nil = nobody.
	Created func(pod.UUID) error
	// Note is told what the operator may want to know. nil = nobody.
	Note func(string)
}

// Prepared is a pod that can be run, locked by this process.
type Prepared struct {
	Pod     *pod.Pod
	stage1  *stage1
	cgroups *cgroup.Host
	sandbox contract.Pod
	apps    []preparedApp
}

// preparedApp is what Run needs to know of an app.
type preparedApp struct {
	app    contract.App
	limits contract.Limits
}

// UUID is the identity of the pod.
func (p *Prepared) UUID() pod.UUID { return p.Pod.UUID() }

// Prepare makes a pod of a spec: a directory with the files of the contract, in
// the place prepared or, if it is not durable, prepare. The fields of the spec that the pod's creation determines
// (UUID, time, stage1, layers, accounts) are filled in here. On error nothing is
// left behind. The caller closes the Pod of the result, which releases the lock.
func Prepare(ctx context.Context, env *Env, spec plan.Spec, o PrepareOptions) (_ *Prepared, err error) {
	s1, err := env.findStage1(o.Stage1)
	if err != nil {
		return nil, err
	}
	if _, err := s1.command(contract.EntryRun); err != nil {
		return nil, err
	}
	if err := checkSources(spec); err != nil {
		return nil, err
	}

	if err := env.checkNetworks(spec.Networks); err != nil {
		return nil, err
	}

	var done undo.Stack
	defer done.OnError(&err)

	p, err := env.Pods.Create(spec.Name)
	if err != nil {
		return nil, err
	}
	done.Add(func(context.Context) error { return discard(p) })
	if o.Created != nil {
		if err := o.Created(p.UUID()); err != nil {
			return nil, err
		}
	}

	env.did("made the pod's directory")
	spec.UUID, spec.CreatedNanos = p.UUID().String(), time.Now().UnixNano()
	spec.Stage1, spec.Features = s1.Stage1, s1.manifest.Features
	if o.LogFiles {
		spec.LogDir = p.PathIn(pod.InRun)
	}

	// From the look at the layers until the pod's files name them, no sweep may
	// take one away.
	release, err := env.Images.CAS().Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	for i := range spec.Apps {
		if err := describe(ctx, env, &spec.Apps[i]); err != nil {
			return nil, err
		}
	}
	env.did("looked at the images' layers and accounts")
	cgroups, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	env.did("looked at the cgroups of the host")
	facts, err := hostFacts(spec, cgroups)
	if err != nil {
		return nil, err
	}
	if o.Delegated {
		facts.PidsController = cgroups.Offers(cgroup.Pids)
	}
	files, err := plan.Compile(spec, facts)
	if err != nil {
		return nil, err
	}
	env.did("decided everything")
	if err := writeFiles(p, files); err != nil {
		return nil, fmt.Errorf("write pod: %w", err)
	}
	if o.Durable {
		if err := p.ToPrepared(true); err != nil {
			return nil, err
		}
	}
	env.did("wrote the pod down")
	if o.Note != nil {
		for _, n := range files.Notes {
			o.Note(n)
		}
	}
	prepared := &Prepared{Pod: p, stage1: s1, cgroups: cgroups, sandbox: files.Pod}
	for _, a := range files.Apps {
		prepared.apps = append(prepared.apps, preparedApp{a.App, a.Limits})
	}
	return prepared, nil
}

// discard removes a pod that came to nothing.
func discard(p *pod.Pod) error {
	return errors.Join(p.Delete(), p.Close())
}

// checkSources refuses volumes whose source is not there, before any work. The
// source is opened again, once, when the pod starts.
func checkSources(spec plan.Spec) error {
	sources := make([]string, 0, len(spec.Volumes))
	for _, v := range spec.Volumes {
		sources = append(sources, v.Source)
	}
	for _, a := range spec.Apps {
		for _, m := range a.Mounts {
			sources = append(sources, m.Source)
		}
	}
	for _, source := range sources {
		if source == "" {
			continue
		}
		if !filepath.IsAbs(source) {
			return fmt.Errorf("volume source %q is not an absolute path", source)
		}
		var st unix.Stat_t
		if err := unix.Stat(source, &st); err != nil {
			return fmt.Errorf("volume source: %w", &os.PathError{Op: "stat", Path: source, Err: err})
		}
		if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFBLK || kind == unix.S_IFCHR {
			return fmt.Errorf("volume source %q is a device, which a pod cannot have", source)
		}
	}
	return nil
}

// describe fills in what the store knows of the image of an app.
func describe(ctx context.Context, env *Env, a *plan.App) error {
	diffIDs := a.Image.Config.DiffIDs
	for _, d := range diffIDs {
		if _, ok := env.Images.Find(d); !ok {
			return fmt.Errorf("layer %s of image %s: %w", d, a.Reference, cas.ErrNotFound)
		}
	}
	visible, err := env.Layers.Visible(ctx, diffIDs)
	if err != nil {
		return damagedIn(a.Reference, fmt.Errorf("look at the layers of image %s: %w", a.Reference, err))
	}
	a.Layers = slices.Clone(visible)
	slices.Reverse(a.Layers)
	if a.Accounts, err = env.Layers.Accounts(ctx, diffIDs); err != nil {
		return damagedIn(a.Reference, fmt.Errorf("read the accounts of image %s: %w", a.Reference, err))
	}
	return nil
}

// hostFacts collects what a plan depends on of this host.
func hostFacts(spec plan.Spec, cgroups *cgroup.Host) (plan.Facts, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return plan.Facts{}, fmt.Errorf("read limit of open files: %w", err)
	}
	facts := plan.Facts{
		MaxOpenFiles:   limit.Max,
		PidsController: cgroups.Has(cgroup.Pids),
		Seccomp:        seccomp.Filter(),
	}
	if spec.Net != contract.NetHost {
		facts.ThermalThrottle = thermalThrottle()
	}
	if spec.Net == contract.NetHost || spec.Net == "" {
		facts.LowestPort = lowestPort()
	}
	return facts, nil
}

// thermalThrottle lists the folders of sysfs that tell how hot each processor
// gets. A machine whose first processor has none has none.
func thermalThrottle() []string {
	const pattern = "/sys/devices/system/cpu/cpu%s/thermal_throttle"
	if unix.Access(fmt.Sprintf(pattern, "0"), unix.F_OK) != nil {
		return nil
	}
	found, _ := filepath.Glob(fmt.Sprintf(pattern, "*")) // the pattern is a good one
	return found
}

// writeFiles writes the files of the contract into the directory of a pod that
// nobody else looks into yet, and makes the folders that the pod needs.
func writeFiles(p *pod.Pod, files *plan.Files) error {
	w := podWriter{dir: p.Path()}
	w.folder(contract.EtcDir, 0o755, 0, 0)
	w.folder(contract.AppsDir, 0o700, 0, 0)
	for i := range files.Apps {
		a := &files.Apps[i]
		dir := filepath.Join(contract.AppsDir, a.App.Name)
		w.folder(dir, 0o700, 0, 0)
		w.folder(filepath.Join(dir, filepath.Dir(contract.UpperDir)), 0o755, 0, 0)
		w.folder(filepath.Join(dir, contract.UpperDir), 0o755, 0, 0)
		w.folder(filepath.Join(dir, contract.WorkDir), 0o755, 0, 0)
		w.json(filepath.Join(dir, contract.AppFile), &a.App)
		w.spec(filepath.Join(dir, contract.SpecFile), &a.Spec)
		w.json(filepath.Join(dir, contract.LimitsFile), &a.Limits)
		if a.Seccomp != nil {
			w.file(filepath.Join(dir, contract.SeccompFile), a.Seccomp)
		}
	}
	if len(files.Volumes) > 0 {
		w.folder(contract.VolumesDir, 0o755, 0, 0)
	}
	for _, v := range files.Volumes {
		w.folder(filepath.Join(contract.VolumesDir, v.Name), v.Mode, int(v.UID), int(v.GID))
	}
	w.json(contract.PodFile, &files.Pod)
	return w.err
}

// OpenPrepared locks a pod that was prepared earlier, to be run now. The error
// may be pod.ErrLocked. The caller closes the Pod of the result.
func OpenPrepared(p *pod.Pod) (_ *Prepared, err error) {
	if p.Place() != pod.InPrepared {
		return nil, fmt.Errorf("pod %s is not prepared", p.UUID())
	}
	if err := p.Lock(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			p.Unlock()
		}
	}()
	if p.Place() != pod.InPrepared { // it was run or removed meanwhile
		return nil, fmt.Errorf("pod %s is not prepared", p.UUID())
	}
	sandbox, err := p.Contract()
	if err != nil {
		return nil, err
	}
	s1, err := openStage1(sandbox.Stage1)
	if err != nil {
		return nil, err
	}
	cgroups, err := cgroup.Detect()
	if err != nil {
		return nil, err
	}
	prepared := &Prepared{Pod: p, stage1: s1, cgroups: cgroups, sandbox: *sandbox}
	for _, name := range sandbox.Apps {
		app, err := p.App(name)
		if err != nil {
			return nil, err
		}
		limits, err := p.Limits(name)
		if err != nil {
			return nil, err
		}
		prepared.apps = append(prepared.apps, preparedApp{*app, *limits})
	}
	return prepared, nil
}

// Discard removes a pod that will not be run after all.
func (p *Prepared) Discard() error { return discard(p.Pod) }

// Interactive says whether an app of the pod wants a terminal.
func (p *Prepared) Interactive() bool {
	return slices.ContainsFunc(p.apps, func(a preparedApp) bool { return a.app.Stdin.Kind == contract.StreamPTY })
}
