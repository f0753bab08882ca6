package tests

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestNginxServesThroughHostNetworking(t *testing.T) {
	h := newHost(t)
	r := newRegistry(t)
	ref := r.push("nginx", "library/nginx")
	h.knows(r)
	h.must("trust", "add", "--accept", r.addr)
	p := h.start("run", "--rm", "--net=host", ref)
	eventually(t, func() error {
		resp, err := http.Get("http://127.0.0.1:8080/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if string(b) != "served from a pod\n" {
			return fmt.Errorf("nginx served %q", b)
		}
		return nil
	})
	if code := p.stop(); code != 0 {
		t.Errorf("nginx ended with %d: %s", code, p.stderr)
	}
}

func TestRedisAnswersAfterGosu(t *testing.T) {
	h := newHost(t)
	ref := h.image("redis")
	p := h.start("run", "--name=redis", ref)
	eventually(t, func() error {
		if got := h.rkt("enter", "redis", "--", "redis-cli", "ping").stdout; got != "PONG\n" {
			return fmt.Errorf("redis answered %q; its output: %s", got, p.stderr)
		}
		return nil
	})
	if got := h.must("enter", "redis", "--", "sh", "-c", "grep ^Uid /proc/1/status"); !strings.Contains(got, "999") {
		t.Errorf("redis does not run as its user: %q", got)
	}
	p.stop()
}

// A volume of the image is a folder of the root that stays writable.
func TestVolumeOfTheImageHoldsWhatTheImageHas(t *testing.T) {
	h := newHost(t)
	ref := h.image("redis")
	const look = "stat -c %U /data; grep -q ' /data ' /proc/mounts && touch /data/new && stat -c %u /data/new; touch /new 2>/dev/null && echo the root is writable"
	if got := h.rkt("run", "--rm", ref, "--readonly-rootfs", "--exec=/bin/sh", "--", "-c", look).stdout; got != "root\n0\n" {
		t.Errorf("got %q", got)
	}
}

func TestPythonImportsItsModules(t *testing.T) {
	h := newHost(t)
	ref := h.image("python")
	got := h.must("run", "--rm", ref, "--", "python3", "-c", "import json, ssl, sqlite3, django; print(json.dumps({'ok': sum(range(10))}))")
	if got != `{"ok": 45}` {
		t.Errorf("got %q", got)
	}
}

func TestTwentyPodsAtOnce(t *testing.T) {
	h := newHost(t)
	h.image("busybox")
	var all []*process
	for i := range 20 {
		ref := "oci:" + layout(t, "busybox")
		all = append(all, h.start("run", fmt.Sprintf("--name=pod%d", i), ref, "--", "sh", "-c", "cut -d' ' -f7- /proc/self/uid_map >/dev/null; awk '{print $2}' /proc/self/uid_map; exec sleep 1000"))
	}
	seen := map[string]bool{}
	for _, p := range all {
		base := p.line()
		if seen[base] {
			t.Errorf("two pods have the id range at %s", base)
		}
		seen[base] = true
	}
	if n := strings.Count(h.must("list", "--no-legend"), "running"); n != 20 {
		t.Errorf("list shows %d running pods", n)
	}
	for i := range all {
		h.must("stop", "--force", fmt.Sprintf("pod%d", i))
	}
	for _, p := range all {
		p.wait()
	}
}
