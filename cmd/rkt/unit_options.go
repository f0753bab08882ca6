package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"rkt/internal/escape"
	"rkt/stage0"
	"rkt/stage0/systemd"
)

// unitOptions are the flags about the unit of systemd that a pod is run in.
type unitOptions struct {
	scope      string
	slice      string
	properties []string
	register   string
}

func (o *unitOptions) flags(fs *pflag.FlagSet) {
	fs.StringVar(&o.scope, "scope", "auto", "run in a scope of its own that systemd makes: yes, no, or auto for from a shell, if systemd answers")
	fs.StringVar(&o.slice, "slice", "", "slice of the unit that systemd makes for the pod (default machine.slice)")
	fs.StringArrayVar(&o.properties, "property", nil, "NAME=VALUE of that unit, such as MemoryMax=1G or CPUQuota=150%; may be given several times")
	fs.StringVar(&o.register, "register", "auto", "list the pod as a machine (machinectl): yes, no, or auto for if systemd-machined is installed")
}

// podUnit is what becomes of unitOptions on this host.
type podUnit struct {
	// manager makes the pod's unit; nil = the pod stays in the cgroup of the caller.
	manager  *systemd.Manager
	options  systemd.Options
	announce []string
	booted   bool
}

// asks says whether the operator wants something that only systemd can do.
func (o *unitOptions) asks() bool {
	return o.scope == "yes" || o.slice != "" || len(o.properties) > 0
}

// check refuses values that have no meaning anywhere.
func (o *unitOptions) check() (systemd.Options, error) {
	unit := systemd.Options{Slice: o.slice}
	for flag, value := range map[string]string{"--scope": o.scope, "--register": o.register} {
		if value != "yes" && value != "no" && value != "auto" {
			return unit, fmt.Errorf("%s: %q is none of yes, no, auto", flag, value)
		}
	}
	if o.slice != "" {
		if err := systemd.CheckSlice(o.slice); err != nil {
			return unit, fmt.Errorf("--slice: %w", err)
		}
	}
	for _, text := range o.properties {
		p, err := systemd.ParseProperty(text)
		if err != nil {
			return unit, fmt.Errorf("--property: %w", err)
		}
		unit.Properties = append(unit.Properties, p)
	}
	return unit, nil
}

// find decides where a pod is run and connects to systemd if it is asked for
// something. detach says that the pod is to be a service. What nobody has asked
// for by name is done without if systemd does not answer, and that is told.
func (o *unitOptions) find(ctx context.Context, env *environment, detach bool) (*podUnit, error) {
	if detach {
		env.catchSignals() // else rkt becomes the pod, and signals are the pod's
	}
	unit := &podUnit{booted: systemd.Booted()}
	var err error
	if unit.options, err = o.check(); err != nil {
		return nil, err
	}
	if err := o.announcement(env, unit); err != nil {
		return nil, err
	}
	wants, err := o.wants(unit.booted, detach)
	if err != nil || !wants {
		return unit, err
	}
	connect := systemd.Connect
	if detach {
		connect = systemd.ConnectBus
	}
	unit.manager, err = connect(ctx, systemd.Sockets{})
	var unreachable *systemd.UnreachableError
	if errors.As(err, &unreachable) && !o.asks() && ctx.Err() == nil {
		fmt.Fprintf(env.stderr, "rkt: the pod gets no unit of its own: %s\n", escape.Text(err.Error()))
		return unit, nil
	}
	return unit, err
}

// wants says whether the pod gets a unit.
func (o *unitOptions) wants(booted, detach bool) (bool, error) {
	if !booted {
		if o.asks() {
			return false, withHint(errors.New("--scope=yes, --slice and --property need systemd, which is not the init of this host"),
				"run without them; --memory, --cpu and --pids limit an app")
		}
		return false, nil
	}
	if o.scope == "no" {
		if o.asks() {
			return false, errors.New("--slice and --property are of the unit that --scope=no does without")
		}
		return false, nil
	}
	if detach || o.scope == "yes" {
		return true, nil
	}
	own, err := systemd.OwnUnit()
	if err != nil {
		return false, err
	}
	if !own.WantsScope() && o.asks() {
		return false, withHint(fmt.Errorf("--slice and --property: the pod would be run in %s, which has its own", own.Name),
			"set them in that unit, or give the pod a unit of its own with --scope=yes")
	}
	return own.WantsScope(), nil
}

// announcement decides whether systemd-machined is told of the pod.
func (o *unitOptions) announcement(env *environment, unit *podUnit) error {
	installed := unit.booted && systemd.MachinedInstalled()
	switch {
	case o.register == "yes" && !installed:
		return withHint(errors.New("--register=yes needs systemd-machined, which this host does not have"), "apt-get install systemd-container")
	case o.register == "no" || !installed:
		return nil
	}
	self, err := ownProgram()
	if err != nil {
		return err
	}
	unit.announce = []string{self, "announce"}
	if o.register == "auto" {
		unit.announce = append(unit.announce, "--quiet")
	}
	return nil
}

// close ends the connection, if there is one.
func (u *podUnit) close() {
	if u.manager != nil {
		u.manager.Close()
	}
}

// runOptions are those of a pod that this process becomes the supervisor of.
func (u *podUnit) runOptions(p *stage0.Prepared, terminal bool) stage0.RunOptions {
	o := stage0.RunOptions{Terminal: terminal}
	if u.announce != nil && p.IsMachine() {
		o.Announce = append(u.announce, p.UUID().String())
	}
	if u.manager != nil {
		o.Enter = func(ctx context.Context) error {
			options := u.options
			options.Description = description(p)
			return u.manager.StartScope(ctx, systemd.PodUnit(p.UUID().String(), "scope"), options)
		}
	}
	return o
}

// description is that of the unit of a pod.
func description(p *stage0.Prepared) string {
	if name := p.Name(); name != "" {
		return "rkt pod " + name
	}
	return "rkt pod " + p.UUID().Short()
}

// discarded removes a pod that is not run after all, together with the error why.
func discarded(p *stage0.Prepared, err error) error {
	return errors.Join(err, p.Discard())
}
