package stage0

import (
	"fmt"
	"strings"
	"time"

	"rkt/stage0/pod"
	"rkt/stage0/systemd"
	"rkt/stage1/contract"
)

// Status is what a pod and its apps are doing. Its JSON form is what `rkt list`
// and `rkt status` print: keys are not renamed or removed, and a key without a
// value is absent. Times are RFC 3339 with nanoseconds.
type Status struct {
	UUID  pod.UUID  `json:"uuid"`
	Name  string    `json:"name,omitempty"`
	State pod.State `json:"state"`
	// Created is when the pod was prepared, Started when it was handed to
	// stage1, Ended when its last app ended.
	Created time.Time `json:"created,omitzero"`
	Started time.Time `json:"started,omitzero"`
	Ended   time.Time `json:"ended,omitzero"`
	// PID is the supervisor of a running pod.
	PID int `json:"pid,omitempty"`
	// Unit is the unit of systemd that what is alive of the pod is in.
	Unit string      `json:"unit,omitempty"`
	Apps []AppStatus `json:"apps"`

	Stage1  string `json:"stage1,omitempty"`
	Network string `json:"network,omitempty"`
	// Interfaces are those of a pod that runs, Ports those that it publishes.
	Interfaces []contract.Interface `json:"interfaces,omitempty"`
	Ports      []contract.Port      `json:"ports,omitempty"`
	// Integrity says when the layers are compared with their digests: the tier of
	// integrity that a pod was started with.
	Integrity string `json:"integrity,omitempty"`
	// Ready is true once every app has been started.
	Ready bool `json:"ready,omitempty"`
	// Weakenings are the options that lessen the isolation of the pod.
	Weakenings []string `json:"weakenings,omitempty"`
	// Labels and Annotations are the operator's.
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// Problems are what could not be read of the pod, and why.
	Problems []string `json:"problems,omitempty"`
}

// AppStatus is what an app of a pod is doing.
type AppStatus struct {
	Name  string       `json:"name"`
	State pod.AppState `json:"state"`
	// Image is as the user named it, ImageID the digest of its config.
	Image   string `json:"image,omitempty"`
	ImageID string `json:"imageID,omitempty"`
	// Trust says why the image was let in.
	Trust *contract.Trust `json:"trust,omitempty"`
	// PID is that of the running app on the host.
	PID      int       `json:"pid,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	Ended    time.Time `json:"ended,omitzero"`
	Restarts int       `json:"restarts,omitempty"`
	// Labels and Annotations are the operator's.
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	// ExitCode is there when the app left a record: 0-255, as a shell would see
	// it. Signal is what ended it, OOM that the kernel did for want of memory,
	// Error why it could not be started.
	ExitCode *int   `json:"exitCode,omitempty"`
	Signal   int    `json:"signal,omitempty"`
	OOM      bool   `json:"oom,omitempty"`
	Error    string `json:"error,omitempty"`
}

// StatusOf reads what a pod is doing, without a lock or a write. What cannot be
// read is in Problems and hides nothing else. The error is pod.ErrNotFound when
// the pod was removed meanwhile.
func StatusOf(p *pod.Pod) (*Status, error) {
	state, err := p.State()
	if err != nil {
		return nil, err
	}
	s := &Status{UUID: p.UUID(), State: state, Apps: []AppStatus{}}
	c, err := p.Contract()
	if err != nil {
		c = nil
		s.problem(err)
	}
	s.describe(p, c)
	s.times(p, c)
	for _, name := range appNames(p, c, s) {
		s.Apps = append(s.Apps, s.app(p, name))
	}
	for _, a := range s.Apps {
		if state.Over() && a.Ended.After(s.Ended) {
			s.Ended = a.Ended
		}
	}
	return s, nil
}

// problem records what could not be read. That an unfinished pod lacks files, or
// has a part of one, is not worth telling.
func (s *Status) problem(err error) {
	switch s.State {
	case pod.Embryo, pod.Preparing, pod.Aborted, pod.Garbage, pod.Deleting:
		return
	}
	s.Problems = append(s.Problems, err.Error())
}

func (s *Status) describe(p *pod.Pod, c *contract.Pod) {
	if c == nil {
		return
	}
	// A name that a later pod has taken over finds that one.
	if c.Name != "" && p.HasName(c.Name) {
		s.Name = c.Name
	}
	s.Stage1 = c.Stage1.Name
	s.Network, s.Ports = networkNames(c.Net), c.Net.Ports
	if s.State == pod.Running || s.State == pod.Orphaned {
		if a, err := contract.LoadAttached(p.Path()); err == nil {
			s.Interfaces = a.Interfaces
		}
	}
	s.Weakenings = c.Weakenings
	s.Labels, s.Annotations = c.Labels, c.Annotations
}

func (s *Status) times(p *pod.Pod, c *contract.Pod) {
	t := p.Times(c)
	s.Created, s.Started = t.Created.UTC(), t.Started.UTC()
	if h, err := p.Host(); err == nil && s.begun() {
		s.Integrity = h.Integrity
		if s.State == pod.Running || s.State == pod.Orphaned {
			s.Unit = unitOf(h.Cgroup)
		}
	}
	if s.State != pod.Running {
		return
	}
	if o, ok := p.Owner(); ok {
		s.PID = o.PID
	}
	if s.Unit == "" && s.PID > 0 {
		s.Unit = systemd.UnitOfProcess(s.PID) // the pod has no cgroups of its own in there
	}
	_, err := p.Ready()
	s.Ready = err == nil
}

// networkNames are the networks of a pod, or the mode of a pod without.
func networkNames(n contract.Net) string {
	if n.Mode != contract.NetJoined {
		return string(n.Mode)
	}
	names := make([]string, 0, len(n.Networks))
	for _, network := range n.Networks {
		names = append(names, network.Name)
	}
	return strings.Join(names, ",")
}

// unitOf is the unit of systemd that cgroups are below, "" if there is none.
func unitOf(cg contract.Cgroup) string {
	if cg.V2 != "" {
		return systemd.UnitOf(cg.V2)
	}
	for _, dir := range cg.V1 {
		if unit := systemd.UnitOf(dir); unit != "" {
			return unit
		}
	}
	return ""
}

// appNames returns the apps of a pod: those of its contract, else those that
// have a folder.
func appNames(p *pod.Pod, c *contract.Pod, s *Status) []string {
	if c != nil {
		return c.Apps
	}
	names, err := p.AppNames()
	if err != nil {
		s.problem(err)
	}
	return names
}

// app reads what an app is doing.
func (s *Status) app(p *pod.Pod, name string) AppStatus {
	a := AppStatus{Name: name, State: pod.AppCreated}
	if conf, err := p.App(name); err != nil {
		s.problem(fmt.Errorf("app %q: %w", name, err))
	} else {
		a.Image, a.ImageID, a.Trust = conf.Image.Reference, conf.Image.ID, conf.Image.Trust
		a.Labels, a.Annotations = conf.Labels, conf.Annotations
	}
	if s.Started.IsZero() && !s.begun() {
		return a
	}
	run, err := p.AppRun(name, s.State)
	if err != nil {
		s.problem(fmt.Errorf("app %q: %w", name, err))
		return a
	}
	a.State = run.State
	if run.Started != nil {
		a.Started, a.Restarts = time.Unix(0, run.Started.Nanos).UTC(), run.Started.Restarts
		if a.State == pod.AppRunning || a.State == pod.AppOrphaned {
			a.PID = run.Started.PID
		}
	}
	if e := run.Exit; e != nil {
		a.Ended, a.Restarts = time.Unix(0, e.Nanos).UTC(), e.Restarts
		a.ExitCode, a.Signal, a.OOM, a.Error = &e.Code, e.Signal, e.OOM, e.Error
	}
	return a
}

// begun reports whether the pod has been run.
func (s *Status) begun() bool {
	switch s.State {
	case pod.Running, pod.Orphaned, pod.Exited, pod.ExitedGarbage, pod.Garbage, pod.Deleting:
		return true
	}
	return false
}
