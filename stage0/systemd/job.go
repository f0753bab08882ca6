package systemd

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// ExistsError reports a unit that exists already.
type ExistsError struct{ Unit string }

func (e *ExistsError) Error() string { return fmt.Sprintf("unit %s exists already", e.Unit) }

// Hint says what to do about it.
func (e *ExistsError) Hint() string { return "systemctl status " + e.Unit }

// JobError reports a unit that could not be started.
type JobError struct {
	Unit   string
	Result string // systemd's word: failed, timeout, canceled, dependency
}

func (e *JobError) Error() string {
	return fmt.Sprintf("start unit %s: the job ended with %q", e.Unit, e.Result)
}

// auxiliary is the type of the further units of StartTransientUnit, of which
// there are none: a(sa(sv)).
type auxiliary struct {
	Name       string
	Properties []Property
}

// unitExists is the name of an error of systemd.
const unitExists = managerName + ".UnitExists"

// signalsKept is how many signals wait for their reader, in order. More are
// kept as well.
const signalsKept = 64

// start makes a unit and waits for the end of the job that starts it. ctx bounds
// the wait: when it ends, systemd goes on with the job.
func (m *Manager) start(ctx context.Context, unit string, properties []Property) error {
	if err := m.listen(ctx); err != nil {
		return err
	}
	var job dbus.ObjectPath
	err := m.call(ctx, managerName, managerPath, managerIface+".StartTransientUnit", unit, "fail", properties, []auxiliary{}).Store(&job)
	if err != nil {
		return startError(unit, err)
	}
	result, err := m.await(ctx, job)
	if err != nil {
		return fmt.Errorf("start unit %s: %w", unit, err)
	}
	if result != "done" {
		return &JobError{Unit: unit, Result: result}
	}
	return nil
}

func startError(unit string, err error) error {
	var e dbus.Error
	if errors.As(err, &e) && e.Name == unitExists {
		return &ExistsError{unit}
	}
	return fmt.Errorf("start unit %s: %w", unit, err)
}

// listen makes the ends of jobs known to this connection. Systemd's own socket
// carries them in any case.
func (m *Manager) listen(ctx context.Context) error {
	if m.signals != nil {
		return nil
	}
	signals := make(chan *dbus.Signal, signalsKept)
	m.conn.Signal(signals)
	if !m.private {
		ctx, cancel := context.WithTimeoutCause(ctx, callLimit, errSilent)
		defer cancel()
		err := m.conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(managerIface), dbus.WithMatchMember("JobRemoved"))
		if err == nil {
			err = m.call(ctx, managerName, managerPath, managerIface+".Subscribe").Store()
		}
		if err != nil {
			return fmt.Errorf("listen to systemd: %w", cause(ctx, err))
		}
	}
	m.signals = signals
	return nil
}

// await waits until a job is over and returns its result.
func (m *Manager) await(ctx context.Context, job dbus.ObjectPath) (result string, err error) {
	for {
		select {
		case s, ok := <-m.signals:
			if !ok {
				return "", errors.New("systemd has closed the connection")
			}
			var id uint32
			var path dbus.ObjectPath
			var unit string
			if s.Name != managerIface+".JobRemoved" || dbus.Store(s.Body, &id, &path, &unit, &result) != nil || path != job {
				continue
			}
			return result, nil
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}
