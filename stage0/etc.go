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
	hosts := fmt.Sprintf("127.0.0.1\tlocalhost %s\n::1\tlocalhost %s\n", hostname, hostname)
	resolv := ""
	if p.Net.Mode == contract.NetHost {
		var err error
		if hosts, err = hostsWith(hostname); err != nil {
			return err
		}
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

// hostsWith is the host's /etc/hosts and a line for the pod's own name.
func hostsWith(hostname string) (string, error) {
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
