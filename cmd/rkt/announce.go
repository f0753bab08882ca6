package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"rkt/stage0/pod"
	"rkt/stage0/systemd"
)

// newAnnounceCommand makes the command that a stage1 executes when it has
// started the first app of a pod (contract.Host.Announce).
func newAnnounceCommand(env *environment) *cobra.Command {
	quiet := false
	c := &cobra.Command{
		Use:    "announce UUID PID",
		Short:  "Tell systemd-machined of a pod",
		Hidden: true,
		Args:   exactArgs(2, "the UUID of a pod and the pid of its first app"),
		RunE: func(c *cobra.Command, args []string) error {
			err := announce(c, args[0], args[1])
			if err != nil && quiet {
				env.log.WithField("pod", args[0]).WithError(err).Debug("register machine, ignoring")
				return nil
			}
			return err
		},
	}
	c.Flags().BoolVar(&quiet, "quiet", false, "an error is not worth telling")
	return c
}

func announce(c *cobra.Command, uuid, pid string) error {
	id, err := pod.ParseUUID(uuid)
	if err != nil {
		return err
	}
	leader, err := strconv.Atoi(pid)
	if err != nil || leader <= 0 {
		return fmt.Errorf("%q is not a pid", pid)
	}
	return systemd.Register(c.Context(), systemd.Sockets{}, systemd.Machine{Name: "rkt-" + id.String(), ID: id, Leader: leader})
}
