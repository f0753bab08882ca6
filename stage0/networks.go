package stage0

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rkt/stage0/pod"
	"rkt/stage1/contract"
)

// Networks is the program that attaches pods to networks, and where it finds
// what there is.
type Networks struct {
	Program    string // absolute; "" = not installed
	ConfigDirs []string
	PluginDirs []string
}

// detachLimit bounds how long a detach of a dead pod may take.
const detachLimit = 5 * time.Minute

// networkCommand is the program with what it is to do.
func (e *Env) networkCommand(verb string) []string {
	return []string{
		e.Networks.Program, "--run-dir=" + e.RunDir, "--config=" + strings.Join(e.Networks.ConfigDirs, ":"),
		"--plugins=" + strings.Join(e.Networks.PluginDirs, ":"), verb,
	}
}

// maxNetworkConfig bounds what is read of a configuration of CNI.
const maxNetworkConfig = 1 << 20

// UnknownNetworkError reports a network that is neither built in nor configured.
type UnknownNetworkError struct {
	Name  string
	Known []string
	Dirs  []string
}

func (e *UnknownNetworkError) Error() string {
	return fmt.Sprintf("unknown network %q, known are %s", e.Name, strings.Join(e.Known, ", "))
}

// Hint says where networks are configured.
func (e *UnknownNetworkError) Hint() string {
	return "networks of CNI are configured in " + strings.Join(e.Dirs, " or ")
}

// checkNetworks refuses unknown networks before any work. Whether they work is
// found out when the pod is attached.
func (e *Env) checkNetworks(networks []contract.Network) error {
	known := []string{"default", "default-restricted", "host", "none"}
	read := false
	for _, n := range networks {
		if slices.Contains(known[:2], n.Name) {
			continue
		}
		if !read {
			known, read = append(known, e.configuredNetworks()...), true
		}
		if !slices.Contains(known, n.Name) {
			return &UnknownNetworkError{Name: n.Name, Known: known, Dirs: e.Networks.ConfigDirs}
		}
	}
	return nil
}

// configuredNetworks are the names in the configurations of CNI. What is wrong with
// the others is told by whoever uses them.
func (e *Env) configuredNetworks() (names []string) {
	for _, dir := range e.Networks.ConfigDirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, entry := range entries {
			if !slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(entry.Name())) {
				continue
			}
			path := filepath.Join(dir, entry.Name())
			if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() || st.Size() > maxNetworkConfig {
				continue
			}
			var conf struct {
				Name string `json:"name"`
			}
			if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &conf) == nil && conf.Name != "" && !slices.Contains(names, conf.Name) {
				names = append(names, conf.Name)
			}
		}
	}
	return names
}

// lendNetworks tells the supervisor how the pod gets its networks.
func (e *Env) lendNetworks(host *contract.Host, p *contract.Pod) error {
	if p.Net.Mode != contract.NetJoined {
		return nil
	}
	if e.Networks.Program == "" {
		return errors.New("rkt-net is not installed, which attaches pods to networks")
	}
	host.Network = &contract.HostNetwork{Attach: e.networkCommand("attach"), Detach: e.networkCommand("detach")}
	return nil
}

// detach takes a dead pod from its networks, if its supervisor could not do it.
func (e *Env) detach(ctx context.Context, p *pod.Pod) error {
	if _, err := os.Lstat(filepath.Join(p.Path(), contract.NetworkFile)); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return e.runNetworks(ctx, p.Path(), "detach")
}

// ReloadNetworks brings the rules of the host's firewall for pods in order.
func (e *Env) ReloadNetworks(ctx context.Context) error {
	return e.runNetworks(ctx, "/", "reload")
}

func (e *Env) runNetworks(ctx context.Context, dir, verb string) error {
	if e.Networks.Program == "" {
		return errors.New("rkt-net is not installed")
	}
	ctx, cancel := context.WithTimeout(ctx, detachLimit)
	defer cancel()
	argv := e.networkCommand(verb)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, stage1Environment()
	complaint := &tail{max: maxComplaint}
	cmd.Stderr = complaint
	cmd.WaitDelay = time.Second // what a plugin leaves running has the stream
	if err := cmd.Run(); err != nil {
		if text := bytes.TrimSpace(complaint.b); len(text) > 0 {
			return fmt.Errorf("%s networks%s", verb, complaint)
		}
		return fmt.Errorf("%s networks: %w", verb, err)
	}
	return nil
}
