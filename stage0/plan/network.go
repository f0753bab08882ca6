package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"rkt/stage1/contract"
)

// Publish is a port that the operator publishes on the host: by the name that
// the image has for it, or by its number.
type Publish struct {
	Name     string
	PodPort  int
	Protocol string // "tcp" or "udp"; with a name it is the image's
	HostIP   string // "" = loopback
	HostPort int
}

// MaxPublished bounds the ports of a pod.
const MaxPublished = 1000

// networks decides about the networks, ports and names of the pod.
func (c *compiler) networks() error {
	net := &c.files.Pod.Net
	net.DNS, net.Hosts, net.CopyHosts = c.spec.DNS, c.spec.Hosts, c.spec.CopyHosts
	if net.Mode == contract.NetJoined {
		if err := c.join(); err != nil {
			return err
		}
	}
	if len(c.spec.Publish) == 0 {
		return nil
	}
	if net.Mode != contract.NetJoined {
		return fmt.Errorf("a pod with --net=%s cannot publish ports: --net=default can", net.Mode)
	}
	if len(c.spec.Publish) > MaxPublished {
		return fmt.Errorf("a pod can publish %d ports, not %d", MaxPublished, len(c.spec.Publish))
	}
	for _, p := range c.spec.Publish {
		port, err := c.publish(p)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(net.Ports, func(o contract.Port) bool {
			return o.HostPort == port.HostPort && o.Protocol == port.Protocol && sameAddress(o.HostIP, port.HostIP)
		}); i >= 0 {
			return fmt.Errorf("port %d/%s of the host is published twice", port.HostPort, port.Protocol)
		}
		net.Ports = append(net.Ports, port)
	}
	return nil
}

// join checks the names of the networks.
func (c *compiler) join() error {
	net := &c.files.Pod.Net
	if len(c.spec.Networks) == 0 {
		return fmt.Errorf("--net needs the name of a network")
	}
	for _, n := range c.spec.Networks {
		if !validNetwork(n.Name) {
			return fmt.Errorf("--net: %q is not the name of a network", n.Name)
		}
		if slices.ContainsFunc(net.Networks, func(o contract.Network) bool { return o.Name == n.Name }) {
			return fmt.Errorf("--net: network %q is given twice", n.Name)
		}
		for _, arg := range n.Args {
			if key, value, ok := strings.Cut(arg, "="); !ok || key == "" || value == "" || !plainArgument(arg) {
				return fmt.Errorf("--net: argument %q of network %q is not KEY=VALUE", arg, n.Name)
			}
			if strings.HasPrefix(arg, "allow=") {
				c.weaken("", "--net="+n.Name+":"+arg)
			}
		}
		net.Networks = append(net.Networks, n)
	}
	return nil
}

// validNetwork says whether a name is one that CNI allows.
func validNetwork(name string) bool {
	if name == "" || len(name) > 200 || strings.Trim(name[:1], "_.-") == "" {
		return false
	}
	return strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789_.-") == ""
}

// plainArgument says whether an argument is one word for every plugin.
func plainArgument(s string) bool {
	return len(s) <= 1024 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == ';' })
}

// sameAddress says whether a port can be on only one of two addresses.
func sameAddress(a, b string) bool {
	x, xerr := netip.ParseAddr(a)
	y, yerr := netip.ParseAddr(b)
	switch {
	case xerr != nil && yerr != nil:
		return true
	case xerr != nil:
		return y.IsLoopback() || y.IsUnspecified()
	case yerr != nil:
		return x.IsLoopback() || x.IsUnspecified()
	}
	return x == y || x.Is4() == y.Is4() && (x.IsUnspecified() || y.IsUnspecified())
}

// publish finds out which port is meant.
func (c *compiler) publish(p Publish) (contract.Port, error) {
	port := contract.Port{Name: p.Name, Protocol: p.Protocol, HostPort: p.HostPort, PodPort: p.PodPort}
	if p.HostIP != "" {
		ip, err := netip.ParseAddr(p.HostIP)
		if err != nil || ip.Zone() != "" || ip.Is4In6() {
			return port, fmt.Errorf("publish: %q is not an address", p.HostIP)
		}
		port.HostIP = ip.String()
	}
	if p.Name == "" {
		return port, nil
	}
	found := 0
	var known []string
	for i := range c.spec.Apps {
		for _, e := range c.spec.Apps[i].Image.Config.ExposedPorts {
			if e.First != e.Last || e.Protocol != "tcp" && e.Protocol != "udp" {
				continue
			}
			number := strconv.Itoa(int(e.First))
			name := number + "-" + e.Protocol
			known = append(known, name)
			if p.Name == name || p.Name == number {
				found++
				port.Name, port.PodPort, port.Protocol = name, int(e.First), e.Protocol
			}
		}
	}
	switch {
	case found == 1:
		return port, nil
	case found > 1:
		return port, fmt.Errorf("--port: %q is more than one port of the images: %s", p.Name, strings.Join(known, ", "))
	case len(known) == 0:
		return port, fmt.Errorf("--port: no image says that it has a port %q; --publish=%d:PORT takes its number", p.Name, p.HostPort)
	}
	return port, fmt.Errorf("--port: no image has a port %q, known are %s", p.Name, strings.Join(known, ", "))
}
