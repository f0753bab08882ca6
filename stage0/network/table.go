package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// tableVersion is the name of a set that is in a table of this make.
const tableVersion = "version1"

// table is the table of rkt in the host's firewall. What it says of pods in
// general is rules, made once; what it says of single pods is elements of sets.
type table struct {
	conn   *nftables.Conn
	table  *nftables.Table
	prefix string // of the interfaces to pods
	sets   map[string]*nftables.Set
}

// table opens the table, which need not be there.
func (h *Host) table() (*table, error) {
	conn, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("open netfilter netlink: %w", err)
	}
	name := "rkt"
	if h.RunDir != "/run/rkt" {
		name = h.prefix()
	}
	t := &table{conn: conn, prefix: h.prefix(), table: &nftables.Table{Name: name, Family: nftables.TableFamilyINet}}
	t.defineSets()
	return t, nil
}

func (t *table) close() { _ = t.conn.CloseLasting() }

// Names of sets. The last character is that of the version of IP.
const (
	publish = "publish" // address, protocol, port -> the pod's address and port
	anyhost = "any"     // protocol, port -> the same, for every address of the host
)

func (t *table) defineSets() {
	t.sets = make(map[string]*nftables.Set)
	add := func(name string, key, data *nftables.SetDatatype) {
		s := &nftables.Set{Table: t.table, Name: name, KeyType: *key}
		if data != nil {
			s.IsMap, s.DataType = true, *data
		}
		t.sets[name] = s
	}
	for _, v := range []struct {
		letter string
		ip     nftables.SetDatatype
	}{{"4", nftables.TypeIPAddr}, {"6", nftables.TypeIP6Addr}} {
		target := nftables.MustConcatSetType(v.ip, nftables.TypeInetService)
		full := nftables.MustConcatSetType(v.ip, nftables.TypeInetProto, nftables.TypeInetService)
		short := nftables.MustConcatSetType(nftables.TypeInetProto, nftables.TypeInetService)
		add(publish+v.letter, &full, &target)
		add(anyhost+v.letter, &short, &target)
		for _, what := range []string{allowHost, allowPods, allowMetadata} {
			add(what+v.letter, &v.ip, nil)
		}
	}
}

// update brings the table in order: all of it if it is missing, and the elements
// if they have changed.
func (t *table) update(r *registry, changed bool) error {
	_, err := t.conn.GetSetByName(t.table, tableVersion)
	if err != nil {
		return t.rebuild(r)
	}
	if !changed {
		return nil
	}
	for _, name := range t.names() {
		t.conn.FlushSet(t.sets[name])
	}
	return t.fill(r)
}

// rebuild puts the table in place of the one that may be there, at once.
func (t *table) rebuild(r *registry) error {
	alone, err := madeForward(r.dir)
	if err != nil {
		return err
	}
	t.conn.AddTable(t.table) // so that there is one to delete
	t.conn.DelTable(t.table)
	t.conn.AddTable(t.table)
	if err := t.conn.AddSet(&nftables.Set{Table: t.table, Name: tableVersion, KeyType: nftables.TypeInetService}, nil); err != nil {
		return fmt.Errorf("make set: %w", err)
	}
	for i, name := range t.names() {
		t.sets[name].ID = uint32(i + 10)
		if err := t.conn.AddSet(t.sets[name], nil); err != nil {
			return fmt.Errorf("make set %s: %w", name, err)
		}
	}
	t.rules(alone)
	return t.fill(r)
}

// names are the names of the sets in a fixed order.
func (t *table) names() []string {
	names := make([]string, 0, len(t.sets))
	for name := range t.sets {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// fill adds the elements of all leases to what is to be done and does it.
func (t *table) fill(r *registry) error {
	all, err := r.leases()
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b lease) int { return int(min(max(a.nanos-b.nanos, -1), 1)) })
	elements := make(map[string]map[string][]byte)
	add := func(set string, key, value []byte) {
		if elements[set] == nil {
			elements[set] = make(map[string][]byte)
		}
		elements[set][string(key)] = value
	}
	for i := range all {
		for _, p := range all[i].Ports {
			publishPort(&all[i], p, add)
		}
		for _, what := range all[i].Allow {
			for _, ip := range all[i].ips() {
				add(what+letter(ip), ip.AsSlice(), nil)
			}
		}
	}
	for _, name := range t.names() {
		var list []nftables.SetElement
		for key, value := range elements[name] {
			list = append(list, nftables.SetElement{Key: []byte(key), Val: value})
		}
		if len(list) == 0 {
			continue
		}
		if err := t.conn.SetAddElements(t.sets[name], list); err != nil {
			return fmt.Errorf("fill set %s: %w", name, err)
		}
	}
	if err := t.conn.Flush(); err != nil {
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPROTONOSUPPORT) {
			return fmt.Errorf("write rules of the firewall: %w: the kernel lacks a part of nftables (nft_nat, nft_masq, nft_fib_inet, nft_ct)", err)
		}
		return fmt.Errorf("write rules of the firewall: %w", err)
	}
	return nil
}

// ips are the addresses of the pod.
func (l *lease) ips() []netip.Addr {
	list := []netip.Addr{l.IP4}
	if l.IP6.IsValid() {
		list = append(list, l.IP6)
	}
	return list
}

func letter(ip netip.Addr) string {
	if ip.Is4() {
		return "4"
	}
	return "6"
}

// publishPort adds the elements for a port on an address that is not loopback.
// What has the other version of IP is the supervisor's to serve.
func publishPort(l *lease, p contract.Port, add func(set string, key, value []byte)) {
	at, err := netip.ParseAddr(p.HostIP)
	if err != nil {
		return
	}
	proto := []byte{unix.IPPROTO_TCP, 0, 0, 0}
	if p.Protocol == "udp" {
		proto[0] = unix.IPPROTO_UDP
	}
	key := append(proto, port(p.HostPort)...)
	for _, to := range l.ips() {
		if to.Is4() != at.Is4() {
			continue
		}
		value := append(to.AsSlice(), port(p.PodPort)...)
		if at.IsUnspecified() {
			add(anyhost+letter(to), key, value)
		} else {
			add(publish+letter(to), append(at.AsSlice(), key...), value)
		}
	}
}

// port is a port in a register.
func port(n int) []byte { return []byte{byte(n >> 8), byte(n), 0, 0} }

// String names the table in messages.
func (t *table) String() string { return "inet " + strconv.Quote(t.table.Name) }
