package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// machine is a guest with what it needs for one run.
type machine struct {
	guest            guest
	programs, images string // disks
	scratch          string // folder for sockets
	out              string // folder for what comes back
}

// run boots the machine and waits until it is off, but no longer than limit. It
// returns what the guest wrote to its port "status", also with an error.
func (m machine) run(ctx context.Context, limit time.Duration) (status string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the guest was not off after %v", limit))
	defer cancel()

	output, err := os.Create(filepath.Join(m.out, "output"))
	if err != nil {
		return "", err
	}
	defer output.Close()
	journal, err := os.Create(filepath.Join(m.out, "journal"))
	if err != nil {
		return "", err
	}
	defer journal.Close()
	var statusLines strings.Builder
	ports := &ports{dir: m.scratch}
	for _, p := range []struct {
		name string
		to   io.Writer
	}{{"output", io.MultiWriter(os.Stdout, output)}, {"status", &statusLines}, {"journal", journal}} {
		if err := ports.open(p.name, p.to); err != nil {
			return "", errors.Join(err, ports.close())
		}
	}

	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", append(m.arguments(), ports.arguments...)...)
	said, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("%w; the end of its console:\n%s", context.Cause(ctx), tail(m.console(), 30))
	} else if err != nil {
		err = fmt.Errorf("qemu: %w: %s", err, said)
	}
	err = errors.Join(err, ports.close())
	return statusLines.String(), err
}

func (m machine) console() string { return filepath.Join(m.out, "console") }

// arguments are those of qemu, but for the ports.
func (m machine) arguments() []string {
	args := []string{
		// qemu 7.2 executes cmpxchg16b wrongly, and kernels panic of it under load.
		"-accel", "tcg,thread=multi", "-cpu", "max,-cx16", "-smp", "2", "-m", "2048",
		"-nodefaults", "-nic", "none", "-display", "none", "-no-reboot", "-serial", "file:" + m.console(),
		"-kernel", filepath.Join(string(m.guest), "kernel"), "-initrd", filepath.Join(string(m.guest), "initrd"),
		"-append", "console=ttyS0 root=LABEL=rkt-root rw panic=1 loglevel=5 module_blacklist=kvm_amd,kvm_intel,psmouse systemd.show_status=0",
		"-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
	}
	// What a guest writes goes to a temporary file and is lost with it.
	for _, d := range []string{filepath.Join(string(m.guest), "disk") + ",snapshot=on", m.programs + ",readonly=on", m.images + ",readonly=on"} {
		args = append(args, "-drive", "if=virtio,format=raw,cache=unsafe,file="+d)
	}
	return args
}

// ports are virtio-serial ports of a machine whose bytes go to writers here.
type ports struct {
	dir       string
	arguments []string // of qemu
	listeners []net.Listener
	copies    sync.WaitGroup
}

// open makes the port /dev/virtio-ports/NAME of the guest.
func (p *ports) open(name string, to io.Writer) error {
	path := filepath.Join(p.dir, name)
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	p.listeners = append(p.listeners, l)
	p.arguments = append(p.arguments, "-chardev", "socket,id="+name+",path="+path, "-device", "virtserialport,chardev="+name+",name="+name)
	p.copies.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return // closed before a machine was there
		}
		defer c.Close()
		io.Copy(to, c)
	})
	return nil
}

// close waits for what is still on its way; the machine is off.
func (p *ports) close() (err error) {
	for _, l := range p.listeners {
		err = errors.Join(err, l.Close())
	}
	p.copies.Wait()
	return err
}

// tail is the last n lines of a file.
func tail(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
