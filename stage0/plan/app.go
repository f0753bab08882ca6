package plan

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/image/trust"
	"rkt/stage1/contract"
)

// Defaults of an app.
const (
	// defaultPids keeps a fork bomb from taking the host's process table.
	defaultPids = 4096
	// defaultOpenFiles is what select(2) can take; programs raise it up to the hard limit.
	defaultOpenFiles = 1024
	// defaultStopGrace is the time between the stop signal and SIGKILL. It is
	// what images are written for.
	defaultStopGrace = 10 * time.Second
	// minMemory catches a number without a unit.
	minMemory = 4096
	// minCPUMillis is the smallest quota of the kernel (1 ms in 100 ms).
	minCPUMillis = 10
)

// app makes the files of one app.
func (c *compiler) app(a *App, name string) (*AppFiles, error) {
	who, err := c.who(a)
	if err != nil {
		return nil, err
	}
	process, candidates, err := c.process(a, who)
	if err != nil {
		return nil, err
	}
	app, err := c.appFile(a, name, candidates)
	if err != nil {
		return nil, err
	}
	process.Terminal = app.Stdin.Kind == contract.StreamPTY
	if app.Notify {
		env := variables{}
		for _, v := range append(process.Env, "NOTIFY_SOCKET="+contract.NotifyPath) {
			env.set(v)
		}
		process.Env = env.list
	}
	mounts, err := c.mounts(a, name)
	if err != nil {
		return nil, err
	}
	limits, err := c.limits(a)
	if err != nil {
		return nil, err
	}
	if err := c.capabilities(a, name, process); err != nil {
		return nil, err
	}
	if err := c.ports(a, process); err != nil {
		return nil, err
	}
	filter, err := c.seccomp(a, name)
	if err != nil {
		return nil, err
	}
	if a.AllowPrivilegeEscalation {
		c.weaken(name, "--allow-privilege-escalation")
	}
	if process.Rlimits, err = setUlimits(c.rlimits(limits), a.Ulimits); err != nil {
		return nil, err
	}
	return &AppFiles{
		App:     *app,
		Limits:  limits,
		Seccomp: filter,
		Spec: specs.Spec{
			Version: specs.Version,
			Root:    &specs.Root{Path: "rootfs", Readonly: a.ReadOnlyRoot},
			Process: process,
			Mounts:  mounts,
			Linux:   c.linux(),
		},
	}, nil
}

// appFile makes app.json.
func (c *compiler) appFile(a *App, name string, candidates []string) (*contract.App, error) {
	sig, err := stopSignal(a)
	if err != nil {
		return nil, err
	}
	grace := defaultStopGrace
	if a.StopTimeout != nil {
		grace = *a.StopTimeout
	}
	if grace < 0 {
		return nil, fmt.Errorf("--stop-timeout %v is negative", grace)
	}
	if err := errors.Join(checkLabels("--label", a.Labels), checkLabels("--annotation", a.Annotations)); err != nil {
		return nil, err
	}
	app := &contract.App{
		Version: contract.Version,
		Name:    name,
		Image: contract.Image{
			Reference: a.Reference, ID: a.Image.ID.String(), Manifest: a.Image.Record.Manifest.String(),
			Labels: a.Image.Config.Labels, Trust: trustOf(a.Image.Record.Verdict),
		},
		Volatile:   c.spec.Remove,
		Candidates: candidates,
		Labels:     a.Labels, Annotations: a.Annotations,
		PID:        contract.PIDOwn,
		Init:       a.Init,
		Restart:    a.Restart,
		StopSignal: sig, StopGraceMillis: grace.Milliseconds(),
		Stdin: a.Stdin, Stdout: a.Stdout, Stderr: a.Stderr,
	}
	for _, d := range a.Layers {
		app.Layers = append(app.Layers, d.Hex())
	}
	if !c.has[contract.FeatureNamespaces] {
		app.PID = contract.PIDHost
	}
	if err := c.handed(a, app); err != nil {
		return nil, err
	}
	if app.Restart.Policy == "" {
		app.Restart.Policy = contract.RestartNo
	}
	return app, c.streams(app)
}

// streams decides where the standard streams lead that nobody spoke of.
func (c *compiler) streams(app *contract.App) error {
	all := []*contract.Stream{&app.Stdin, &app.Stdout, &app.Stderr}
	pty := 0
	for i, s := range all {
		switch {
		case s.Kind == "" && c.spec.LogDir != "":
			*s = c.logFile(app.Name, i)
		case s.Kind == "" && c.spec.Interactive:
			s.Kind = contract.StreamPTY
		case s.Kind == "" && i == 0 && len(c.spec.Apps) > 1:
			s.Kind = contract.StreamNull // several readers of one input would share it out by chance
		case s.Kind == "":
			s.Kind = contract.StreamInherit
		}
		if s.Kind == contract.StreamPTY {
			pty++
		}
		if s.Kind == contract.StreamFile && (!path.IsAbs(s.Path) || strings.ContainsRune(s.Path, 0)) {
			return fmt.Errorf("stream file %q is not an absolute path", s.Path)
		}
	}
	if app.Stdin.Kind == contract.StreamFile {
		return fmt.Errorf("--stdin cannot be a file")
	}
	if pty != 0 && pty != len(all) {
		return fmt.Errorf("a terminal is for stdin, stdout and stderr together")
	}
	return nil
}

// logMax is the size at which the log of an app is rotated. One older file stays.
const logMax = 16 << 20

// logFile is where a stream of an app leads that goes to a file.
func (c *compiler) logFile(app string, fd int) contract.Stream {
	if fd == 0 {
		return contract.Stream{Kind: contract.StreamNull}
	}
	file := path.Join(c.spec.LogDir, contract.AppsDir, app, contract.LogFile)
	return contract.Stream{Kind: contract.StreamFile, Path: file, Format: "cri", Max: logMax}
}

// limits checks the operator's limits and adds the default.
func (c *compiler) limits(a *App) (contract.Limits, error) {
	l := a.Limits
	l.Version = contract.Version
	switch {
	case l.MemoryBytes < 0, l.CPUMillis < 0, l.CPUShares < 0, l.Pids < 0:
		return l, fmt.Errorf("a limit cannot be negative")
	case l.MemoryBytes > 0 && l.MemoryBytes < minMemory:
		return l, fmt.Errorf("--memory is %d bytes, at least %d are needed", l.MemoryBytes, minMemory)
	case l.CPUMillis > 0 && l.CPUMillis < minCPUMillis:
		return l, fmt.Errorf("--cpu is %dm, at least %dm are needed", l.CPUMillis, minCPUMillis)
	case l.CPUShares > 0 && (l.CPUShares < 2 || l.CPUShares > 262144):
		return l, fmt.Errorf("--cpu-shares is %d, allowed are 2 to 262144", l.CPUShares)
	}
	if l.Pids == 0 && c.facts.PidsController && c.has[contract.FeatureCgroups] {
		l.Pids = defaultPids
	}
	return l, nil
}

// rlimits never raises a hard limit: that takes a right which root may lack.
func (c *compiler) rlimits(l contract.Limits) []specs.POSIXRlimit {
	open := c.facts.MaxOpenFiles
	limits := []specs.POSIXRlimit{
		{Type: "RLIMIT_CORE"}, // a core file would hold the app's secrets
		{Type: "RLIMIT_NOFILE", Soft: min(defaultOpenFiles, open), Hard: open},
	}
	if l.Pids == 0 && c.private() {
		// Without the controller the pod's own user namespace still counts.
		limits = append(limits, specs.POSIXRlimit{Type: "RLIMIT_NPROC", Soft: defaultPids, Hard: defaultPids})
	}
	return limits
}

// seccomp is the filter of an app. An unknown profile is never no profile.
func (c *compiler) seccomp(a *App, name string) ([]byte, error) {
	switch a.Seccomp {
	case "", SeccompDefault:
		if !c.has[contract.FeatureSeccomp] {
			return nil, nil
		}
		if len(c.facts.Seccomp) == 0 {
			return nil, fmt.Errorf("internal error: the default seccomp profile is empty")
		}
		return c.facts.Seccomp, nil
	case SeccompUnconfined:
		c.weaken(name, "--seccomp=unconfined")
		return nil, nil
	}
	return nil, fmt.Errorf("unknown seccomp profile %q, known are %s and %s", a.Seccomp, SeccompDefault, SeccompUnconfined)
}

// linux is what the runtime-spec says for Linux only.
func (c *compiler) linux() *specs.Linux {
	if !c.has[contract.FeatureNamespaces] {
		return &specs.Linux{}
	}
	return &specs.Linux{
		Namespaces: []specs.LinuxNamespace{
			{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.CgroupNamespace},
		},
		MaskedPaths:   c.maskedPaths(),
		ReadonlyPaths: readonlyPaths(),
	}
}

// private says whether the pod has a user namespace of its own.
func (c *compiler) private() bool { return c.files.Pod.User == contract.Private }

// trustOf tells about a verdict, if there is one.
func trustOf(v trust.Verdict) *contract.Trust {
	if v.Tier() == trust.TierUnknown {
		return nil
	}
	return &contract.Trust{Tier: v.Tier(), Signer: v.Signer.String(), Rule: v.Rule, Policy: v.PolicyHash}
}
