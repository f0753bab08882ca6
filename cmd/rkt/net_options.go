package main

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"rkt/stage0/plan"
	"rkt/stage1/contract"
)

// netOptions are the flags of a pod about networks.
type netOptions struct {
	nets, ports, publish    []string
	dns, dnsSearch, dnsOpts []string
	hostsEntries            []string
}

func (o *netOptions) flags(fs *pflag.FlagSet) {
	fs.StringArrayVar(&o.nets, "net", nil, "networks: default, default-restricted, NAME[:KEY=VALUE;...] of CNI, several separated by commas; none; or host for the host's (default none)")
	fs.StringArrayVar(&o.ports, "port", nil, "NAME:[IP:]HOSTPORT publishes a port that an image has, such as 80-tcp, on loopback or on IP")
	fs.StringArrayVarP(&o.publish, "publish", "p", nil, "[IP:]HOSTPORT:PORT[/udp] publishes a port by its number, on loopback or on IP")
	fs.StringArrayVar(&o.dns, "dns", nil, "address of a name server, host for the host's, or none")
	fs.StringArrayVar(&o.dnsSearch, "dns-search", nil, "domain in which short names are looked up")
	fs.StringArrayVar(&o.dnsOpts, "dns-opt", nil, "option of resolv.conf(5)")
	fs.StringArrayVar(&o.hostsEntries, "hosts-entry", nil, "IP=NAME[,NAME...] for /etc/hosts, or host for the host's file")
}

// apply makes what the plan wants of what the flags say.
func (o *netOptions) apply(s *plan.Spec) (err error) {
	if err := o.networks(s); err != nil {
		return fmt.Errorf("--net: %w", err)
	}
	for _, text := range o.ports {
		p, err := parsePort(text)
		if err != nil {
			return fmt.Errorf("--port: %w", err)
		}
		s.Publish = append(s.Publish, p)
	}
	for _, text := range o.publish {
		p, err := parsePublish(text)
		if err != nil {
			return fmt.Errorf("--publish: %w", err)
		}
		s.Publish = append(s.Publish, p)
	}
	if s.DNS, err = o.resolver(); err != nil {
		return err
	}
	for _, text := range o.hostsEntries {
		if text == "host" {
			s.CopyHosts = true
			continue
		}
		e, err := parseHostsEntry(text)
		if err != nil {
			return fmt.Errorf("--hosts-entry: %w", err)
		}
		s.Hosts = append(s.Hosts, e)
	}
	if s.CopyHosts && len(s.Hosts) > 0 {
		return fmt.Errorf("--hosts-entry: host and entries exclude each other")
	}
	return nil
}

// networks parses NAME[:KEY=VALUE;...][,NAME...].
func (o *netOptions) networks(s *plan.Spec) error {
	var words []string
	for _, text := range o.nets {
		words = append(words, strings.Split(text, ",")...)
	}
	for _, word := range words {
		name, args, hasArgs := strings.Cut(word, ":")
		switch mode := contract.NetMode(name); mode {
		case contract.NetNone, contract.NetHost:
			if len(words) > 1 || hasArgs {
				return fmt.Errorf("%s cannot be combined with anything", name)
			}
			s.Net = mode
			return nil
		}
		n := contract.Network{Name: name}
		if hasArgs {
			n.Args = strings.Split(args, ";")
		}
		s.Net, s.Networks = contract.NetJoined, append(s.Networks, n)
	}
	return nil
}

// parsePort parses NAME:[IP:]HOSTPORT.
func parsePort(text string) (plan.Publish, error) {
	name, rest, ok := strings.Cut(text, ":")
	p := plan.Publish{Name: name}
	if !ok || name == "" {
		return p, fmt.Errorf("%q is not NAME:[IP:]HOSTPORT", text)
	}
	err := parseHostPart(&p, rest)
	if err != nil {
		return p, fmt.Errorf("%q is not NAME:[IP:]HOSTPORT: %w", text, err)
	}
	return p, nil
}

// parsePublish parses [IP:]HOSTPORT:PORT[/PROTOCOL].
func parsePublish(text string) (plan.Publish, error) {
	p := plan.Publish{Protocol: "tcp"}
	ports, protocol, hasProtocol := strings.Cut(text, "/")
	if hasProtocol {
		if p.Protocol = protocol; protocol != "tcp" && protocol != "udp" {
			return p, fmt.Errorf("%q: unknown protocol %q, known are tcp and udp", text, protocol)
		}
	}
	i := strings.LastIndexByte(ports, ':')
	if i < 0 {
		return p, fmt.Errorf("%q is not [IP:]HOSTPORT:PORT[/udp]", text)
	}
	var err error
	if p.PodPort, err = parsePortNumber(ports[i+1:]); err == nil {
		err = parseHostPart(&p, ports[:i])
	}
	if err != nil {
		return p, fmt.Errorf("%q is not [IP:]HOSTPORT:PORT[/udp]: %w", text, err)
	}
	return p, nil
}

// parseHostPart parses [IP:]HOSTPORT. An address of IPv6 is in brackets.
func parseHostPart(p *plan.Publish, text string) (err error) {
	i := strings.LastIndexByte(text, ':')
	if i >= 0 {
		host := text[:i]
		if inner, ok := strings.CutPrefix(host, "["); ok {
			host = strings.TrimSuffix(inner, "]")
		} else if strings.Contains(host, ":") {
			return fmt.Errorf("an address of IPv6 is written in brackets")
		}
		ip, err := netip.ParseAddr(host)
		if err != nil || ip.Zone() != "" || ip.Is4In6() {
			return fmt.Errorf("%q is no address", host)
		}
		p.HostIP = ip.String()
	}
	p.HostPort, err = parsePortNumber(text[i+1:])
	return err
}

func parsePortNumber(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is no port", text)
	}
	return int(n), nil
}

// resolver makes of --dns, --dns-search and --dns-opt what resolv.conf says.
func (o *netOptions) resolver() (*contract.DNS, error) {
	d := &contract.DNS{Search: o.dnsSearch, Options: o.dnsOpts}
	for _, s := range o.dns {
		switch s {
		case "none":
			d.None = true
		case "host":
			d.Host = true
		default:
			ip, err := netip.ParseAddr(s)
			if err != nil {
				return nil, fmt.Errorf("--dns: %q is neither an address nor host nor none", s)
			}
			d.Servers = append(d.Servers, ip.String())
		}
	}
	for _, s := range append(append([]string{}, o.dnsSearch...), o.dnsOpts...) {
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return nil, fmt.Errorf("--dns-search, --dns-opt: %q is not one word", s)
		}
	}
	if (d.None || d.Host) && (d.None && d.Host || len(d.Servers)+len(d.Search)+len(d.Options) > 0) {
		return nil, fmt.Errorf("--dns: none and host exclude each other and everything else")
	}
	if !d.None && !d.Host && len(d.Servers)+len(d.Search)+len(d.Options) == 0 {
		return nil, nil
	}
	return d, nil
}

// parseHostsEntry parses IP=NAME[,NAME...].
func parseHostsEntry(text string) (contract.HostEntry, error) {
	address, names, ok := strings.Cut(text, "=")
	ip, err := netip.ParseAddr(address)
	e := contract.HostEntry{Names: strings.Split(names, ",")}
	if !ok || err != nil {
		return e, fmt.Errorf("%q is not IP=NAME[,NAME...]", text)
	}
	e.IP = ip.String()
	for _, name := range e.Names {
		if name == "" || len(name) > 253 || strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" {
			return e, fmt.Errorf("%q is not the name of a host", name)
		}
	}
	return e, nil
}
