package quadlet

import (
	"fmt"
	"slices"
	"strings"
)

// setNetwork takes a network of a pod: one of rkt's, or one of CNI by its name.
// This is the one place that says which there are.
func (r *run) setNetwork(e Entry) error {
	name, args, hasArgs := strings.Cut(e.Value, ":")
	if why := foreignNetwork(name); why != "" {
		return e.fail("Network=%s is not supported: %s", e.Value, why)
	}
	if podmans := []string{"bridge", "podman", "private"}; slices.Contains(podmans, name) {
		name = "default"
	}
	lonely := name == "host" || name == "none"
	switch {
	case lonely && hasArgs:
		return e.fail("Network=%s is not supported: %s takes no options", e.Value, name)
	case len(r.nets) > 0 && (lonely || slices.Contains(r.nets, "host") || slices.Contains(r.nets, "none")):
		return e.fail("Network=%s: host and none cannot be combined with another network", e.Value)
	case slices.Contains(r.nets, name):
		return e.fail("Network=%s: the network %s is given twice", e.Value, name)
	case !replaced(name) && !networkName(name):
		return fmt.Errorf("%q is not the name of a network", name)
	}
	r.nets = append(r.nets, name)
	if hasArgs {
		if err := networkArguments(args); err != nil {
			return err
		}
		name += ":" + args
	}
	r.flag("net", name)
	return nil
}

// foreignNetwork says why a network that podman knows by this name is not for
// rkt, "" if it is.
func foreignNetwork(name string) string {
	switch kind, ok := KindOf(name); {
	case ok && kind == kindNetwork:
		return noNetworkFiles
	case ok && kind == kindContainer:
		return "pods do not share networks; apps of one .pod file do"
	}
	switch name {
	case "pasta", "slirp4netns":
		return "it is podman's; Network=default is rkt's"
	case "ns", "container":
		return "each pod has a network namespace of its own; apps of one .pod file share theirs"
	}
	return ""
}

// networkName says whether rkt takes the name of a network.
func networkName(name string) bool {
	return name != "" && strings.Trim(name[:1], "_.-") != "" &&
		strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789_.-") == ""
}

// networkArguments checks KEY=VALUE;... of a network. Those of CNI are written in
// capitals; podman's options are not, and mean nothing to a plugin.
func networkArguments(args string) error {
	for _, arg := range strings.Split(args, ";") {
		key, value, ok := strings.Cut(arg, "=")
		switch {
		case !ok || key == "" || value == "":
			return fmt.Errorf("%q is not KEY=VALUE of a network", arg)
		case key != "allow" && key == strings.ToLower(key):
			return fmt.Errorf("option %s= of a network is podman's; a network of CNI takes arguments such as IP=ADDRESS", key)
		case strings.ContainsAny(value, ", \t"):
			return fmt.Errorf("%q is not the value of an argument of a network", value)
		}
	}
	return nil
}

// finishNetwork settles what several keys about the network decide together. A
// pod that publishes ports has the default network, unless another is named.
func (r *run) finishNetwork() error {
	if len(r.published) > 0 && !r.has("net") {
		r.flag("net", "default")
	}
	for _, name := range []string{"host", "none"} {
		if e := r.published; len(e) > 0 && slices.Contains(r.nets, name) {
			return e[0].fail("%s=%s: a pod with Network=%s publishes no ports", e[0].Key, e[0].Value, name)
		}
	}
	return r.checkResolver()
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

// network checks a .network file. rkt makes no networks of CNI, so a file without
// mistakes is refused as a whole.
func (c *compiler) network(s *source) error {
	if err := apply(struct{}{}, s.File, "Network", networkRules()); err != nil {
		return err
	}
	return &Error{Path: s.Path, Message: ".network files are not supported: " + noNetworkFiles}
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
