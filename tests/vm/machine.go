package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// machine is a guest with what it needs for one run.
type machine struct {
	guest   guest
	threads string // of qemu: "single" or "multi"
	memory  string // file of a saved machine to go on with; "" = boot
	disk    string // root disk
	keep    bool   // what is written to the root disk
	// disks are further ones, read-only, by the name they have in the guest:
	// /dev/disk/by-id/virtio-NAME.
	disks   map[string]string
	scratch string // folder for sockets
	console string // file
	// ports of the guest whose bytes go to writers here.
	ports map[string]io.Writer
}

// run powers the machine on and waits until it is off, but no longer than limit.
// Meanwhile it calls steer, unless it is nil, with the machine's monitor; an
// error of it ends the machine.
func (m machine) run(ctx context.Context, limit time.Duration, steer func(context.Context, *monitor) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the guest was not off after %v", limit))
	defer cancel()
	open, err := openPorts(m.scratch, m.ports)
	if err != nil {
		return err
	}
	socket := filepath.Join(m.scratch, "monitor")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return errors.Join(err, open.close())
	}
	defer l.Close()

	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	var steering sync.WaitGroup
	steering.Go(func() {
		if err := m.steer(ctx, l, steer); err != nil {
			giveUp(err)
		}
	})
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(append(m.arguments(), "-qmp", "unix:"+socket), open.arguments...)...)
	said, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("%w; %s; the end of its console:\n%s", context.Cause(ctx), said, tail(m.console, 30))
	case err != nil:
		err = fmt.Errorf("qemu: %w: %s", err, said)
	}
	giveUp(errOff)
	steering.Wait()
	return errors.Join(err, open.close())
}

var errOff = errors.New("the machine is off")

// steer goes on with a saved machine, plugs the disks in and leaves the rest to
// further.
func (m machine) steer(ctx context.Context, l net.Listener, further func(context.Context, *monitor) error) error {
	mon, err := acceptMonitor(ctx, l)
	if err != nil {
		return err
	}
	if m.memory != "" {
		if err := mon.reportMigration(); err != nil {
			return err
		}
		if err := mon.do("migrate-incoming", map[string]any{"uri": "exec:cat " + m.memory}); err != nil {
			return err
		}
		if err := mon.migrated(); err != nil {
			return err
		}
		if err := mon.do("cont", nil); err != nil { // it was stopped when it was saved
			return err
		}
		for name := range m.disks {
			device := map[string]any{"driver": "virtio-blk-pci", "drive": name, "id": "disk-" + name, "serial": name}
			if err := mon.do("device_add", device); err != nil {
				return err
			}
		}
	}
	if further == nil {
		return nil
	}
	return further(ctx, mon)
}

// arguments are those of qemu, but for the ports and the monitor. A saved
// machine goes on only with the ones it was saved with.
func (m machine) arguments() []string {
	args := []string{
		// qemu 7.2 executes cmpxchg16b wrongly, and kernels panic of it under load.
		"-accel", "tcg,thread=" + m.threads, "-cpu", "max,-cx16", "-smp", "2", "-m", "2048",
		"-nodefaults", "-nic", "none", "-display", "none", "-no-reboot", "-serial", "file:" + m.console,
		"-kernel", filepath.Join(string(m.guest), "kernel"), "-initrd", filepath.Join(string(m.guest), "initrd"),
		"-append", "console=ttyS0 root=LABEL=rkt-root rw panic=1 loglevel=5 module_blacklist=kvm_amd,kvm_intel,psmouse systemd.show_status=0",
		// The kernel draws new randomness when it finds another generation of the machine.
		"-device", "virtio-rng-pci", "-device", "virtio-serial-pci", "-device", "vmgenid,guid=auto",
	}
	root := "if=virtio,format=raw,cache=unsafe,file=" + m.disk
	if !m.keep {
		root += ",snapshot=on" // what the guest writes goes to a temporary file
	}
	args = append(args, "-drive", root)
	for name, path := range m.disks {
		args = append(args, "-drive", "if=none,format=raw,readonly=on,id="+name+",file="+path)
		if m.memory == "" {
			args = append(args, "-device", "virtio-blk-pci,drive="+name+",id=disk-"+name+",serial="+name)
		}
	}
	if m.memory != "" {
		args = append(args, "-incoming", "defer")
	}
	return args
}

// ports are virtio-serial ports of a machine whose bytes go to writers here.
type ports struct {
	arguments []string // of qemu
	listeners []net.Listener
	copies    sync.WaitGroup
}

// portNames are the ports of every machine: a saved one has to find them.
var portNames = []string{"output", "status", "journal"}

// openPorts makes /dev/virtio-ports/NAME of the guest for each of portNames.
func openPorts(dir string, to map[string]io.Writer) (*ports, error) {
	p := &ports{}
	for _, name := range portNames {
		path := filepath.Join(dir, name)
		l, err := net.Listen("unix", path)
		if err != nil {
			return nil, errors.Join(err, p.close())
		}
		p.listeners = append(p.listeners, l)
		p.arguments = append(p.arguments, "-chardev", "socket,id="+name+",path="+path, "-device", "virtserialport,chardev="+name+",name="+name)
		w := to[name]
		if w == nil {
			w = io.Discard
		}
		p.copies.Go(func() {
			c, err := l.Accept()
			if err != nil {
				return // closed before a machine was there
			}
			defer c.Close()
			io.Copy(w, c)
		})
	}
	return p, nil
}

// close waits for what is still on its way; the machine is off.
func (p *ports) close() (err error) {
	for _, l := range p.listeners {
		err = errors.Join(err, l.Close())
	}
	p.copies.Wait()
	return err
}

// lines calls a function for each whole line that is written to it.
type lines struct {
	rest strings.Builder
	each func(line string)
}

func (l *lines) Write(b []byte) (int, error) {
	for _, c := range b {
		if c != '\n' {
			l.rest.WriteByte(c)
			continue
		}
		l.each(l.rest.String())
		l.rest.Reset()
	}
	return len(b), nil
}
