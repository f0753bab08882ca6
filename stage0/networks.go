package stage0

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
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
