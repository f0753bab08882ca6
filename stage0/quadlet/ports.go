package quadlet

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// anyAddress is where podman publishes a port that has no address.
const anyAddress = "0.0.0.0"

// port is a port of the pod that is published on the host.
type port struct {
	address       string // as rkt takes it: one of IPv6 is in brackets
	onHost, inPod string
	protocol      string
}

// publish adds a port of the pod.
func (r *run) publish(p port) {
	r.ports = append(r.ports, p)
	value := p.address + ":" + p.onHost + ":" + p.inPod
	if p.protocol != "tcp" {
		value += "/" + p.protocol
	}
	r.flag("publish", value)
}

// publishes says whether a port of the pod is published already.
func (r *run) publishes(inPod, protocol string) bool {
	for _, p := range r.ports {
		if p.inPod == inPod && p.protocol == protocol {
			return true
		}
	}
	return false
}

// publishPort takes PublishPort=[IP:]HOSTPORT:PORT[/udp].
func (r *run) publishPort(e Entry) error {
	p, err := parsePublished(e.Value)
	if err != nil {
		return e.fail("%s=%s is not supported: %v", e.Key, e.Value, err)
	}
	r.published = append(r.published, e)
	r.publish(p)
	return nil
}

// parsePublished reads [IP:]HOSTPORT:PORT[/PROTOCOL] as podman writes it.
func parsePublished(text string) (port, error) {
	ports, protocol, ok := strings.Cut(text, "/")
	if !ok {
		protocol = "tcp"
	}
	p := port{address: anyAddress, protocol: strings.ToLower(protocol)}
	if p.protocol != "tcp" && p.protocol != "udp" {
		return p, fmt.Errorf("the protocol %q is neither tcp nor udp", protocol)
	}
	front, inPod, ok := cutLast(ports)
	if !ok {
		return p, errRandom
	}
	address, onHost, ok := cutLast(front)
	if ok && address != "" {
		var err error
		if p.address, err = publicAddress(address); err != nil {
			return p, err
		}
	}
	p.onHost, p.inPod = onHost, inPod
	if p.onHost == "" || p.onHost == "0" {
		return p, errRandom
	}
	for _, number := range []string{p.onHost, p.inPod} {
		if err := checkPort(number); err != nil {
			return p, err
		}
	}
	return p, nil
}

// cutLast cuts a text at its last colon; without one, all of it is behind.
func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// publicAddress reads an address of the host. One of IPv6 is in brackets.
func publicAddress(text string) (string, error) {
	if replaced(text) {
		return text, nil
	}
	inner, bracketed := strings.CutPrefix(text, "[")
	if bracketed {
		inner, bracketed = strings.CutSuffix(inner, "]")
	}
	ip, err := netip.ParseAddr(inner)
	switch {
	case err != nil || ip.Zone() != "" || ip.Is4In6() || bracketed && ip.Is4():
		return "", fmt.Errorf("%q is no address", text)
	case ip.Is6() && !bracketed:
		return "", fmt.Errorf("an address of IPv6 is written in brackets")
	case ip.Is6():
		return "[" + ip.String() + "]", nil
	}
	return ip.String(), nil
}

// checkPort checks the number of a port, unless systemd makes it.
func checkPort(s string) error {
	if strings.Contains(s, "-") {
		return fmt.Errorf("%q is a range; write a line for each port", s)
	}
	if n, err := strconv.ParseUint(s, 10, 16); !replaced(s) && (err != nil || n == 0) {
		return fmt.Errorf("%q is no port", s)
	}
	return nil
}

// replaced says whether systemd replaces a part of s: a specifier or a variable.
func replaced(s string) bool { return hasSpecifier(s) || strings.Contains(s, "${") }
