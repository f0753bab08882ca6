package tests

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A pod of the built-in network has addresses and a way out, both of each version
// of IP, names, and nothing is left of it. No plugin is installed.
func TestNetDefault(t *testing.T) {
	n := newNetHost(t)
	n.serve(n.outside, outsideIP+":7000", "outside")
	n.serve(n.outside, "["+outsideIP6+"]:7000", "outside6")
	ref := n.image("busybox")
	got := n.must("run", "--rm", "--net=default", "--hostname=here", "--dns=192.0.2.53", "--dns-search=example.org",
		"--hosts-entry=192.0.2.9=db,db.example.org", ref, "--", "sh", "-c",
		ask+`ask `+outsideIP+` 7000; ask `+outsideIP6+` 7000; cat /etc/resolv.conf /etc/hosts`)
	for _, want := range []string{"outside\n", "outside6\n", "search example.org\nnameserver 192.0.2.53\n", "192.0.2.9\tdb db.example.org\n", "\there"} {
		if !strings.Contains(got+"\n", want) {
			t.Errorf("the app printed %q, which lacks %q", got, want)
		}
	}
	n.assertNoNetworks()
}

// status and list show the addresses of a pod that runs.
func TestNetIsShown(t *testing.T) {
	n := newNetHost(t)
	p := n.web("web", "--net=default", "--publish=8080:80")
	ip := n.addresses("web")[0].String()
	if s := n.must("status", "web"); !strings.Contains(s, "network=default\n") || !strings.Contains(s, "addresses="+ip) || !strings.Contains(s, "ports=localhost:8080->80/tcp\n") {
		t.Errorf("status says\n%s", s)
	}
	if s := n.must("list", "--full"); !strings.Contains(s, ip) {
		t.Errorf("list says\n%s", s)
	}
	p.stop()
	if s := n.must("status", "web"); strings.Contains(s, "addresses=") {
		t.Errorf("status of a pod that is over says\n%s", s)
	}
}

// CR-10: a pod reaches the outside and nothing else, unless it is allowed to.
func TestNetWhoReachesWhom(t *testing.T) {
	n := newNetHost(t)
	n.serve(n.outside, outsideIP+":7000", "outside")
	n.serve(n.outside, metadataIP+":80", "metadata")
	for _, at := range []string{"127.0.0.1:7000", hostIP + ":7000", "[" + hostIP6 + "]:7000"} {
		n.serve(n.here, at, "host")
	}
	n.ip("route", "add", metadataIP+"/32", "via", outsideIP)
	other := n.web("other", "--net=default")
	pod := n.addresses("other")
	ref := n.image("busybox")
	for _, c := range []struct{ net, address, port, want string }{
		{"default", outsideIP, "7000", "outside"},
		{"default", metadataIP, "80", ""},
		{"default", hostIP, "7000", ""},
		{"default", hostIP6, "7000", ""},
		{"default", "127.0.0.1", "7000", ""},
		{"default", "172.16.28.1", "7000", ""}, // the gateway
		{"default", pod[0].String(), "80", ""},
		{"default", pod[1].String(), "80", ""},
		{"default:allow=metadata", metadataIP, "80", "metadata"},
		{"default:allow=metadata", hostIP, "7000", ""},
		{"default:allow=host", hostIP, "7000", "host"},
		{"default:allow=host", hostIP6, "7000", "host"},
		{"default:allow=host", pod[0].String(), "80", ""},
		{"default:allow=pods", pod[0].String(), "80", "pod"},
		{"default:allow=pods", pod[1].String(), "80", "pod"},
		{"default-restricted", outsideIP, "7000", ""},
		{"default-restricted", hostIP, "7000", ""},
		{"default-restricted", pod[0].String(), "80", ""},
		{"none", outsideIP, "7000", ""},
	} {
		got := n.rkt("run", "--rm", "--net="+c.net, ref, "--", "sh", "-c", ask+"ask "+c.address+" "+c.port).stdout
		if c.want != strings.TrimSpace(strings.TrimPrefix(got, refusal(got))) {
			t.Errorf("--net=%s: %s:%s answers %q, want %q", c.net, c.address, c.port, got, c.want)
		}
	}
	if got := n.get(n.outside, net.JoinHostPort(pod[0].String(), "80")); got == "pod" {
		t.Errorf("a neighbour of the host reaches the pod without a published port")
	}
	if s := n.must("run", "--rm", "--net=default", ref, "--", "cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra"); s != "0" {
		t.Errorf("the pod listens to routers: accept_ra is %s", s)
	}
	other.stop()
}

// refusal is the message of nc(1), if it is one.
func refusal(s string) string {
	if strings.HasPrefix(s, "nc: ") {
		return s
	}
	return ""
}

// A pod does not send with an address that is not its own, though it may change
// its interfaces.
func TestNetSourceIsNotForged(t *testing.T) {
	n := newNetHost(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var heard net.PacketConn
	n.in(n.outside, func() { heard, err = net.ListenPacket("udp4", outsideIP+":7000") })
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	send := func(from string) {
		t.Helper()
		n.must("run", "--rm", "--net=default", n.image("busybox"), "--caps-retain=default,NET_ADMIN", "--volume="+self+":/helper:ro",
			"--environment=RKT_TEST_SEND="+outsideIP+":7000", "--environment=RKT_TEST_FROM="+from, "--", "sh", "-c",
			"ip address add 192.0.2.77/32 dev eth0 && exec /helper")
	}
	send("192.0.2.77")
	send("0.0.0.0") // its own
	heard.SetReadDeadline(time.Now().Add(patience))
	var b [64]byte
	size, _, err := heard.ReadFrom(b[:])
	if got := string(b[:size]); err != nil || got != "from 0.0.0.0" {
		t.Errorf("the first that arrives is %q, %v", got, err)
	}
}

// A port is published on loopback of both kinds, on an address, on all; over TCP
// and UDP; for the host, its neighbours, and the pod itself.
func TestNetPublish(t *testing.T) {
	n := newNetHost(t)
	p := n.web("web", "--net=default", "--publish=8080:80", "--publish="+hostIP+":8081:80", "--publish=0.0.0.0:8082:80", "--publish=["+hostIP6+"]:8083:80")
	check := func(when string) {
		t.Helper()
		for address, from := range map[string]*os.File{
			"127.0.0.1:8080": n.here, "[::1]:8080": n.here, hostIP + ":8081": n.outside, hostIP + ":8082": n.outside, "127.0.0.1:8082": n.here,
			"[" + hostIP6 + "]:8083": n.outside,
		} {
			if got := n.get(from, address); got != "pod" {
				t.Errorf("%s: %s answers %q", when, address, got)
			}
		}
		for _, address := range []string{hostIP + ":8081", hostIP + ":8082"} {
			if got := n.get(n.here, address); got != "pod" {
				t.Errorf("%s: %s answers %q on the host", when, address, got)
			}
		}
		if got := n.get(n.outside, hostIP+":8080"); got == "pod" {
			t.Errorf("%s: what is published on loopback is there for neighbours", when)
		}
	}
	check("at first")
	for _, port := range []string{"8081", "8082"} {
		if got := n.must("enter", "web", "--", "sh", "-c", ask+"ask "+hostIP+" "+port); got != "pod" {
			t.Errorf("the pod gets %q from its own port %s", got, port)
		}
	}

	n.nft("flush", "ruleset")
	if got := n.get(n.here, "127.0.0.1:8080"); got != "pod" {
		t.Errorf("after a flush of all rules loopback answers %q", got)
	}
	n.must("net", "reload")
	check("after a flush and a reload")
	p.stop()
}

// Datagrams go both ways.
func TestNetPublishUDP(t *testing.T) {
	n := newNetHost(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := n.start("run", "--name=echo", "--net=default", "-p", "5300:53/udp", "-p", hostIP+":5301:53/udp", n.image("busybox"),
		"--volume="+self+":/helper:ro", "--environment=RKT_TEST_ECHO=53", "--", "/helper")
	if got := p.line(); got != "ready" {
		t.Fatalf("the app printed %q", got)
	}
	for address, from := range map[string]*os.File{"127.0.0.1:5300": n.here, "[::1]:5300": n.here, hostIP + ":5301": n.outside} {
		n.in(from, func() {
			c, err := net.Dial("udp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * time.Second))
			var b [16]byte
			for _, word := range []string{"one", "two"} {
				c.Write([]byte(word))
				if size, err := c.Read(b[:]); err != nil || string(b[:size]) != word {
					t.Errorf("%s: sent %q, got %q: %v", address, word, b[:size], err)
				}
			}
		})
	}
	p.stop()
}

// A port has one owner, and what is no port is refused before anything is done.
func TestNetRefuses(t *testing.T) {
	n := newNetHost(t)
	ref := n.image("busybox")
	n.serve(n.here, "127.0.0.1:7000", "host")
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--net=nowhere"}, `unknown network "nowhere"`},
		{[]string{"--net=default,default"}, "given twice"},
		{[]string{"--net=none,default"}, "cannot be combined"},
		{[]string{"--net=../default"}, "unknown network"},
		{[]string{"--net=default:IP=1.2.3.4"}, `unknown argument "IP"`},
		{[]string{"--net=default:allow=all"}, `cannot allow "all"`},
		{[]string{"--net=none", "--publish=8080:80"}, "cannot publish"},
		{[]string{"--net=default", "--publish=7000:80"}, "127.0.0.1:7000/tcp of the host is in use"},
		{[]string{"--net=default", "--publish=192.0.2.1:7001:80"}, "no address of the host"},
		{[]string{"--net=default", "--publish=7001:80", "--publish=127.0.0.1:7001:81"}, "published twice"},
		{[]string{"--net=default", "--publish=7001"}, "[IP:]HOSTPORT:PORT"},
		{[]string{"--net=default", "--publish=7001:0"}, "is no port"},
		{[]string{"--net=default", "--publish=7001:80/sctp"}, "unknown protocol"},
		{[]string{"--net=default", "--port=http:7001"}, "no image"},
		{[]string{"--dns=example.org"}, "neither an address"},
		{[]string{"--dns=none", "--dns=192.0.2.1"}, "exclude each other"},
		{[]string{"--hosts-entry=here"}, "is not IP=NAME"},
	} {
		r := n.rkt(append(append([]string{"run", "--rm"}, c.flags...), ref, "--", "true")...)
		if r.code != 125 || !strings.Contains(r.stderr, c.want) || strings.Count(r.stderr, c.want) != 1 {
			t.Errorf("%q: exit code %d, want 125 and %q:\n%s", c.flags, r.code, c.want, r.stderr)
		}
	}
	n.must("gc", "--grace-period=0")
	n.assertNoNetworks()
}

// Many pods at once have addresses of their own.
func TestNetManyAtOnce(t *testing.T) {
	n := newNetHost(t)
	ref := n.image("busybox")
	const count = 24
	var pods []*process
	for range count {
		pods = append(pods, n.start("run", "--rm", "--net=default", ref, "--", "sh", "-c", "ip -4 -o a show eth0; exec sleep 1000"))
	}
	var mu sync.Mutex
	seen := make(map[string]bool)
	for _, p := range pods {
		line := p.line()
		mu.Lock()
		if seen[line] || !strings.Contains(line, "172.16.") {
			t.Errorf("the address %q", line)
		}
		seen[line] = true
		mu.Unlock()
	}
	for _, p := range pods {
		p.stop()
	}
}

// The addresses for pods are none that the host has a route to.
func TestNetAvoidsRoutesOfTheHost(t *testing.T) {
	n := newNetHost(t)
	n.ip("route", "add", "172.16.0.0/12", "via", outsideIP)
	got := n.must("run", "--rm", "--net=default", n.image("busybox"), "--", "ip", "-4", "-o", "a", "show", "eth0")
	if strings.Contains(got, "172.16.") || !strings.Contains(got, "inet 10.171.") {
		t.Errorf("the pod has the address %q", got)
	}
}

// A pod that is killed at any point of its life on a network leaves nothing that
// gc does not find. C1, C4.
func TestNetKilledAtAnyCall(t *testing.T) {
	n := newNetHost(t)
	ref := n.image("busybox")
	args := []string{"run", "--net=default:allow=host", "--publish=" + hostIP + ":8081:80", ref, "--", "true"}
	n.must(args...)
	c := &crash{host: n.host, ref: ref, random: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))}
	command := crashCommand{name: "run --net=default", argv: args}
	deaths := fault{"signal=SIGKILL", []string{"sendto", "sendmsg", "renameat", "renameat2", "openat", "setns", "execve", "exit_group", "unlinkat", "flock", "clone3", "vfork", "clone", "bind", "waitid"}}
	points := c.points(command, deaths)
	c.random.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	begin, tried := time.Now(), 0
	for _, p := range points {
		if time.Since(begin) > 20*time.Second {
			break
		}
		tried++
		c.traced(command, p.call, fmt.Sprintf("inject=%s:%s:when=%d", p.call, deaths.inject, p.n), os.DevNull)
		// What attaches goes on for a moment after its supervisor is dead.
		eventually(t, func() error {
			n.must("gc", "--grace-period=0", "--expire-prepared=0")
			if left := n.must("list", "--no-legend"); left != "" {
				return fmt.Errorf("gc left %s", left)
			}
			return n.leftovers()
		})
		if t.Failed() {
			t.Fatalf("killed at %s number %d", p.call, p.n)
		}
	}
	t.Logf("killed at %d of %d points", tried, len(points))
	if got := n.must("run", "--rm", "--net=default", ref, "--", "echo", "works"); got != "works" {
		t.Errorf("a pod printed %q", got)
	}
}

// plugins is where Debian has those of CNI.
const plugins = "/usr/lib/cni"

// network writes a configuration of CNI.
func (n *netHost) network(file, text string) {
	n.t.Helper()
	dir := filepath.Join(n.conf, "net.d")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// Networks of CNI with plugins of Debian, several at once, with an address that
// the operator wants.
func TestNetCNI(t *testing.T) {
	if _, err := os.Stat(filepath.Join(plugins, "bridge")); err != nil {
		t.Skip("containernetworking-plugins is not installed")
	}
	n := newNetHost(t)
	ipam := func(subnet string) string {
		return `{"type":"host-local","dataDir":"` + n.run + `/ipam","subnet":"` + subnet + `"}`
	}
	n.network("10.conflist", `{"cniVersion":"1.0.0","name":"br","plugins":[{"type":"bridge","bridge":"br0","isGateway":true,"ipam":`+ipam("10.99.0.0/24")+`,"dns":{"nameservers":["192.0.2.5"]}},{"type":"portmap","capabilities":{"portMappings":true}}]}`)
	n.network("20.conf", `{"cniVersion":"0.4.0","name":"point","type":"ptp","ipam":`+ipam("10.98.0.0/24")+`}`)
	n.network("30.conf", `{"cniVersion":"0.4.0","name":"mac","type":"macvlan","master":"lan0","ipam":`+ipam("10.97.0.0/24")+`}`)
	p := n.web("web", "--net=br:IP=10.99.0.77,point,mac,default", "--publish=8080:80")
	ips := fmt.Sprint(n.addresses("web"))
	for _, want := range []string{"10.99.0.77 ", " 10.98.0.", " 10.97.0.", " 172.16."} {
		if !strings.Contains(ips, want) {
			t.Errorf("the pod has the addresses %s, none of them %q", ips, want)
		}
	}
	if got := n.get(n.here, "127.0.0.1:8080"); got != "pod" {
		t.Errorf("the published port answers %q", got)
	}
	if got := n.must("enter", "web", "--", "cat", "/etc/resolv.conf"); got != "nameserver 192.0.2.5" {
		t.Errorf("resolv.conf is %q", got)
	}
	p.cmd.Process.Kill() // DEL comes from what is on disk
	<-p.exited
	n.must("gc", "--grace-period=0")
	left, _ := filepath.Glob(n.run + "/ipam/*/10.*")
	if len(left) > 0 {
		t.Errorf("addresses are left: %q", left)
	}
}

// CR-09: a plugin that is missing, fails half-way, prints garbage or too much, or is
// not root's alone: one clear line, and what was done before it is undone.
func TestNetBadPlugins(t *testing.T) {
	if _, err := os.Stat(filepath.Join(plugins, "ptp")); err != nil {
		t.Skip("containernetworking-plugins is not installed")
	}
	n := newNetHost(t)
	ref := n.image("busybox")
	first := `{"type":"ptp","ipam":{"type":"host-local","dataDir":"` + n.run + `/ipam","subnet":"10.98.0.0/24"}}`
	for name, c := range map[string]struct{ script, want string }{
		"missing": {"", `plugin "rkt-test-missing"`},
		"garbage": {"echo '{{{'", "network \"garbage\""},
		"fails":   {`echo '{"cniVersion":"1.0.0","code":99,"msg":"out of cheese"}'; exit 1`, "out of cheese"},
		"much":    {"cat /dev/zero", "it printed more than"},
	} {
		kind := "rkt-test-" + name
		if c.script != "" {
			path := filepath.Join(plugins, kind)
			// It minds its work only when it is to add.
			if err := os.WriteFile(path, []byte("#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exit 0\n"+c.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Remove(path) })
		}
		n.network("10.conflist", `{"cniVersion":"1.0.0","name":"`+name+`","plugins":[`+first+`,{"type":"`+kind+`"}]}`)
		r := n.rkt("run", "--rm", "--net="+name, ref, "--", "true")
		if r.code != 125 || !strings.Contains(r.stderr, c.want) || strings.Contains(r.stderr, "\x00") {
			t.Errorf("%s: exit code %d, want 125 and %q:\n%s", name, r.code, c.want, r.stderr)
		}
		if left, _ := filepath.Glob(n.run + "/ipam/*/10.*"); len(left) > 0 && name != "missing" {
			t.Errorf("%s: addresses are left: %q", name, left)
		}
		os.Remove(filepath.Join(plugins, kind))
		if name == "missing" { // DEL needs the plugin, too: it comes when that is there
			n.network("10.conflist", `{}`)
			path := filepath.Join(plugins, kind)
			if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			n.must("gc", "--grace-period=0")
			os.Remove(path)
		}
	}
	n.network("10.conflist", `{"cniVersion":"1.0.0","name":"open","plugins":[`+first+`]}`)
	os.Chmod(filepath.Join(n.conf, "net.d", "10.conflist"), 0o666)
	if r := n.rkt("run", "--rm", "--net=open", ref, "--", "true"); r.code != 125 || !strings.Contains(r.stderr, "can be written by others than root") {
		t.Errorf("a configuration that all can write: exit code %d:\n%s", r.code, r.stderr)
	}
	if r := n.rkt("run", "--rm", "--net=escape", ref, "--", "true"); r.code != 125 {
		t.Errorf("a network that is not there: exit code %d", r.code)
	}
	n.must("gc", "--grace-period=0")
}
