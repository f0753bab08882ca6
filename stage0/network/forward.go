package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"rkt/internal/atomicfile"
	"rkt/internal/safepath"
)

// forwardFile says that rkt has made this host forward packets. Those of others
// it drops, which would have been dropped before.
const forwardFile = "forward"

// hasV6 says whether the host has IPv6.
func hasV6() bool {
	b, err := os.ReadFile("/proc/sys/net/ipv6/conf/all/disable_ipv6")
	return err == nil && strings.TrimSpace(string(b)) == "0"
}

// forward lets the host forward packets.
func forward(runDir string) error {
	settings := []string{"/proc/sys/net/ipv4/ip_forward"}
	if hasV6() {
		settings = append(settings, "/proc/sys/net/ipv6/conf/all/forwarding")
	}
	for _, path := range settings {
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("look whether the host forwards packets: %w", err)
		}
		if strings.TrimSpace(string(b)) != "0" {
			continue
		}
		// First written down: killed in between, it drops what nobody forwards.
		if err := noteForward(runDir); err != nil {
			return err
		}
		if strings.Contains(path, "ipv6") {
			keepRouters()
		}
		if err := os.WriteFile(path, []byte("1"), 0); err != nil {
			return fmt.Errorf("let the host forward packets: %w", err)
		}
	}
	return nil
}

func noteForward(runDir string) error {
	dir := filepath.Join(runDir, netDir)
	for _, d := range []string{runDir, dir} {
		if err := safepath.PrivateDir(d); err != nil {
			return fmt.Errorf("make folder of networks: %w", err)
		}
	}
	return atomicfile.Write(dir, forwardFile, nil, 0o600, false)
}

// madeForward says whether rkt has made this host forward packets.
func madeForward(dir string) (bool, error) {
	_, err := os.Lstat(filepath.Join(dir, forwardFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// keepRouters lets interfaces that listen to routers go on: by themselves they
// stop it on a host that forwards.
func keepRouters() {
	files, _ := filepath.Glob("/proc/sys/net/ipv6/conf/*/accept_ra") // the pattern is a good one
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(b)) == "1" {
			_ = os.WriteFile(file, []byte("2"), 0)
		}
	}
}
