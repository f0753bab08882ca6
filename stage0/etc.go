package stage0

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"rkt/stage1/contract"
)

// firstUnreserved is the lowest free port of a kernel without the setting.
const firstUnreserved = 1024

// maxEtc bounds what is taken over of a file of the host.
const maxEtc = 1 << 20

// writeEtc makes the files that the pod has in /etc. It is done for each run
// because on the host's network they are as the host's are now.
func writeEtc(dir string, p *contract.Pod) error {
	hostname := p.Hostname
	if p.UTS == contract.Shared {
		var err error
		if hostname, err = os.Hostname(); err != nil {
			return fmt.Errorf("read hostname: %w", err)
		}
	}
	hosts := ownHosts(p, hostname)
	resolv := ""
	if p.Net.Mode == contract.NetHost || p.Net.CopyHosts {
		var err error
		if hosts, err = hostsWith(hostname, p.Net.Mode); err != nil {
			return err
		}
	}
	hosts = entries(p.Net.Hosts) + hosts
	if d := p.Net.DNS; d != nil && !d.Host {
		resolv = resolvConf(d)
	} else if p.Net.Mode == contract.NetHost || d != nil {
		var err error
		if resolv, err = readEtc("/etc/resolv.conf"); err != nil {
			return err
		}
	}
	w := podWriter{dir: dir}
	w.public(contract.EtcDir+"/hosts", []byte(hosts), 0o644)
	w.public(contract.EtcDir+"/hostname", []byte(hostname+"\n"), 0o644)
	w.public(contract.EtcDir+"/resolv.conf", []byte(resolv), 0o644)
	if w.err != nil {
		return fmt.Errorf("make files for /etc: %w", w.err)
	}
	return nil
}

// ownHosts is the file of a pod that has a network of its own, or none. On
// networks its name stands for its addresses, which are not known yet.
func ownHosts(p *contract.Pod, hostname string) string {
	names := "localhost"
	if p.Net.Mode != contract.NetJoined {
		names += " " + hostname
	}
	own := names
	if len(p.Apps) > 1 { // they find each other
		own += " " + strings.Join(p.Apps, " ")
	}
	return fmt.Sprintf("127.0.0.1\t%s\n::1\t%s\n", own, names)
}

// entries are the lines that the operator wants, before all others.
func entries(list []contract.HostEntry) string {
	var b strings.Builder
	for _, e := range list {
		fmt.Fprintf(&b, "%s\t%s\n", e.IP, strings.Join(e.Names, " "))
	}
	return b.String()
}

// resolvConf is the resolv.conf that the operator wants.
func resolvConf(d *contract.DNS) string {
	var b strings.Builder
	if len(d.Search) > 0 {
		fmt.Fprintf(&b, "search %s\n", strings.Join(d.Search, " "))
	}
	for _, s := range d.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(d.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(d.Options, " "))
	}
	return b.String()
}

// hostsWith is the host's /etc/hosts and a line for the pod's own name, unless
// its networks will give it one.
func hostsWith(hostname string, mode contract.NetMode) (string, error) {
	hosts, err := readEtc("/etc/hosts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(hosts) {
		line, _, _ = strings.Cut(line, "#")
		for i, f := range strings.Fields(line) {
			if i > 0 && f == hostname {
				return hosts, nil
			}
		}
	}
	if hosts != "" && !strings.HasSuffix(hosts, "\n") {
		hosts += "\n"
	}
	if mode == contract.NetJoined {
		return hosts, nil
	}
	return hosts + "127.0.1.1\t" + hostname + "\n", nil
}

// readEtc reads a file of the host; a missing one is empty.
func readEtc(file string) (string, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxEtc))
	if err != nil {
		return "", err
	}
	return string(b), nil
}

// lowestPort is the lowest port that takes no right to listen on.
func lowestPort() int {
	n, err := readNumber("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return firstUnreserved
	}
	return n
}

// readNumber reads a file that holds one number.
func readNumber(file string) (int, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}
