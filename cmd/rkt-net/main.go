// rkt-net attaches pods to networks and detaches them. It is not for users: the
// supervisor of a pod executes it, and rkt, in the directory of the pod.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rkt/internal/escape"
	"rkt/stage0/network"
	"rkt/stage1/contract"
)

// patience bounds everything. Plugins have less.
const patience = 4 * time.Minute

func main() {
	// A signal for the group of processes is the supervisor's to understand: it
	// lets the pod end, and then comes what undoes the rest.
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP)
	runtime.LockOSThread() // plugins end with the thread that has started them
	if err := run(os.Args[1:]); err != nil {
		text := strings.ReplaceAll(err.Error(), "\n", "; ")
		fmt.Fprintf(os.Stderr, "%s\n", escape.Text(text))
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	h := &network.Host{Warn: func(text string) { fmt.Fprintf(os.Stderr, "rkt: warning: %s\n", escape.Text(text)) }}
	var configs, plugins string
	flags := flag.NewFlagSet("rkt-net", flag.ContinueOnError)
	flags.StringVar(&h.RunDir, "run-dir", "/run/rkt", "folder of what does not outlive a boot")
	flags.StringVar(&configs, "config", "", "folders of configurations of CNI, separated by colons")
	flags.StringVar(&plugins, "plugins", "", "folders of plugins of CNI, separated by colons")
	if err := flags.Parse(args); err != nil {
		return err
	}
	h.ConfigDirs, h.PluginDirs = split(configs), split(plugins)
	// No plugin gets these: one that leaves a daemon behind would keep the pod.
	syscall.CloseOnExec(contract.LockFD)
	syscall.CloseOnExec(contract.NetnsFD)
	switch flags.Arg(0) {
	case "attach":
		return h.Attach(ctx, ".", contract.NetnsFD)
	case "detach":
		return h.Detach(ctx, ".", netns())
	case "reload":
		return h.Reload(ctx)
	}
	return errors.New("give attach, detach or reload")
}

// netns is the pod's network namespace, -1 if this process has not got it: only a
// supervisor hands it over.
func netns() int {
	var st unix.Statfs_t
	if err := unix.Fstatfs(contract.NetnsFD, &st); err != nil || st.Type != unix.NSFS_MAGIC {
		return -1
	}
	return contract.NetnsFD
}

func split(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ":")
}
