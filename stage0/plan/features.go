package plan

import (
	"fmt"

	"rkt/stage1/contract"
)

// UnsupportedError reports an option that the chosen stage1 cannot carry out.
type UnsupportedError struct {
	Stage1  string
	Option  string
	Feature string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("stage1 %q cannot do %s: it lacks the feature %q", e.Stage1, e.Option, e.Feature)
}

// Hint says what to do about it.
func (e *UnsupportedError) Hint() string { return "run without that option or without --stage1-name" }

// checkFeatures refuses what the stage1 does not promise, before any work. A
// default that the stage1 cannot fulfil is not used with it (a flavour without
// namespaces runs on the host's); what the operator asked for is refused.
func (c *compiler) checkFeatures() error {
	s := &c.spec
	needs := []need{
		{len(s.Apps) > 1, contract.FeaturePods, "several apps"},
		{s.User == contract.Private, contract.FeatureUserNS, "--private-users"},
		{s.Net == contract.NetNone, contract.FeatureNamespaces, "--net=none"},
		{s.Net == contract.NetJoined, contract.FeatureNetworks, "--net=NAME"},
		{len(s.Publish) > 0, contract.FeatureNetworks, "--publish and --port"},
		{s.Hostname != "", contract.FeatureNamespaces, "--hostname"},
		{s.Interactive, contract.FeatureTerminal, "--interactive"},
		{len(s.Volumes) > 0, contract.FeatureVolumes, "--volume"},
		{len(s.Sysctls) > 0, contract.FeatureNamespaces, "--sysctl"},
	}
	speaks := s.Notify != "" && s.Notify != string(contract.NotifyNo) && s.Notify != string(contract.NotifyPod)
	needs = append(needs, need{speaks, contract.FeatureUnit, "--sd-notify=app"})
	for i := range s.Apps {
		a := &s.Apps[i]
		limits := a.Limits.MemoryBytes|a.Limits.CPUMillis|a.Limits.CPUShares|a.Limits.Pids != 0
		needs = append(needs,
			need{limits, contract.FeatureCgroups, "resource limits"},
			need{a.CapsRetain != nil || a.CapsRemove != nil, contract.FeatureCaps, "--caps-retain and --caps-remove"},
			need{a.CapsAdd != nil || a.CapsDrop != nil, contract.FeatureCaps, "--cap-add and --cap-drop"},
			need{a.ShmBytes > 0, contract.FeatureNamespaces, "--shm-size"},
			need{a.Seccomp == SeccompDefault, contract.FeatureSeccomp, "--seccomp"},
			need{len(a.Mounts)+len(a.Tmpfs) > 0, contract.FeatureVolumes, "--mount, --tmpfs and -v"},
			need{len(a.Sockets)+len(a.Credentials) > 0, contract.FeatureUnit, "--listen-fds and --credentials"},
			need{a.Init, contract.FeatureNamespaces, "--init"},
			need{a.ReadOnlyRoot, contract.FeatureNamespaces, "--readonly-rootfs"},
			need{a.Stdin.Kind == contract.StreamPTY, contract.FeatureTerminal, "a terminal"},
		)
	}
	for _, n := range needs {
		if n.wanted && !c.has[n.feature] {
			return &UnsupportedError{Stage1: s.Stage1.Name, Option: n.option, Feature: n.feature}
		}
	}
	if !c.has[contract.FeatureNamespaces] {
		c.files.Pod.Weakenings = nil
		c.spec.Weakenings = append([]string{"--stage1-name=" + s.Stage1.Name}, s.Weakenings...)
	}
	return nil
}

// need is an option that was used and the feature that it takes.
type need struct {
	wanted          bool
	feature, option string
}
