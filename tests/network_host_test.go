package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// netHost is a host with a network of its own: a network namespace with one
// neighbour, beyond which there is nothing. No other test and no other network of
// this machine is in it.
type netHost struct {
	*host
	here, outside *os.File // network namespaces
}

// The addresses of the host and of its neighbour.
const (
	hostIP, hostIP6       = "198.51.100.2", "2001:db8:5::2"
	outsideIP, outsideIP6 = "198.51.100.1", "2001:db8:5::1"
	metadataIP            = "169.254.169.254" // the neighbour's, too
)

// newNetHost makes a host. The test stays on one thread, which is in its network
// namespace, and so is every command that the test starts.
func newNetHost(t *testing.T) *netHost {
	t.Helper()
	runtime.LockOSThread()
	before, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	n := &netHost{}
	for _, ns := range []**os.File{&n.outside, &n.here} {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Fatal(err)
		}
		if *ns, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { // the last: the host is collected before
		if err := unix.Setns(int(before.Fd()), unix.CLONE_NEWNET); err != nil {
			t.Fatal(err)
		}
		for _, f := range []*os.File{before, n.here, n.outside} {
			f.Close()
		}
		runtime.UnlockOSThread()
	})
	n.host = newHost(t)
	n.ip("link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
	peer := exec.Command("ip", "link", "set", "lan1", "netns", "/proc/self/fd/3")
	peer.ExtraFiles = []*os.File{n.outside}
	if out, err := peer.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	n.address("lan0", hostIP, hostIP6)
	n.ip("route", "add", "default", "via", outsideIP)
	n.ip("-6", "route", "add", "default", "via", outsideIP6)
	n.in(n.outside, func() {
		n.address("lan1", outsideIP, outsideIP6)
		n.ip("address", "add", metadataIP+"/32", "dev", "lan1")
	})
	t.Cleanup(n.assertNoNetworks)
	return n
}

func (n *netHost) address(link, v4, v6 string) {
	n.t.Helper()
	n.ip("address", "add", v4+"/24", "dev", link)
	n.ip("address", "add", v6+"/64", "dev", link, "nodad")
	n.ip("link", "set", link, "up")
	n.ip("link", "set", "lo", "up")
}

// in calls do in a network namespace.
func (n *netHost) in(ns *os.File, do func()) {
	n.t.Helper()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		n.t.Fatal(err)
	}
	defer func() {
		if err := unix.Setns(int(n.here.Fd()), unix.CLONE_NEWNET); err != nil {
			n.t.Fatal(err)
		}
	}()
	do()
}

// ip runs ip(8), nft runs nft(8).
func (n *netHost) ip(args ...string) string  { n.t.Helper(); return n.tool("ip", args...) }
func (n *netHost) nft(args ...string) string { n.t.Helper(); return n.tool("nft", args...) }

func (n *netHost) tool(name string, args ...string) string {
	n.t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// serve answers every connection to an address with a word.
func (n *netHost) serve(ns *os.File, address, word string) {
	n.t.Helper()
	n.in(ns, func() {
		l, err := net.Listen("tcp", address)
		if err != nil {
			n.t.Fatal(err)
		}
		n.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				fmt.Fprintln(c, word)
				c.Close()
			}
		}()
	})
}

// get is what an address answers, asked from a network namespace; an error is in it.
func (n *netHost) get(ns *os.File, address string) (answer string) {
	n.t.Helper()
	n.in(ns, func() {
		ctx, cancel := context.WithTimeout(n.t.Context(), 5*time.Second)
		defer cancel()
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			answer = err.Error()
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		b, err := io.ReadAll(c)
		if answer = strings.TrimSpace(string(b)); err != nil {
			answer += err.Error()
		}
	})
	return answer
}

// ask is a shell function that prints what an address answers.
const ask = `ask() { nc -w 5 "$1" "$2" </dev/null 2>&1; }; `

// web starts a pod whose app answers on port 80 with "pod", and returns it when it
// does.
func (n *netHost) web(name string, flags ...string) *process {
	n.t.Helper()
	args := append([]string{"run", "--name=" + name}, flags...)
	args = append(args, n.image("busybox"), "--", "sh", "-c", "echo ready; exec nc -ll -p 80 -e echo pod")
	p := n.start(args...)
	if got := p.line(); got != "ready" {
		n.t.Fatalf("the app printed %q: %s", got, p.stderr)
	}
	ip := n.addresses(name)[0]
	eventually(n.t, func() error {
		if got := n.get(n.here, netip.AddrPortFrom(ip, 80).String()); got != "pod" {
			return fmt.Errorf("it answers %q", got)
		}
		return nil
	})
	return p
}

// addresses are those of a pod, as status has them.
func (n *netHost) addresses(name string) (ips []netip.Addr) {
	n.t.Helper()
	var s struct {
		Interfaces []struct{ Addresses []string }
	}
	if err := json.Unmarshal([]byte(n.must("status", "--format=json", name)), &s); err != nil {
		n.t.Fatal(err)
	}
	for _, i := range s.Interfaces {
		for _, a := range i.Addresses {
			ips = append(ips, netip.MustParsePrefix(a).Addr())
		}
	}
	if len(ips) == 0 {
		n.t.Fatalf("pod %s has no addresses", name)
	}
	return ips
}

// leftovers are what is on the host for pods, besides the rules for all of them.
func (n *netHost) leftovers() error {
	links := strings.Fields(n.ip("-brief", "link", "show", "type", "veth"))
	for _, word := range links {
		if strings.HasPrefix(word, "rkt") {
			return fmt.Errorf("the interface %s is left", word)
		}
	}
	leases, err := filepath.Glob(filepath.Join(n.run, "net", "leases", "*"))
	if err != nil || len(leases) > 0 {
		return fmt.Errorf("leases are left: %q (%v)", leases, err)
	}
	if rules := n.nft("list", "ruleset"); strings.Contains(rules, "elements") {
		return errors.New("elements are left: " + rules)
	}
	if routes := n.ip("route") + n.ip("-6", "route"); strings.Contains(routes, "dev rkt") {
		return errors.New("routes are left: " + routes)
	}
	return nil
}

// assertNoNetworks checks that nothing is left. The kernel removes the interfaces
// of a namespace that is gone a moment later.
func (n *netHost) assertNoNetworks() {
	n.t.Helper()
	eventually(n.t, n.leftovers)
}

// TestMain lets this program be an app of a pod as well, when the environment
// says so.
func TestMain(m *testing.M) {
	var err error
	switch {
	case os.Getenv("RKT_TEST_ECHO") != "":
		err = echo(os.Getenv("RKT_TEST_ECHO"))
	case os.Getenv("RKT_TEST_SEND") != "":
		err = send(os.Getenv("RKT_TEST_SEND"), os.Getenv("RKT_TEST_FROM"))
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// echo sends the datagrams that come to a port back, until it is killed.
func echo(port string) error {
	c, err := net.ListenPacket("udp", ":"+port)
	if err != nil {
		return err
	}
	os.Stdout.WriteString("ready\n")
	var b [2048]byte
	for {
		size, from, err := c.ReadFrom(b[:])
		if err != nil {
			return err
		}
		if _, err := c.WriteTo(b[:size], from); err != nil {
			return err
		}
	}
}

// send sends a datagram that says where it claims to be from.
func send(to, from string) error {
	d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("udp4", to)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Write([]byte("from " + from))
	return err
}
