package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
)

// monitor is the conversation with a running qemu (QMP).
type monitor struct {
	conn  net.Conn
	lines *bufio.Reader
	past  []message // events that nobody has asked for yet
}

// message is one of qemu's: an answer, an error or an event.
type message struct {
	Return json.RawMessage
	Error  *struct{ Desc string }
	Event  string
	Data   json.RawMessage
}

// acceptMonitor waits for a qemu that connects to l. The end of ctx closes the
// monitor.
func acceptMonitor(ctx context.Context, l net.Listener) (*monitor, error) {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	conn, err := l.Accept()
	if err != nil {
		return nil, fmt.Errorf("wait for qemu: %w", err)
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	m := &monitor{conn: conn, lines: bufio.NewReader(conn)}
	if _, err := m.read(); err != nil { // the greeting
		return nil, err
	}
	return m, m.do("qmp_capabilities", nil)
}

func (m *monitor) read() (message, error) {
	line, err := m.lines.ReadBytes('\n')
	if err != nil {
		return message{}, fmt.Errorf("read from qemu: %w", err)
	}
	var msg message
	if err := json.Unmarshal(line, &msg); err != nil {
		return message{}, fmt.Errorf("read from qemu: %q: %w", line, err)
	}
	return msg, nil
}

// do has a command executed and waits until qemu says that it was.
func (m *monitor) do(command string, arguments any) error {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	for {
		msg, err := m.read()
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", command, err)
		case msg.Error != nil:
			return fmt.Errorf("%s: qemu says %q", command, msg.Error.Desc)
		case msg.Return != nil:
			return nil
		case msg.Event != "":
			m.past = append(m.past, msg)
		}
	}
}

// event is the next one.
func (m *monitor) event() (message, error) {
	if len(m.past) > 0 {
		next := m.past[0]
		m.past = m.past[1:]
		return next, nil
	}
	return m.read()
}

// migrated waits until the memory of a machine is on its way no longer: saved
// or restored completely.
func (m *monitor) migrated() error {
	for {
		msg, err := m.event()
		if err != nil {
			return err
		}
		var data struct{ Status string }
		if msg.Event != "MIGRATION" || json.Unmarshal(msg.Data, &data) != nil {
			continue
		}
		switch data.Status {
		case "completed":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("qemu says that the machine's memory %s", data.Status)
		}
	}
}

// reportMigration makes qemu send the events that migrated waits for.
func (m *monitor) reportMigration() error {
	return m.do("migrate-set-capabilities", map[string]any{"capabilities": []any{map[string]any{"capability": "events", "state": true}}})
}
