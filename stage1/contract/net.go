package contract

import "path/filepath"

// Net is the network of a pod.
type Net struct {
	Mode NetMode `json:"mode"`
	// Networks are those of NetJoined, in the order of their interfaces eth0, eth1.
	Networks []Network `json:"networks,omitempty"`
	// Ports are published on the host by the supervisor, and by rules of the host's
	// firewall where those can do it.
	Ports []Port `json:"ports,omitempty"`
	// DNS and Hosts are for the files in EtcDir.
	DNS   *DNS        `json:"dns,omitempty"`
	Hosts []HostEntry `json:"hosts,omitempty"`
	// CopyHosts takes over the host's /etc/hosts.
	CopyHosts bool `json:"copyHosts,omitempty"`
}

// NetMode is one of the Net* constants.
type NetMode string

// The network modes of this version.
const (
	NetNone   NetMode = "none"   // a network namespace with loopback only
	NetHost   NetMode = "host"   // the host's network namespace
	NetJoined NetMode = "joined" // a network namespace that Host.Network attaches to networks
)

// Network is one network that a pod is attached to. stage1 ignores it.
type Network struct {
	Name string `json:"name"`
	// Args are what the operator wants of it, KEY=VALUE; names are unique.
	Args []string `json:"args,omitempty"`
}

// Port is a port of the pod that the host publishes.
type Port struct {
	Name     string `json:"name,omitempty"` // in the image; for display
	Protocol string `json:"protocol"`       // "tcp" or "udp"
	// HostIP is the address of the host; "" = 127.0.0.1 and ::1.
	HostIP   string `json:"hostIP,omitempty"`
	HostPort int    `json:"hostPort"`
	PodPort  int    `json:"podPort"`
}

// DNS is what resolv.conf says; nil = the networks decide, else the host. None leaves that file empty, Host takes it over
// from the host. Of what is given the rest stays empty.
type DNS struct {
	None    bool     `json:"none,omitempty"`
	Host    bool     `json:"host,omitempty"`
	Servers []string `json:"servers,omitempty"`
	Search  []string `json:"search,omitempty"`
	Options []string `json:"options,omitempty"`
}

// HostEntry is a line of the pod's /etc/hosts.
type HostEntry struct {
	IP    string   `json:"ip"`
	Names []string `json:"names"`
}

// NetnsFD is the pod's network namespace in the commands of HostNetwork. Beside it
// they have LockFD: the pod counts as running as long as one of them is at work.
const NetnsFD = LockFD + 1

// HostNetwork is how a pod of NetJoined gets its networks. Both commands are
// executed in the pod directory.
type HostNetwork struct {
	// Attach is executed when the pod's network namespace is there; no app runs before it has ended with 0. What it says on
	// stderr is why it failed.
	Attach []string `json:"attach"`
	// Detach undoes Attach, also a part of it. It is executed when the pod is over
	// and NetworkFile is there and does not say that it is enough to drop claims.
	Detach []string `json:"detach"`
}

// NetworkFile is in the pod directory from before the first thing that Attach
// does until all of it is undone: Attached.
const NetworkFile = "network"

// Attached is what became of the networks of a pod.
type Attached struct {
	Version    int         `json:"version"`
	Interfaces []Interface `json:"interfaces,omitempty"`
	// Detach says that there is more to undo than what goes with the network
	// namespace and Release.
	Detach bool `json:"detach,omitempty"`
	// Release is as Host.Release.
	Release []string `json:"release,omitempty"`
}

// Interface is an interface of the pod.
type Interface struct {
	Network string `json:"network"`
	Name    string `json:"name"`
	// Host is the interface of the host at the other end, if there is one.
	Host      string   `json:"host,omitempty"`
	MAC       string   `json:"mac,omitempty"`
	Addresses []string `json:"addresses,omitempty"` // ADDRESS/BITS, that of version 4 first
	Gateways  []string `json:"gateways,omitempty"`
}

// LoadAttached reads NetworkFile of the pod directory dir. A missing one is
// os.ErrNotExist.
func LoadAttached(dir string) (*Attached, error) {
	a := &Attached{}
	if err := load(filepath.Join(dir, NetworkFile), a); err != nil {
		return nil, err
	}
	return a, checkVersion(NetworkFile, a.Version)
}
