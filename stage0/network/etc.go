package network

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"rkt/stage1/contract"
)

// maxEtc bounds what is read of a file of the host.
const maxEtc = 1 << 20

// writeEtc completes the files that the pod has in /etc with what only its
// networks know. They are written in place: apps have them mounted.
func (t *task) writeEtc() error {
	hosts := filepath.Join(t.dir, contract.EtcDir, "hosts")
	b, err := os.ReadFile(hosts)
	if err != nil {
		return fmt.Errorf("read the pod's hosts: %w", err)
	}
	lines := string(b)
	for _, i := range t.out.Interfaces {
		for _, a := range i.Addresses {
			if p, err := netip.ParsePrefix(a); err == nil && t.pod.Hostname != "" {
				lines += p.Addr().String() + "\t" + t.pod.Hostname + "\n"
			}
		}
	}
	if err := os.WriteFile(hosts, []byte(lines), 0o644); err != nil {
		return fmt.Errorf("write the pod's hosts: %w", err)
	}
	if t.pod.Net.DNS != nil {
		return nil // stage0 knew all of it
	}
	resolv, err := t.resolv()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(t.dir, contract.EtcDir, "resolv.conf"), []byte(resolv), 0o644); err != nil {
		return fmt.Errorf("write the pod's resolv.conf: %w", err)
	}
	return nil
}

// resolv is the resolv.conf that the networks give, or that of the host.
func (t *task) resolv() (string, error) {
	var b strings.Builder
	for _, d := range t.dns {
		if len(d.Search) > 0 {
			fmt.Fprintf(&b, "search %s\n", strings.Join(d.Search, " "))
		}
		for _, s := range d.Servers {
			fmt.Fprintf(&b, "nameserver %s\n", s)
		}
		if len(d.Options) > 0 {
			fmt.Fprintf(&b, "options %s\n", strings.Join(d.Options, " "))
		}
		if b.Len() > 0 {
			return b.String(), nil
		}
	}
	if k, ok := builtin(t.pod.Net.Networks[0].Name); ok && k.restricted {
		return "", nil // it could not reach any
	}
	text, servers, err := hostResolv("/etc/resolv.conf")
	if err != nil {
		return "", err
	}
	if servers == 0 {
		// systemd-resolved has those that it asks itself there.
		if other, n, err := hostResolv("/run/systemd/resolve/resolv.conf"); err == nil && n > 0 {
			return other, nil
		}
		t.warn("the host's name servers are its own alone, the pod has none: --dns=ADDRESS gives it one")
	}
	return text, nil
}

// hostResolv is a resolv.conf of the host without the servers that only the host
// reaches, and how many are left. A missing file is empty.
func hostResolv(file string) (text string, servers int, err error) {
	b, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, fmt.Errorf("read name servers of the host: %w", err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(b[:min(len(b), maxEtc)])) {
		f := strings.Fields(line)
		if len(f) > 1 && f[0] == "nameserver" {
			ip, err := netip.ParseAddr(f[1])
			if err != nil || ip.IsLoopback() || ip.Zone() != "" {
				continue
			}
			servers++
		}
		out.WriteString(strings.TrimRight(line, "\n") + "\n")
	}
	return out.String(), servers, nil
}
