package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// errTaken reports an address that something on the host has already.
var errTaken = errors.New("address is taken")

// handle is a socket to the interfaces and routes of one network namespace.
type handle struct{ *netlink.Handle }

// handles opens the host's and the pod's.
func (t *task) handles() (host, pod *handle, err error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, nil, fmt.Errorf("open route netlink: %w", err)
	}
	p, err := netlink.NewHandleAt(netns.NsHandle(t.netns), unix.NETLINK_ROUTE)
	if err != nil {
		h.Close()
		return nil, nil, fmt.Errorf("open route netlink of the pod: %w", err)
	}
	return &handle{h}, &handle{p}, nil
}

// prefixes are the destinations of all routes of IPv4 but the default ones.
func (h *handle) prefixes() ([]netip.Prefix, error) {
	routes, err := h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var all []netip.Prefix
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		ip, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		ones, _ := r.Dst.Mask.Size()
		if ok && ones > 0 {
			all = append(all, netip.PrefixFrom(ip, ones))
		}
	}
	return all, nil
}

// mtu is that of the way out of the host, 0 = there is none.
func (h *handle) mtu() int {
	routes, err := h.RouteGet(net.IPv4(192, 0, 2, 1)) // an address that nobody has
	if err != nil || len(routes) == 0 {
		return 0
	}
	link, err := h.LinkByIndex(routes[0].LinkIndex)
	if err != nil || link.Attrs().Flags&net.FlagLoopback != 0 {
		return 0
	}
	return link.Attrs().MTU
}

// wire is a pair of interfaces with a pod at one end and the host at the other.
type wire struct {
	host, pod  *handle
	netns      int
	lease      lease
	in         addresses
	ifname     string // in the pod
	restricted bool
	mac        string
}

// connect makes the wire. When it fails with errTaken, nothing of it is left.
func (w *wire) connect() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = w.lease.Host, w.host.mtu()
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerNamespace, veth.PeerMTU = w.ifname, netlink.NsFd(w.netns), uint32(attrs.MTU)
	if err := w.host.LinkAdd(veth); err != nil {
		return fmt.Errorf("make interfaces %s and %s: %w", w.lease.Host, w.ifname, err)
	}
	near, err := w.host.LinkByName(w.lease.Host)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", w.lease.Host, err)
	}
	if err := w.nearEnd(near); err != nil {
		if errors.Is(err, errTaken) {
			return errors.Join(err, w.host.LinkDel(near))
		}
		return err
	}
	return w.farEnd()
}

// nearEnd fits out the host's end. No route is replaced.
func (w *wire) nearEnd(link netlink.Link) error {
	quiet(link.Attrs().Name)
	gw4, gw6 := w.in.gateway()
	for _, ip := range []netip.Addr{gw4, gw6} {
		if err := addAddress(w.host, link, ip); err != nil {
			return err
		}
	}
	if err := w.host.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s: %w", w.lease.Host, err)
	}
	for _, to := range []netip.Addr{w.lease.IP4, w.lease.IP6} {
		if !to.IsValid() {
			continue
		}
		err := w.host.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: single(to)})
		if errors.Is(err, unix.EEXIST) {
			return errTaken
		}
		if err != nil {
			return fmt.Errorf("add route to %s: %w", to, err)
		}
	}
	return nil
}

// farEnd fits out the pod's end.
func (w *wire) farEnd() error {
	link, err := w.pod.LinkByName(w.ifname)
	if err != nil {
		return fmt.Errorf("find interface %s of the pod: %w", w.ifname, err)
	}
	w.mac = link.Attrs().HardwareAddr.String()
	if err := inside(w.netns, func() { quiet(w.ifname) }); err != nil {
		return err
	}
	for _, ip := range []netip.Addr{w.lease.IP4, w.lease.IP6} {
		if err := addAddress(w.pod, link, ip); err != nil {
			return err
		}
	}
	if err := w.pod.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring up %s of the pod: %w", w.ifname, err)
	}
	gw4, gw6 := w.in.gateway()
	for _, gw := range []netip.Addr{gw4, gw6} {
		if !gw.IsValid() {
			continue
		}
		routes := []*netlink.Route{{LinkIndex: link.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: single(gw)}}
		if !w.restricted {
			routes = append(routes, &netlink.Route{LinkIndex: link.Attrs().Index, Gw: gw.AsSlice()})
		}
		for _, r := range routes {
			// The first of several networks has the way out.
			if err := w.pod.RouteAdd(r); err != nil && !errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("add route of the pod by %s: %w", gw, err)
			}
		}
	}
	return nil
}

// describe is the wire as the pod's status shows it.
func (w *wire) describe(network string) contract.Interface {
	i := contract.Interface{Network: network, Name: w.ifname, Host: w.lease.Host, MAC: w.mac}
	gw4, gw6 := w.in.gateway()
	for _, ip := range []netip.Addr{w.lease.IP4, w.lease.IP6} {
		if ip.IsValid() {
			i.Addresses = append(i.Addresses, netip.PrefixFrom(ip, ip.BitLen()).String())
		}
	}
	for _, gw := range []netip.Addr{gw4, gw6} {
		if gw.IsValid() && !w.restricted {
			i.Gateways = append(i.Gateways, gw.String())
		}
	}
	return i
}

// addAddress gives an interface an address of its own; an invalid one is none.
func addAddress(h *handle, link netlink.Link, ip netip.Addr) error {
	if !ip.IsValid() {
		return nil
	}
	a := &netlink.Addr{IPNet: single(ip)}
	if ip.Is6() {
		a.Flags = unix.IFA_F_NODAD // nobody else is on the wire
	}
	if err := h.AddrAdd(link, a); err != nil {
		return fmt.Errorf("give %s the address %s: %w", link.Attrs().Name, ip, err)
	}
	return nil
}

func single(ip netip.Addr) *net.IPNet {
	return &net.IPNet{IP: ip.AsSlice(), Mask: net.CIDRMask(ip.BitLen(), ip.BitLen())}
}

// removeLink removes an interface of the host, and so its other end.
func removeLink(name string) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open route netlink: %w", err)
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove interface %s: %w", name, err)
	}
	return nil
}

// inside calls do in a network namespace.
func inside(netns int, do func()) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this function
		err := unix.Setns(netns, unix.CLONE_NEWNET)
		if err == nil {
			do()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("enter the pod's network namespace: %w", err)
	}
	return nil
}

// quiet keeps an interface from believing what routers tell: a neighbour could be
// one that lies. A host without IPv6 has no such setting.
func quiet(ifname string) {
	for _, name := range []string{"accept_ra", "accept_redirects", "autoconf"} {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+ifname+"/"+name, []byte("0"), 0)
	}
	_ = os.WriteFile("/proc/sys/net/ipv4/conf/"+ifname+"/accept_redirects", []byte("0"), 0)
	_ = os.WriteFile("/proc/sys/net/ipv4/conf/"+ifname+"/send_redirects", []byte("0"), 0)
}
