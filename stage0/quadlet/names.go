package quadlet

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// errRandom refuses a port without the number that it has on the host.
var errRandom = errors.New("rkt chooses no port of the host; write HOSTPORT:PORT")

// addDNS takes the address of a name server, or none, or host for the host's.
func (r *run) addDNS(e Entry) error {
	if _, err := netip.ParseAddr(e.Value); err != nil && e.Value != "none" && e.Value != "host" && !replaced(e.Value) {
		return fmt.Errorf("%q is neither an address nor none", e.Value)
	}
	r.flag("dns", e.Value)
	r.resolver = append(r.resolver, e)
	return nil
}

// addToResolver passes on one word for resolv.conf.
func (r *run) addToResolver(name string, e Entry) error {
	if e.Value == "" || strings.ContainsFunc(e.Value, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return fmt.Errorf("%q is not one word", e.Value)
	}
	if name == "dns-search" && e.Value == "." {
		return e.fail("DNSSearch=. is not supported: name the domains")
	}
	r.flag(name, e.Value)
	r.resolver = append(r.resolver, e)
	return nil
}

// checkResolver refuses what cannot be said beside DNS=none.
func (r *run) checkResolver() error {
	for _, e := range r.resolver {
		if e.Key == "DNS" && (e.Value == "none" || e.Value == "host") && len(r.resolver) > 1 {
			return e.fail("DNS=%s excludes every other DNS=, DNSSearch= and DNSOption=", e.Value)
		}
	}
	return nil
}

// addHost takes NAME[;NAME...]:IP for /etc/hosts.
func (r *run) addHost(e Entry) error {
	names, address, ok := strings.Cut(e.Value, ":")
	if address == "host-gateway" {
		return e.fail("AddHost=%s is not supported: a pod reaches no address of the host by itself; name an address", e.Value)
	}
	if inner, bracketed := strings.CutPrefix(address, "["); bracketed {
		address = strings.TrimSuffix(inner, "]")
	}
	ip, err := netip.ParseAddr(address)
	switch {
	case !ok:
		return fmt.Errorf("%q is not NAME:IP", e.Value)
	case err == nil && ip.Zone() == "":
		address = ip.String()
	case !replaced(address):
		return fmt.Errorf("%q is no address", address)
	}
	list := strings.Split(names, ";")
	for _, name := range list {
		if !replaced(name) && (name == "" || len(name) > 253 || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "") {
			return fmt.Errorf("%q is not the name of a host", name)
		}
	}
	r.flag("hosts-entry", address+"="+strings.Join(list, ","))
	return nil
}

// runRules are the keys about networks, ports and names, which .container and
// .pod files have both.
func runRules[T any](of func(T) *run) []rule[T] {
	do := func(f func(*run, Entry) error) func(T, Entry) error {
		return func(to T, e Entry) error { return f(of(to), e) }
	}
	rules := []rule[T]{
		{key: "Network", do: do((*run).setNetwork)},
		{key: "PublishPort", do: do((*run).publishPort)},
		{key: "DNS", do: do((*run).addDNS)},
		{key: "DNSSearch", do: do(func(r *run, e Entry) error { return r.addToResolver("dns-search", e) })},
		{key: "DNSOption", do: do(func(r *run, e Entry) error { return r.addToResolver("dns-opt", e) })},
		{key: "AddHost", do: do((*run).addHost)},
	}
	for i := range rules {
		rules[i].lists, rules[i].shared = true, true
	}
	rules = append(rules, refused[T]("rkt's networks choose the address; Network=NAME:IP=ADDRESS is for a network of CNI", "IP", "IP6")...)
	return append(rules, refused[T]("pods do not find each other by name", "NetworkAlias")...)
}
