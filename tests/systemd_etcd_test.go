package tests

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// etcd is a cluster of three members, each of them a pod that is a service.
type etcd struct {
	h       *host
	members []*unit
}

func memberName(i int) string { return fmt.Sprintf("etcd%d", i) }
func clientURL(i int) string  { return fmt.Sprintf("http://127.0.0.1:%d", 23790+2*i) }
func peerURL(i int) string    { return fmt.Sprintf("http://127.0.0.1:%d", 23791+2*i) }

// newEtcd makes the services, and starts them together: etcd says that it is
// ready when a majority is there.
func newEtcd(h *host) *etcd {
	h.t.Helper()
	ref := h.image("etcd")
	var peers, names []string
	for i := range 3 {
		peers = append(peers, memberName(i)+"="+peerURL(i))
	}
	e := &etcd{h: h}
	for i := range 3 {
		data := filepath.Join(filepath.Dir(h.data), memberName(i))
		if err := os.Mkdir(data, 0o700); err != nil {
			h.t.Fatal(err)
		}
		if err := os.Chown(data, 999, 999); err != nil { // etcd of the image
			h.t.Fatal(err)
		}
		lines := []string{"Type=notify", "Delegate=yes", "KillMode=mixed", "Restart=always", "RestartSec=100ms", "TimeoutStartSec=240", "Slice=machine.slice"}
		u := h.newService(memberName(i), lines, "run", "--name="+memberName(i), "--net=host", "--sd-notify=app", ref, "--volume="+data+":/var/lib/etcd", "--",
			"--name="+memberName(i), "--data-dir=/var/lib/etcd/data", "--initial-cluster="+strings.Join(peers, ","), "--initial-cluster-state=new",
			"--listen-client-urls="+clientURL(i), "--advertise-client-urls="+clientURL(i), "--listen-peer-urls="+peerURL(i), "--initial-advertise-peer-urls="+peerURL(i),
			// Patient, for machines without hardware help.
			"--heartbeat-interval=500", "--election-timeout=5000")
		e.members = append(e.members, u)
		names = append(names, u.name)
	}
	mustTool(h.t, "systemctl", append([]string{"start"}, names...)...)
	return e
}

// ctl is etcdctl in the pod of a member, with the members at the addresses of via.
func (e *etcd) ctl(member int, via []int, args ...string) result {
	e.h.t.Helper()
	var urls []string
	for _, i := range via {
		urls = append(urls, clientURL(i))
	}
	all := []string{"enter", memberName(member), "--", "etcdctl", "--endpoints=" + strings.Join(urls, ","), "--dial-timeout=30s", "--command-timeout=60s"}
	return e.h.rkt(append(all, args...)...)
}

// must is ctl for a command that must succeed; it returns its stdout.
func (e *etcd) must(member int, via []int, args ...string) string {
	e.h.t.Helper()
	r := e.ctl(member, via, args...)
	if r.code != 0 {
		e.h.t.Fatalf("etcdctl %s: exit code %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// put writes n keys with a prefix through one member. An answer that the
// leader is gone is the client's to try again.
func (e *etcd) put(via int, prefix string, n int) {
	e.h.t.Helper()
	const script = `i=0; tries=0
while [ $i -lt %[3]d ]; do
	if etcdctl --endpoints=%[1]s --command-timeout=60s put %[2]s$i value$i >/dev/null; then i=$((i + 1)); continue; fi
	tries=$((tries + 1)); [ $tries -lt 10 ] || exit 1
done`
	e.h.must("enter", memberName(via), "--", "sh", "-c", fmt.Sprintf(script, clientURL(via), prefix, n))
}

// assertKeys finds n keys with a prefix at one member, which asks no other.
func (e *etcd) assertKeys(via int, prefix string, n int) {
	e.h.t.Helper()
	lines := strings.Split(strings.TrimSpace(e.must(via, []int{via}, "get", "--consistency=s", "--prefix", prefix)), "\n")
	got := map[string]string{}
	for i := 0; i+1 < len(lines); i += 2 {
		got[lines[i]] = lines[i+1]
	}
	for i := range n {
		if key := prefix + strconv.Itoa(i); got[key] != "value"+strconv.Itoa(i) {
			e.h.t.Errorf("%s has %q for %s", memberName(via), got[key], key)
		}
	}
}

// assertHealthy waits until every member answers, and finds three of them.
func (e *etcd) assertHealthy() {
	e.h.t.Helper()
	eventually(e.h.t, func() error {
		if r := e.ctl(0, []int{0, 1, 2}, "endpoint", "health"); r.code != 0 {
			return fmt.Errorf("endpoint health: %s%s", r.stdout, r.stderr)
		}
		return nil
	})
	var list struct {
		Members []struct {
			Name       string
			ClientURLs []string
		}
	}
	if err := json.Unmarshal([]byte(e.must(0, []int{0}, "member", "list", "--write-out=json")), &list); err != nil {
		e.h.t.Fatal(err)
	}
	for i := range list.Members {
		if m := list.Members[i]; len(m.ClientURLs) != 1 {
			e.h.t.Errorf("the member %q has not joined: %v", m.Name, m.ClientURLs)
		}
	}
	if len(list.Members) != 3 {
		e.h.t.Errorf("the cluster has %d members, want 3: %v", len(list.Members), list.Members)
	}
}

// mainPID is the process that was rkt.
func (u *unit) mainPID() int {
	u.t.Helper()
	pid, err := strconv.Atoi(u.property("MainPID"))
	if err != nil || pid == 0 {
		u.t.Fatalf("%s has the main process %d (%v)", u.name, pid, err)
	}
	return pid
}

// TestSystemdEtcd runs etcd as CoreOS did. Whatever is killed of a member, it
// comes back, the others go on meanwhile, and the cluster has lost nothing.
func TestSystemdEtcd(t *testing.T) {
	needSystemd(t)
	h := newHost(t)
	e := newEtcd(h)
	e.assertHealthy()
	e.put(0, "first", 5)

	for round, kill := range []struct {
		what   string
		member int
		pid    func(*unit) int
	}{
		{"the app", 1, func(u *unit) int { return h.appPID(memberName(1)) }},
		{"the supervisor", 2, (*unit).mainPID},
	} {
		u := e.members[kill.member]
		if err := syscall.Kill(kill.pid(u), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		prefix := fmt.Sprintf("round%d-", round)
		e.put(0, prefix, 5) // two of three are enough
		eventually(t, func() error {
			if n := u.property("NRestarts"); n != "1" {
				return fmt.Errorf("%s killed: %s restarts, want 1", kill.what, n)
			}
			return nil
		})
		u.becomes("ActiveState", "active")
		e.assertHealthy()
		for i := range e.members {
			e.assertKeys(i, "first", 5)
			e.assertKeys(i, prefix, 5)
		}
	}
	for _, u := range e.members {
		u.stop()
		u.becomes("ActiveState", "inactive")
	}
}
