package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rkt/internal/atomicfile"
	"rkt/internal/filelock"
	"rkt/internal/safepath"
	"rkt/stage1/contract"
)

// The folders below the run directory, and the files in them.
const (
	netDir    = "net"
	leasesDir = "leases" // one file per address, named by it
	rangeFile = "range"  // the addresses that are given to pods
)

// ErrNoAddress reports that all addresses of a network are in use.
var ErrNoAddress = errors.New("all addresses are in use")

// lease is an address of a pod with all that the host has for it. In its file
// the UUID of the pod is the first line, which makes it a claim as others.
type lease struct {
	UUID  string          `json:"-"`
	IP4   netip.Addr      `json:"ip4"`
	IP6   netip.Addr      `json:"ip6,omitzero"`
	Host  string          `json:"host"` // interface
	Ports []contract.Port `json:"ports,omitempty"`
	Allow []string        `json:"allow,omitempty"`
	// nanos is when the file was written: of two leases with one port the newer
	// one's pod is alive.
	nanos int64
}

// special says whether the lease is the reason for an element of the table.
func (l *lease) special() bool { return len(l.Ports) > 0 || len(l.Allow) > 0 }

// registry is the locked folder of networks.
type registry struct {
	dir  string
	lock *filelock.Lock
}

// open locks the folder of networks, which it makes where it is missing.
func (h *Host) open(ctx context.Context) (*registry, error) {
	r := &registry{dir: filepath.Join(h.RunDir, netDir)}
	for _, dir := range []string{h.RunDir, r.dir, filepath.Join(r.dir, leasesDir)} {
		if err := safepath.PrivateDir(dir); err != nil {
			return nil, fmt.Errorf("make folder of networks: %w", err)
		}
	}
	var err error
	if r.lock, err = filelock.Open(r.dir); err != nil {
		return nil, fmt.Errorf("open folder of networks: %w", err)
	}
	if err := r.lock.Exclusive(ctx); err != nil {
		r.lock.Close()
		return nil, fmt.Errorf("lock folder of networks: %w", err)
	}
	return r, nil
}

func (r *registry) close() { r.lock.Close() }

// path is the file of the lease of an address.
func (r *registry) path(ip netip.Addr) string {
	return filepath.Join(r.dir, leasesDir, ip.String())
}

// leases reads all leases. What does not parse is what a killed process left.
func (r *registry) leases() ([]lease, error) {
	dir := filepath.Join(r.dir, leasesDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("read leases: %w", err)
	}
	var all []lease
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // dropped by a supervisor, who takes no lock for it
		}
		if err != nil {
			return nil, fmt.Errorf("read lease: %w", err)
		}
		var l lease
		uuid, rest, ok := strings.Cut(string(b), "\n")
		if !ok || json.Unmarshal([]byte(rest), &l) != nil || l.IP4.String() != e.Name() {
			continue
		}
		l.UUID = uuid
		if info, err := e.Info(); err == nil {
			l.nanos = info.ModTime().UnixNano()
		}
		all = append(all, l)
	}
	return all, nil
}

// claim gives the pod an address of the range that nobody has and that is not in
// skip, and writes the lease down.
func (r *registry) claim(l lease, in addresses, skip map[netip.Addr]bool) (lease, error) {
	count := in.count()
	hash := fnv.New32a()
	hash.Write([]byte(l.UUID))
	// Where the search begins is arbitrary, so that an address rests for a while
	// after it was given back.
	first := int(hash.Sum32() % uint32(count))
	for i := range count {
		n := (first + i) % count
		l.IP4, l.IP6 = in.address(n)
		if skip[l.IP4] {
			continue
		}
		if _, err := os.Lstat(r.path(l.IP4)); err == nil {
			continue
		}
		return l, r.write(&l)
	}
	return l, fmt.Errorf("%w: %d of %s", ErrNoAddress, count, in.v4)
}

// write puts a lease on disk.
func (r *registry) write(l *lease) error {
	b, err := json.Marshal(l)
	if err == nil {
		err = atomicfile.Write(filepath.Join(r.dir, leasesDir), l.IP4.String(), append([]byte(l.UUID+"\n"), b...), 0o600, false)
	}
	if err != nil {
		return fmt.Errorf("write lease of %s: %w", l.IP4, err)
	}
	return nil
}

// drop gives an address back.
func (r *registry) drop(ip netip.Addr) error {
	if err := os.Remove(r.path(ip)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("drop lease of %s: %w", ip, err)
	}
	return nil
}

// addresses are those of one built-in network.
type addresses struct {
	v4 netip.Prefix
	v6 netip.Prefix // invalid = the host has no IPv6
}

// gateway is the host's address towards every pod: the first one.
func (a addresses) gateway() (v4, v6 netip.Addr) { return a.at(1) }

// count is how many pods there can be: all but the network's own address, the
// gateway and the broadcast address.
func (a addresses) count() int { return 1<<(32-a.v4.Bits()) - 3 }

// address is that of the n-th pod.
func (a addresses) address(n int) (v4, v6 netip.Addr) { return a.at(n + 2) }

func (a addresses) at(n int) (v4, v6 netip.Addr) {
	b := a.v4.Addr().As4()
	for i := 3; n>>(8*(3-i)) > 0 && i >= 0; i-- {
		b[i] |= byte(n >> (8 * (3 - i)))
	}
	v4 = netip.AddrFrom4(b)
	if a.v6.IsValid() {
		c := a.v6.Addr().As16()
		c[14], c[15] = byte(n>>8), byte(n)
		v6 = netip.AddrFrom16(c)
	}
	return v4, v6
}

// candidates are the addresses that may be for pods, of which the first that the
// host has no route to is taken. None is in a range that other container engines
// use by themselves.
func candidates() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("172.16.24.0/21"), netip.MustParsePrefix("10.171.24.0/21"), netip.MustParsePrefix("192.168.216.0/21"),
	}
}

// choose returns the addresses for pods: as chosen before, or the first candidate
// that overlaps none of the prefixes that taken returns.
func (r *registry) choose(taken func() ([]netip.Prefix, error)) (netip.Prefix, error) {
	b, err := os.ReadFile(filepath.Join(r.dir, rangeFile))
	if p, e := netip.ParsePrefix(strings.TrimSpace(string(b))); err == nil && e == nil && slices.Contains(candidates(), p) {
		return p, nil
	}
	used, err := taken()
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, p := range candidates() {
		if slices.ContainsFunc(used, p.Overlaps) {
			continue
		}
		return p, atomicfile.Write(r.dir, rangeFile, []byte(p.String()+"\n"), 0o600, false)
	}
	return netip.Prefix{}, fmt.Errorf("the host has routes to all of %v, where pods would be; a network of CNI named default can have other addresses", candidates())
}
