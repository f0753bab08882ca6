package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// saved is a folder with a machine that has booted: its files disk and memory.
type saved string

// bootLimit bounds a boot on a busy machine.
const bootLimit = 10 * time.Minute

// makeSaved boots the guest g once and keeps what it is when nothing is left to
// do. A run goes on from there.
func makeSaved(ctx context.Context, g guest) (saved, error) {
	version, err := exec.CommandContext(ctx, "qemu-system-x86_64", "--version").Output()
	if err != nil {
		return "", fmt.Errorf("qemu: %w", err)
	}
	// The memory is of this qemu with these arguments.
	m := machine{guest: g, threads: "single", keep: true}
	sum := sha256.Sum256([]byte(string(version) + strings.Join(append(m.arguments(), portNames...), "\n")))
	final := string(g) + "-booted-" + hex.EncodeToString(sum[:6])
	return saved(final), once(final, func(tmp string) error {
		fmt.Fprintf(os.Stderr, "vm: boot %s (once)\n", filepath.Base(string(g)))
		return boot(ctx, g, tmp)
	})
}

// boot saves a machine that has booted in dir. A kernel patches its own code in
// its boot, which qemu 7.2 with a thread for each CPU sometimes executes wrongly.
func boot(ctx context.Context, g guest, dir string) error {
	scratch, err := os.MkdirTemp("/var/tmp", "rkt-vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	m := machine{guest: g, threads: "single", disk: filepath.Join(dir, "disk"), keep: true, console: filepath.Join(dir, "console"), scratch: scratch}
	if err := command(ctx, "cp", "--sparse=always", filepath.Join(string(g), "disk"), m.disk); err != nil {
		return err
	}
	booted := make(chan string, 1)
	m.ports = map[string]io.Writer{"status": &lines{each: func(state string) { booted <- state }}}
	memory := filepath.Join(dir, "memory")
	err = m.run(ctx, bootLimit, func(ctx context.Context, mon *monitor) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case state := <-booted:
			if state != "running" {
				return fmt.Errorf("the guest has booted, and systemd calls it %q", state)
			}
		}
		return mon.save(memory)
	})
	if err == nil && !exists(memory) {
		return fmt.Errorf("the guest went off in its boot; the end of its console:\n%s", tail(m.console, 30))
	}
	return err
}

// save writes the machine's memory to a file and ends the machine.
func (m *monitor) save(path string) error {
	if err := m.reportMigration(); err != nil {
		return err
	}
	if err := m.do("stop", nil); err != nil {
		return err
	}
	if err := m.do("migrate", map[string]any{"uri": "exec:cat >" + path}); err != nil {
		return err
	}
	if err := m.migrated(); err != nil {
		return err
	}
	return m.do("quit", nil)
}
