package quadlet

// setNetwork takes what a pod's network is. This is the one place that says
// which there are.
func (r *run) setNetwork(e Entry) error {
	if r.has("net") {
		return e.fail("Network=%s: a pod has one network", e.Value)
	}
	if kind, ok := KindOf(e.Value); ok && (kind == kindNetwork || kind == kindContainer) {
		if _, err := r.c.needs(e, e.Value, kindNetwork, kindContainer); err != nil {
			return err
		}
		return e.fail("Network=%s is not supported: %s", e.Value, needsNetworks)
	}
	switch e.Value {
	case "host", "none":
		r.flag("net", e.Value)
		return nil
	}
	return e.fail("Network=%s is not supported: %s", e.Value, needsNetworks)
}

// setUserNS takes whose ids a pod has.
func (r *run) setUserNS(e Entry) error {
	switch e.Value {
	case "auto": // what rkt does
	case "host":
		r.flag("private-users", "no")
	default:
		return e.fail("UserNS=%s is not supported: %s", e.Value, ownRange)
	}
	return nil
}

// network checks a .network file. There are no networks to make yet, so a file
// without mistakes is refused as a whole.
func (c *compiler) network(s *source) error {
	if err := apply(struct{}{}, s.File, "Network", networkRules()); err != nil {
		return err
	}
	return &Error{Path: s.Path, Message: ".network files are not supported: " + needsNetworks}
}

// networkRules are the keys of [Network].
func networkRules() []rule[struct{}] {
	var rules []rule[struct{}]
	for _, key := range []string{"DisableDNS", "DNS", "Driver", "Gateway", "InterfaceName", "Internal", "IPAMDriver", "IPRange", "IPv6",
		"Label", "NetworkDeleteOnStop", "NetworkName", "Options", "ServiceName", "Subnet"} {
		rules = append(rules, rule[struct{}]{key: key, lists: true, do: nothing[struct{}]})
	}
	rules = append(rules, refused[struct{}](noModules, "ContainersConfModule")...)
	return append(rules, refused[struct{}](noArguments, "PodmanArgs", "GlobalArgs")...)
}
