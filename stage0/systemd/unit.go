package systemd

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// DefaultSlice is where pods are, beside virtual machines.
const DefaultSlice = "machine.slice"

// Options are what the operator wants of the unit of a pod.
type Options struct {
	Slice       string // "" = DefaultSlice
	Description string
	// Properties are further ones, which win.
	Properties []Property
}

// common are the properties of each unit that a pod gets.
func (o *Options) common() []Property {
	return []Property{
		value("Description", o.Description),
		value("Slice", or(o.Slice, DefaultSlice)),
		value("Delegate", true),
		value("CollectMode", "inactive-or-failed"), // it is gone when it is over
	}
}

// PodUnit is the name of the unit that is made for a pod: kind is "scope" or
// "service".
func PodUnit(uuid, kind string) string { return "rkt-" + uuid + "." + kind }

// StartScope moves this process into a new scope, which ends with it and its
// children, and returns when it is there. The error is an *ExistsError, a
// *JobError or another; then it is where it was, unless systemd does not answer.
func (m *Manager) StartScope(ctx context.Context, name string, o Options) error {
	ctx, cancel := context.WithTimeoutCause(ctx, jobLimit, errSilent)
	defer cancel()
	properties := append(o.common(), value("PIDs", []uint32{uint32(os.Getpid())}))
	return m.start(ctx, name, override(properties, o.Properties))
}

// Service is a service for a pod.
type Service struct {
	Options
	Command []string // the first is the absolute path of the program
	// Identifier is what the journal calls the service; "" = the program's name.
	Identifier string
	// LogFields are further fields of what the service itself writes into the
	// journal: NAME=VALUE.
	LogFields []string
	// StartLimit bounds the time until the service says that it is ready; 0 = none.
	StartLimit time.Duration
}

// FailedError reports a service that did not become ready.
type FailedError struct {
	Unit string
	// Result is systemd's word, such as exit-code, signal, timeout; "" = unknown.
	Result string
	// Status is the exit status of the main process, as a shell would see it; -1 =
	// it has none.
	Status int
}

func (e *FailedError) Error() string {
	why := e.Result
	if e.Status >= 0 {
		why = fmt.Sprintf("%s, status %d", why, e.Status)
	}
	return fmt.Sprintf("%s did not start: %s", e.Unit, or(why, "unknown reason"))
}

// StartService starts a service and returns when it is ready. One that fails
// before is a *FailedError. ctx bounds the wait; the service starts on.
func (m *Manager) StartService(ctx context.Context, name string, s Service) error {
	properties := append(s.common(), s.properties()...)
	if !m.private {
		// Else a failed unit would be gone before it could be asked why.
		properties = append(properties, value("AddRef", true))
	}
	err := m.start(ctx, name, override(properties, s.Properties))
	if _, ok := err.(*JobError); ok {
		return m.whyFailed(ctx, name)
	}
	return err
}

// command is the type of ExecStartEx: a(sasas).
type command struct {
	Path  string
	Args  []string
	Flags []string
}

func (s *Service) properties() []Property {
	limit := uint64(s.StartLimit.Microseconds())
	if limit == 0 {
		limit = infinity
	}
	return []Property{
		value("Type", "notify"),
		value("NotifyAccess", "main"),
		value("KillMode", "mixed"), // the supervisor ends the apps
		value("TimeoutStartUSec", limit),
		// A dollar in an argument is a dollar.
		value("ExecStartEx", []command{{s.Command[0], s.Command, []string{"no-env-expand"}}}),
		value("StandardInput", "null"),
		value("SyslogIdentifier", or(s.Identifier, "rkt")),
		value("LogExtraFields", bytes(s.LogFields)),
	}
}

func bytes(texts []string) [][]byte {
	all := make([][]byte, len(texts))
	for i, t := range texts {
		all[i] = []byte(t)
	}
	return all
}

// override returns the properties with those of more, which win.
func override(properties, more []Property) []Property {
	taken := make(map[string]bool, len(more))
	for _, p := range more {
		taken[p.Name] = true
	}
	var all []Property
	for _, p := range properties {
		if !taken[p.Name] {
			all = append(all, p)
		}
	}
	return append(all, more...)
}

// whyFailed asks for the reason of a failure.
func (m *Manager) whyFailed(ctx context.Context, name string) error {
	failed := &FailedError{Unit: name, Status: -1}
	var path dbus.ObjectPath
	if err := m.call(ctx, managerName, managerPath, managerIface+".GetUnit", name).Store(&path); err != nil {
		return failed // it is gone, and why with it
	}
	var all map[string]dbus.Variant
	const service = managerName + ".Service"
	if err := m.call(ctx, managerName, path, "org.freedesktop.DBus.Properties.GetAll", service).Store(&all); err != nil {
		return failed
	}
	failed.Result, _ = all["Result"].Value().(string)
	code, _ := all["ExecMainCode"].Value().(int32)
	status, _ := all["ExecMainStatus"].Value().(int32)
	switch code {
	case cldExited:
		failed.Status = int(status)
	case cldKilled, cldDumped:
		failed.Status = signalled + int(status)
	}
	return failed
}

// The values of si_code for SIGCHLD (sigaction(2)).
const (
	cldExited = 1
	cldKilled = 2
	cldDumped = 3
)

// signalled plus its number is what a shell makes of a signal.
const signalled = 128

// maxUnitName is the longest name of a unit (UNIT_NAME_MAX).
const maxUnitName = 255

// CheckSlice refuses what is not the name of a slice: parts of letters, digits
// and :_.\@ with single dashes between them (systemd.slice(5)).
func CheckSlice(name string) error {
	stem, ok := strings.CutSuffix(name, ".slice")
	odd := func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && !strings.ContainsRune(`:_.\@-`, r)
	}
	switch {
	case !ok, len(name) > maxUnitName, strings.ContainsFunc(stem, odd):
	case name == "-.slice":
		return nil
	case !slices.Contains(strings.Split(stem, "-"), ""):
		return nil
	}
	return fmt.Errorf("%q is not the name of a slice, such as %s", name, DefaultSlice)
}
