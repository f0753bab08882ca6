package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ST-01: one changed byte in a layer or in what it is mounted from is found
// before the app starts, by every driver; the message names the image and what
// repairs it, and that does. The tier is recorded with the pod.
func TestDamagedImageIsNotRun(t *testing.T) {
	for _, driver := range drivers(t) {
		parts := map[string]string{"layer": "cas/blobs/sha256/*", "index": "cas/derived/erofs-1/*"}
		if driver == "dir" {
			parts = map[string]string{"tree": "cas/derived/dir-1/*/root/bin/busybox"}
		}
		for part, glob := range parts {
			t.Run(driver+"/"+part, func(t *testing.T) {
				h := newHost(t)
				h.flags = []string{"--driver=" + driver}
				ref := h.image("busybox")
				r := h.rkt("run", "--rm", ref, "--", "echo", "sound")
				if r.code != 0 {
					t.Fatalf("run: %+v", r)
				}
				h.must("gc", "--images") // nothing stays mounted
				flipByte(t, largest(t, filepath.Join(h.data, glob)))
				afterBoot(t, h)
				h.refuses([]string{"run", "--rm", ref, "--", "echo", "damaged"}, "busybox", "damaged", "rkt fsck --repair; rkt fetch ")
				h.rkt("fsck", "--repair")
				h.must("fetch", ref)
				if got := h.must("run", "--rm", ref, "--", "echo", "whole"); got != "whole" {
					t.Errorf("after repair: %q", got)
				}
			})
		}
	}
}

// The tier of the configuration is the pod's, and a damaged image is found with
// "always" although it was hashed in this boot.
func TestIntegrityTierIsConfigured(t *testing.T) {
	h := newHost(t)
	write(t, filepath.Join(h.conf, "defaults.d/a.json"), `{"rktKind":"defaults","rktVersion":"v1","verify":"always"}`)
	ref := h.image("busybox")
	h.must("run", "--name=tier", ref, "--", "true")
	if status := h.must("status", "tier"); !strings.Contains(status, "\nintegrity=always\n") {
		t.Errorf("status:\n%s", status)
	}
	if shown := h.must("config"); !strings.Contains(shown, "always") || !strings.Contains(shown, "defaults.d/a.json") {
		t.Errorf("config:\n%s", shown)
	}
	h.must("rm", "tier")
	write(t, filepath.Join(h.conf, "defaults.d/a.json"), `{"rktKind":"defaults","rktVersion":"v1","verfy":"always"}`)
	h.refuses([]string{"run", "--rm", ref, "--", "true"}, "defaults.d/a.json", "verfy")
	if err := os.Remove(filepath.Join(h.conf, "defaults.d/a.json")); err != nil {
		t.Fatal(err)
	}
}

// afterBoot forgets which layers were hashed, as a boot does.
func afterBoot(t *testing.T, h *host) {
	t.Helper()
	records, err := filepath.Glob(filepath.Join(h.run, "layers/boot-*/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range records {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
