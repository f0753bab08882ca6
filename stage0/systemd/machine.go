package systemd

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// Names of systemd-machined(8) on the bus.
const (
	machineName  = "org.freedesktop.machine1"
	machinePath  = "/org/freedesktop/machine1"
	machineIface = machineName + ".Manager"
	noMachine    = machineName + ".NoMachineForPID"
)

// MachinedInstalled says whether this host has a systemd-machined that the bus
// could start.
func MachinedInstalled() bool {
	return exists("/usr/share/dbus-1/system-services/" + machineName + ".service")
}

// Machine is what systemd-machined is told of a pod.
type Machine struct {
	Name   string // at most 64 letters, digits, dashes and dots
	ID     [16]byte
	Leader int // the pid of its first process, whose root and network are the machine's
}

// Register lists a pod as a machine. It stays listed until its leader or the unit
// that the leader is in has ended. A machine of the same unit whose leader has
// ended, as is left where a service is started again, is taken off the list.
func Register(ctx context.Context, at Sockets, machine Machine) error {
	connectCtx, cancel := context.WithTimeoutCause(ctx, connectLimit, errSilent)
	defer cancel()
	conn, err := dial(connectCtx, or(at.Bus, usualBus), false)
	if err != nil {
		return err
	}
	m := &Manager{conn: conn}
	defer m.Close()
	if err := m.forgetOthers(ctx, machine); err != nil {
		return err
	}
	err = m.machined(ctx, "RegisterMachine",
		machine.Name, machine.ID[:], "rkt", "container", uint32(machine.Leader), "").Store(new(dbus.ObjectPath))
	if err != nil {
		return fmt.Errorf("register machine %s: %w", machine.Name, err)
	}
	return nil
}

// forgetOthers takes a machine off the list that was in the leader's unit.
func (m *Manager) forgetOthers(ctx context.Context, machine Machine) error {
	var path dbus.ObjectPath
	err := m.machined(ctx, "GetMachineByPID", uint32(machine.Leader)).Store(&path)
	var e dbus.Error
	if errors.As(err, &e) && e.Name == noMachine {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ask for the machine of process %d: %w", machine.Leader, err)
	}
	var all map[string]dbus.Variant
	const getAll = "org.freedesktop.DBus.Properties.GetAll"
	if err := m.call(ctx, machineName, path, getAll, machineName+".Machine").Store(&all); err != nil {
		return fmt.Errorf("ask for machine %s: %w", path, err)
	}
	old, _ := all["Name"].Value().(string)
	leader, _ := all["Leader"].Value().(uint32)
	if old != machine.Name && exists(fmt.Sprintf("/proc/%d", leader)) {
		return fmt.Errorf("the unit of process %d is that of machine %q", machine.Leader, old)
	}
	if err := m.machined(ctx, "UnregisterMachine", old).Store(); err != nil {
		return fmt.Errorf("take machine %q off the list: %w", old, err)
	}
	return nil
}

func (m *Manager) machined(ctx context.Context, method string, args ...any) *dbus.Call {
	return m.call(ctx, machineName, machinePath, machineIface+"."+method, args...)
}
