package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rkt/stage1/contract"
)

func newRegistry(t *testing.T) (*Host, *registry) {
	t.Helper()
	h := &Host{RunDir: filepath.Join(t.TempDir(), "run")}
	r, err := h.open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return h, r
}

// Each pod has an address of its own, within the network, until there are none.
func TestClaimsAreUniqueUntilNoneIsLeft(t *testing.T) {
	_, r := newRegistry(t)
	in := addresses{v4: netip.MustParsePrefix("10.0.0.0/28"), v6: netip.MustParsePrefix("fd00::/112")}
	gw4, gw6 := in.gateway()
	seen := map[netip.Addr]bool{gw4: true, gw6: true, netip.MustParseAddr("10.0.0.0"): true, netip.MustParseAddr("10.0.0.15"): true}
	for i := range 13 {
		l, err := r.claim(lease{UUID: fmt.Sprint("pod", i)}, in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if seen[l.IP4] || seen[l.IP6] || !in.v4.Contains(l.IP4) || !in.v6.Contains(l.IP6) {
			t.Errorf("pod %d has %s and %s", i, l.IP4, l.IP6)
		}
		seen[l.IP4], seen[l.IP6] = true, true
	}
	if _, err := r.claim(lease{UUID: "one more"}, in, nil); !errors.Is(err, ErrNoAddress) {
		t.Errorf("the fourteenth pod gets %v, want ErrNoAddress", err)
	}
	all, err := r.leases()
	if err != nil || len(all) != 13 {
		t.Fatalf("%d leases, %v", len(all), err)
	}
	if err := r.drop(all[5].IP4); err != nil {
		t.Fatal(err)
	}
	if l, err := r.claim(lease{UUID: "one more"}, in, nil); err != nil || l.IP4 != all[5].IP4 {
		t.Errorf("after one was given back, a claim gets %s, %v, want %s", l.IP4, err, all[5].IP4)
	}
}

// A skipped address is not given, and a damaged lease is nobody's but stays taken.
func TestClaimsGoRoundWhatIsTaken(t *testing.T) {
	_, r := newRegistry(t)
	in := addresses{v4: netip.MustParsePrefix("10.0.0.0/29")}
	if err := os.WriteFile(r.path(netip.MustParseAddr("10.0.0.2")), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	skip := map[netip.Addr]bool{netip.MustParseAddr("10.0.0.3"): true, netip.MustParseAddr("10.0.0.4"): true, netip.MustParseAddr("10.0.0.5"): true}
	l, err := r.claim(lease{UUID: "pod"}, in, skip)
	if err != nil || l.IP4.String() != "10.0.0.6" {
		t.Errorf("claimed %s, %v, want 10.0.0.6", l.IP4, err)
	}
	if all, err := r.leases(); err != nil || len(all) != 1 || all[0].UUID != "pod" {
		t.Errorf("leases %v, %v", all, err)
	}
}

// The addresses of pods avoid what the host has, stay as they were chosen, and are
// refused when there are none.
func TestChoose(t *testing.T) {
	taken := func(list ...string) func() ([]netip.Prefix, error) {
		return func() (all []netip.Prefix, err error) {
			for _, s := range list {
				all = append(all, netip.MustParsePrefix(s))
			}
			return all, nil
		}
	}
	_, r := newRegistry(t)
	if p, err := r.choose(taken("172.16.31.0/24", "10.171.0.0/16", "192.168.0.0/16")); err == nil {
		t.Errorf("chose %s, where the host has all", p)
	}
	if p, err := r.choose(taken("172.16.0.0/12")); err != nil || p != candidates()[1] {
		t.Errorf("chose %s, %v, want %s", p, err, candidates()[1])
	}
	if p, err := r.choose(taken()); err != nil || p != candidates()[1] {
		t.Errorf("then chose %s, %v, want what was chosen before", p, err)
	}
}

// The two networks do not overlap.
func TestSplit(t *testing.T) {
	for _, all := range candidates() {
		a, b := split(all, false), split(all, true)
		if a.v4.Overlaps(b.v4) || a.v6.IsValid() && a.v6.Overlaps(b.v6) || !all.Contains(a.v4.Addr()) || !all.Contains(b.v4.Addr()) {
			t.Errorf("%s is split into %v and %v", all, a, b)
		}
		last, _ := a.address(a.count() - 1)
		if !a.v4.Contains(last) || last.Next().Next() == last || a.v4.Contains(last.Next().Next()) {
			t.Errorf("the last address of %s is %s", a.v4, last)
		}
	}
}

// A port goes to the pod's address of the same version of IP.
func TestPublishPort(t *testing.T) {
	l := &lease{IP4: netip.MustParseAddr("10.0.0.2"), IP6: netip.MustParseAddr("fd00::2")}
	for _, c := range []struct{ at, set, key, value string }{
		{"192.0.2.1", "publish4", "\xc0\x00\x02\x01\x11\x00\x00\x00\x1f\x90\x00\x00", "\x0a\x00\x00\x02\x00\x50\x00\x00"},
		{"0.0.0.0", "any4", "\x11\x00\x00\x00\x1f\x90\x00\x00", "\x0a\x00\x00\x02\x00\x50\x00\x00"},
		{"::", "any6", "\x11\x00\x00\x00\x1f\x90\x00\x00", string(l.IP6.AsSlice()) + "\x00\x50\x00\x00"},
	} {
		var got []string
		publishPort(l, contract.Port{Protocol: "udp", HostIP: c.at, HostPort: 8080, PodPort: 80}, func(set string, key, value []byte) {
			got = append(got, set, string(key), string(value))
		})
		if want := []string{c.set, c.key, c.value}; fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
			t.Errorf("%s: %q, want %q", c.at, got, want)
		}
	}
}

// Names of interfaces differ by pod, network and run directory, and fit.
func TestHostNames(t *testing.T) {
	seen := map[string]bool{}
	for _, run := range []string{"/run/rkt", "/tmp/run"} {
		for _, uuid := range []string{"11111111-2222-4333-8444-555555555555", "21111111-2222-4333-8444-555555555555"} {
			for _, letter := range "dr" {
				name := (&Host{RunDir: run}).hostName(kind{letter: byte(letter)}, uuid)
				if seen[name] || len(name) > 15 || !strings.HasPrefix(name, "rkt") {
					t.Errorf("the name %q", name)
				}
				seen[name] = true
			}
		}
	}
}

func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "plugin")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// A plugin that hangs is ended, with what it has started; one that floods is cut
// off; one that fails is quoted. None sees this process's environment.
func TestPlugins(t *testing.T) {
	t.Setenv("SECRET", "secret")
	mark := filepath.Join(t.TempDir(), "pid")
	for _, c := range []struct{ name, script, want string }{
		{"hangs", "sleep 1000 & echo $! >" + mark + "; wait", "took longer than"},
		{"floods", "exec cat /dev/zero", "printed more than"},
		{"fails", `echo '{"code":7,"msg":"no more addresses"}'; exit 1`, "no more addresses"},
		{"mutters", "echo oh dear >&2; exit 3", "oh dear"},
		{"leaves a daemon", "sleep 3 >/dev/null & exit 1", "exit status 1"},
	} {
		e := &executor{limit: 5 * time.Second}
		if c.name == "hangs" {
			e.limit = 500 * time.Millisecond
		}
		begin := time.Now()
		if _, err := e.ExecPlugin(t.Context(), script(t, c.script), nil, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("a plugin that %s: %v, want %q", c.name, err, c.want)
		}
		if time.Since(begin) > 20*time.Second {
			t.Errorf("a plugin that %s took %s", c.name, time.Since(begin))
		}
	}
	b, _ := os.ReadFile(mark)
	if stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(b)) + "/stat"); err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("what the plugin has started is alive: %s", stat)
	}
	out, err := (&executor{limit: 5 * time.Second}).ExecPlugin(t.Context(), script(t, "env; cat"), []byte("input"), []string{"CNI_COMMAND=ADD", "SECRET=secret", "PATH=/evil"})
	if err != nil || strings.Contains(string(out), "secret") || strings.Contains(string(out), "evil") || !strings.Contains(string(out), "CNI_COMMAND=ADD") || !strings.HasSuffix(string(out), "input") {
		t.Errorf("a plugin sees %q, %v", out, err)
	}
}

// What others than root can write does not configure anything.
func TestConfigurationsAreRoots(t *testing.T) {
	dir := t.TempDir()
	h := &Host{ConfigDirs: []string{filepath.Join(dir, "missing"), dir}}
	write := func(file, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, file)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o644), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
	}
	const list = `{"cniVersion":"1.1.0","name":%q,"plugins":[{"type":"bridge"}]}`
	write("10.conflist", fmt.Sprintf(list, "good"), 0o644)
	write("20.conflist", fmt.Sprintf(list, "open"), 0o666)
	write("30.conflist", "garbage", 0o644)
	if l, err := h.findList("good"); err != nil || l == nil || l.Name != "good" {
		t.Errorf("good: %v, %v", l, err)
	}
	if l, err := h.findList("open"); err == nil {
		t.Errorf("open: %v, want an error", l)
	}
	if l, err := h.findList(Default); err != nil || l != nil {
		t.Errorf("default: %v, %v, want the built-in one", l, err)
	}
	if _, err := h.findList("other"); err == nil || !strings.Contains(err.Error(), "30.conflist") {
		t.Errorf("other: %v, want the file that does not parse", err)
	}
}
