package supervise

import (
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// announce executes the command that the host wants to be executed when the
// first app of the pod has been started. It is a child like others: the loop
// takes its exit status, and ignores it.
func (s *supervisor) announce(a *app) {
	if len(s.host.Announce) == 0 {
		return
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err == nil {
		defer null.Close()
		argv := append(s.host.Announce[:len(s.host.Announce):len(s.host.Announce)], strconv.Itoa(a.pid))
		_, err = syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{
			Env: os.Environ(), Files: []uintptr{null.Fd(), null.Fd(), 2},
		})
	}
	if err != nil {
		s.warn(a, fmt.Errorf("announce: %w", err))
	}
}
