package network

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/internal/atomicfile"
	"rkt/stage1/contract"
)

// The built-in networks. Their names are the operator's.
const (
	Default    = "default"            // reaches what the host reaches
	Restricted = "default-restricted" // has no route out
)

// kind is one of the built-in networks.
type kind struct {
	restricted bool
	letter     byte // in the names of interfaces
}

func builtin(name string) (kind, bool) {
	switch name {
	case Default:
		return kind{false, 'd'}, true
	case Restricted:
		return kind{true, 'r'}, true
	}
	return kind{}, false
}

// What a pod of a built-in network may be allowed to reach with allow=.
const (
	allowHost     = "host"     // the host's own addresses
	allowPods     = "pods"     // other pods
	allowMetadata = "metadata" // what clouds tell a machine about itself, and all link-local addresses
)

// v6Range is where the IPv6 addresses of pods are: unique local ones.
func v6Range() netip.Prefix { return netip.MustParsePrefix("fd72:6b74:1c18::/64") }

// joinBuiltin attaches the pod to a built-in network.
func (t *task) joinBuiltin(ctx context.Context, k kind, n contract.Network, ifname string) (more bool, err error) {
	l, err := t.wanted(k, n)
	if err != nil {
		return false, err
	}
	host, pod, err := t.handles()
	if err != nil {
		return false, err
	}
	defer host.Close()
	defer pod.Close()
	if err := forward(t.RunDir); err != nil {
		return false, err
	}
	skip := make(map[netip.Addr]bool)
	for {
		in, got, err := t.lease(ctx, host, k, l, skip)
		if err != nil {
			return true, err
		}
		w := wire{host: host, pod: pod, netns: t.netns, lease: got, ifname: ifname, in: in, restricted: k.restricted}
		err = w.connect()
		if errors.Is(err, errTaken) { // by somebody who does not ask us
			skip[got.IP4] = true
			if err := t.giveBack(ctx, got.IP4); err != nil {
				return true, err
			}
			continue
		}
		if err != nil {
			return true, err
		}
		t.out.Release = append(t.out.Release, t.leasePath(got.IP4))
		t.out.Interfaces = append(t.out.Interfaces, w.describe(n.Name))
		return got.special(), nil
	}
}

// wanted is the lease without its addresses.
func (t *task) wanted(k kind, n contract.Network) (lease, error) {
	l := lease{UUID: t.pod.UUID, Host: t.hostName(k, t.pod.UUID)}
	for _, arg := range n.Args {
		key, value, _ := strings.Cut(arg, "=")
		if key != "allow" {
			return l, fmt.Errorf("unknown argument %q, known is allow", key)
		}
		for what := range strings.SplitSeq(value, "+") {
			if !slices.Contains([]string{allowHost, allowPods, allowMetadata}, what) {
				return l, fmt.Errorf("cannot allow %q, known are %s, %s and %s", what, allowHost, allowPods, allowMetadata)
			}
			l.Allow = append(l.Allow, what)
		}
	}
	if n.Name != t.pod.Net.Networks[0].Name {
		return l, nil // the first network has the ports
	}
	for _, p := range t.pod.Net.Ports {
		if ip, err := netip.ParseAddr(p.HostIP); err == nil && !ip.IsLoopback() {
			l.Ports = append(l.Ports, p)
		}
	}
	return l, nil
}

// lease claims an address and, while it has the lock, brings the table in order.
func (t *task) lease(ctx context.Context, host *handle, k kind, l lease, skip map[netip.Addr]bool) (addresses, lease, error) {
	var in addresses
	r, err := t.open(ctx)
	if err != nil {
		return in, l, err
	}
	defer r.close()
	all, err := r.choose(host.prefixes)
	if err != nil {
		return in, l, err
	}
	in = split(all, k.restricted)
	if got, err := r.claim(l, in, skip); err != nil {
		return in, l, err
	} else {
		l = got
	}
	table, err := t.table()
	if err != nil {
		return in, l, err
	}
	defer table.close()
	return in, l, table.update(r, l.special())
}

// split gives each network its half of the addresses.
func split(all netip.Prefix, restricted bool) addresses {
	b := all.Addr().As4()
	b6 := v6Range().Addr().As16()
	if !restricted {
		b[2] |= 4 // of /21
		b6[13] = 1
	}
	in := addresses{v4: netip.PrefixFrom(netip.AddrFrom4(b), all.Bits()+1)}
	if hasV6() {
		in.v6 = netip.PrefixFrom(netip.AddrFrom16(b6), 112)
	}
	return in
}

func (t *task) giveBack(ctx context.Context, ip netip.Addr) error {
	r, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer r.close()
	return r.drop(ip)
}

func (t *task) leasePath(ip netip.Addr) string {
	return (&registry{dir: t.RunDir + "/" + netDir}).path(ip)
}

// prefix is what the names of all interfaces of this run directory begin with.
func (h *Host) prefix() string {
	sum := sha256.Sum256([]byte(h.RunDir))
	return "rkt" + hex.EncodeToString(sum[:])[:3]
}

// hostName is the name of the host's end of the wire to a pod.
func (h *Host) hostName(k kind, uuid string) string {
	name := h.prefix() + string(k.letter) + strings.ReplaceAll(uuid, "-", "")
	return name[:min(len(name), unix.IFNAMSIZ-1)]
}

// leaveBuiltin removes what the host has for the pod in built-in networks.
func (h *Host) leaveBuiltin(ctx context.Context, pod *contract.Pod) error {
	uuid := pod.UUID
	r, err := h.open(ctx)
	if err != nil {
		return err
	}
	defer r.close()
	all, err := r.leases()
	if err != nil {
		return err
	}
	// What a killed process was about to write. Nobody writes now.
	errs := []error{atomicfile.RemoveTemporary(r.dir), atomicfile.RemoveTemporary(filepath.Join(r.dir, leasesDir))}
	// A lease may be gone and what was for it not.
	special := len(pod.Net.Ports) > 0 || slices.ContainsFunc(pod.Net.Networks, func(n contract.Network) bool { return len(n.Args) > 0 })
	for _, name := range []string{h.hostName(kind{letter: 'd'}, uuid), h.hostName(kind{letter: 'r'}, uuid)} {
		errs = append(errs, removeLink(name))
	}
	for i := range all {
		if l := &all[i]; l.UUID == uuid {
			errs = append(errs, r.drop(l.IP4))
		}
	}
	if special && errors.Join(errs...) == nil {
		table, err := h.table()
		if err != nil {
			return err
		}
		defer table.close()
		errs = append(errs, table.update(r, true))
	}
	return errors.Join(errs...)
}

// Reload brings the rules of the host's firewall in order, as after a flush.
func (h *Host) Reload(ctx context.Context) error {
	r, err := h.open(ctx)
	if err != nil {
		return err
	}
	defer r.close()
	if err := forward(h.RunDir); err != nil {
		return err
	}
	table, err := h.table()
	if err != nil {
		return err
	}
	defer table.close()
	return table.rebuild(r)
}
