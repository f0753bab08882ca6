package plan

import (
	"fmt"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/contract"
)

// LowPortError reports a port that the app could not listen on.
type LowPortError struct {
	Port   string
	Lowest int
}

func (e *LowPortError) Error() string {
	return fmt.Sprintf("the image exposes port %s; on the host's network ports below %d take a right that the pod lacks", e.Port, e.Lowest)
}

// Hint says what to do about it.
func (e *LowPortError) Hint() string {
	port, _, _ := strings.Cut(e.Port, "/")
	first, _, _ := strings.Cut(port, "-")
	return fmt.Sprintf("sysctl -w net.ipv4.ip_unprivileged_port_start=%s, or run with --private-users=no --caps-retain=default,NET_BIND_SERVICE", first)
}

// ports looks at what the image says it listens on. It is never more than a
// reason to say something or to refuse.
func (c *compiler) ports(a *App, p *specs.Process) error {
	exposed := a.Image.Config.ExposedPorts
	if len(exposed) == 0 {
		return nil
	}
	if c.files.Pod.Net.Mode == contract.NetNone {
		var names []string
		for _, port := range exposed {
			names = append(names, port.String())
		}
		if c.spec.Net == "" { // nobody has chosen it
			c.files.Notes = append(c.files.Notes, fmt.Sprintf(
				"the image exposes %s, but the pod has no network; --net=default gives it one", strings.Join(names, ", ")))
		}
		return nil
	}
	if c.files.Pod.Net.Mode == contract.NetJoined || c.mayBindLow(p) {
		return nil
	}
	for _, port := range exposed {
		if int(port.First) < c.facts.LowestPort {
			return &LowPortError{Port: port.String(), Lowest: c.facts.LowestPort}
		}
	}
	return nil
}

// mayBindLow says whether the app has the right in the host's user namespace,
// to which the host's network belongs.
func (c *compiler) mayBindLow(p *specs.Process) bool {
	if c.private() {
		return false
	}
	if p.Capabilities == nil { // a stage1 that takes none away
		return p.User.UID == 0
	}
	return slices.Contains(p.Capabilities.Effective, "CAP_NET_BIND_SERVICE")
}
