package registry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"

	"rkt/fetch/ingest/fault"
	"rkt/fetch/wire"
)

// dialTimeout bounds making one TCP connection.
const dialTimeout = 15 * time.Second

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

// zone is how far away an address is. A host may be led to another one only if
// that is not nearer to us: a registry on the internet has no business with what
// listens on this machine or in this site, one of the site may keep its blobs
// on another machine of the site.
type zone int32

const (
	unknown zone = iota
	local        // this machine
	link         // this link: also where clouds keep secrets
	site         // private networks
	world
)

// shared is the address space of carrier-grade NAT (RFC 6598), which netip does
// not count as private.
var shared = netip.MustParsePrefix("100.64.0.0/10")

func zoneOf(ip netip.Addr) zone {
	switch ip = ip.Unmap(); {
	case ip.IsLoopback(), ip.IsUnspecified():
		return local
	case ip.IsLinkLocalUnicast(), ip.IsMulticast():
		return link
	case ip.IsPrivate(), shared.Contains(ip):
		return site
	}
	return world
}

// reach remembers how near the registry is, and keeps what it leads to from
// being nearer. It sees the addresses that are really connected to, so that
// names that change their address between two looks do not matter.
type reach struct {
	registry atomic.Int32 // the nearest zone it was found in
}

// known says whether the registry was ever connected to.
func (r *reach) known() bool { return zone(r.registry.Load()) != unknown }

// dialOwn connects to the registry itself.
func (r *reach) dialOwn(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if at, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil && !isProxy(address) {
		z := int32(zoneOf(at.Addr()))
		if old := r.registry.Load(); old == int32(unknown) || z < old {
			r.registry.Store(z)
		}
	}
	return conn, nil
}

// dialForeign connects to a host that the registry has named.
func (r *reach) dialForeign(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTimeout}
	if !isProxy(address) {
		d.Control = r.allow
	}
	return d.DialContext(ctx, network, address)
}

// allow is called with the address before the connection is made.
func (r *reach) allow(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("parse address %q: %w", address, err)
	}
	from := zone(r.registry.Load())
	if from == unknown {
		from = world
	}
	to := zoneOf(at.Addr())
	if to >= from && (to != link || from == link) {
		return nil
	}
	return fault.New(wire.CodeNetwork, "the registry leads to %v, which is nearer to this machine than it is itself", at.Addr())
}

// isProxy reports whether address, host:port, is that of a proxy in the
// environment.
func isProxy(address string) bool {
	for _, scheme := range []string{"https", "http"} {
		// Any public name does: which requests take the proxy does not matter.
		proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: scheme, Host: "registry.invalid"}})
		if err != nil || proxy == nil {
			continue
		}
		port := proxy.Port()
		if port == "" {
			port = map[string]string{"http": "80", "https": "443", "socks5": "1080", "socks5h": "1080"}[proxy.Scheme]
		}
		if net.JoinHostPort(proxy.Hostname(), port) == address {
			return true
		}
	}
	return false
}
