// Package network attaches pods to networks and detaches them: to the networks
// that rkt makes itself, without plugins, and to those of CNI.
//
// It is the work of the program rkt-net, which the supervisor of a pod executes
// between the making of the pod's network namespace and the start of its first
// app, and again when there is something to undo. No other program links it.
//
// What is on the host for a pod of a built-in network is a lease, a pair of
// interfaces, and elements of sets in one table of nftables. All of it is found
// by the lease: whatever was killed when, Detach leaves nothing.
//
// Start with Attach and Detach.
package network

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rkt/stage1/contract"
)

// Host is where the networks of this host are kept.
type Host struct {
	// RunDir is the folder of what does not outlive a boot. Two of them know
	// nothing of each other: each has its table, its leases and its names.
	RunDir string
	// ConfigDirs are searched for configurations of CNI, the first one first.
	ConfigDirs []string
	// PluginDirs are searched for plugins of CNI.
	PluginDirs []string
	// Warn is told what does not keep a pod from its networks.
	Warn func(string)
}

// task is one pod to be attached or detached.
type task struct {
	*Host
	dir   string // of the pod
	netns int
	pod   *contract.Pod
	out   contract.Attached
	dns   []contract.DNS // of the networks
}

// Attach attaches the pod in dir to its networks, whose network namespace is the
// descriptor netns. On an error what was done is undone.
func (h *Host) Attach(ctx context.Context, dir string, netns int) (err error) {
	pod, err := contract.LoadPod(dir)
	if err != nil {
		return err
	}
	t := &task{Host: h, dir: dir, netns: netns, pod: pod}
	// From here on whoever finds the pod dead knows that there is something to undo.
	t.out = contract.Attached{Version: contract.Version, Detach: true}
	if err := t.save(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Detach(context.WithoutCancel(ctx), dir, netns))
		}
	}()
	stay := false // is there something that does not go by itself
	for i, n := range pod.Net.Networks {
		more, err := t.join(ctx, n, fmt.Sprintf("eth%d", i))
		if err != nil {
			return fmt.Errorf("network %q: %w", n.Name, err)
		}
		stay = stay || more
	}
	if err := t.writeEtc(); err != nil {
		return err
	}
	t.out.Detach = stay
	return t.save()
}

// join attaches the pod to one network. more says that there is something to be
// undone besides the lease.
func (t *task) join(ctx context.Context, n contract.Network, ifname string) (more bool, err error) {
	list, err := t.findList(n.Name)
	if err != nil {
		return true, err
	}
	if list != nil {
		return true, t.joinList(ctx, list, n, ifname)
	}
	if kind, ok := builtin(n.Name); ok {
		return t.joinBuiltin(ctx, kind, n, ifname)
	}
	return false, fmt.Errorf("there is no such network: it is neither built in (default, default-restricted) nor in %q", t.ConfigDirs)
}

// save writes down how far the task has come.
func (t *task) save() error {
	if err := contract.Write(t.dir, contract.NetworkFile, t.out); err != nil {
		return fmt.Errorf("write networks: %w", err)
	}
	return nil
}

// Detach undoes all that Attach did for the pod in dir, as far as it came. It may
// be repeated. The network namespace need not be there any more: netns is -1.
func (h *Host) Detach(ctx context.Context, dir string, netns int) error {
	pod, err := contract.LoadPod(dir)
	if err != nil {
		return err
	}
	t := &task{Host: h, dir: dir, netns: netns, pod: pod}
	if err := errors.Join(t.leaveLists(ctx), h.leaveBuiltin(ctx, pod)); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, contract.NetworkFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget networks: %w", err)
	}
	return nil
}

// warn tells the operator.
func (h *Host) warn(format string, args ...any) {
	if h.Warn != nil {
		h.Warn(fmt.Sprintf(format, args...))
	}
}
