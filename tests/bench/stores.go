package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// fetch: the image of 1 GB in 7 layers from a registry on loopback, into a
// fresh store each time. Nothing is deleted in between: a file system that has
// just deleted much is slower for a while.
func fetch(b *bed, runs int) error {
	addr, stop, err := b.registry("big")
	if err != nil {
		return err
	}
	defer stop()
	runs = min(runs, 5)
	all := []contender{{name: "rkt fetch", command: func(round int) []string {
		return b.rktIn(fmt.Sprintf("fetch-%d", round), "--insecure-options=image,http", "fetch", addr+"/big:latest")
	}}}
	if b.peers["podman"] {
		all = append(all, contender{name: "podman pull", command: func(round int) []string {
			return b.podmanIn(fmt.Sprintf("pull-%d", round), "pull", "-q", "--tls-verify=false", addr+"/big:latest")
		}})
	}
	for i := range all {
		all[i].before = func(int) error { syscall.Sync(); return nil }
	}
	if err := compare("fetch of 1 GB, 75,000 files, 7 gzip layers from loopback, fresh stores", runs, 0, all); err != nil {
		return err
	}
	return b.peakMemory(addr)
}

// registry serves a test image over http on loopback.
func (b *bed) registry(image string) (addr string, stop func(), err error) {
	layout, err := b.layout(image)
	if err != nil {
		return "", nil, err
	}
	addr = "127.0.0.1:5999"
	config := filepath.Join(b.dir, "registry.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s/registry}}\nhttp: {addr: %q}\n", b.dir, addr)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return "", nil, err
	}
	cmd := exec.Command(filepath.Join(b.bin, "tests/registry"), "serve", config)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() { cmd.Process.Kill(); cmd.Wait() }
	for range 200 {
		resp, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			resp.Body.Close()
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return addr, stop, b.must("skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "oci:"+layout+":latest", "docker://"+addr+"/"+image+":latest")
}

// peakMemory prints the largest resident size that all processes of one rkt
// fetch had together, sampled every 5 ms.
func (b *bed) peakMemory(addr string) error {
	argv := b.rktIn("fetch-peak", "--insecure-options=image,http", "fetch", addr+"/big:latest")
	cmd := exec.Command(argv[0], argv[1:]...)
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var peak int64
	for {
		select {
		case err := <-done:
			fmt.Printf("\npeak resident size of all processes of a fetch: %.0f MB\n", float64(peak)/1e6)
			return err
		case <-tick.C:
			peak = max(peak, residentTree(cmd.Process.Pid))
		}
	}
}

// remove: the same image taken off the store, beside rm -rf of the unpacked tree.
func remove(b *bed, runs int) error {
	runs = min(runs, 3)
	layout, err := b.layout("big")
	if err != nil {
		return err
	}
	tree := filepath.Join(b.dir, "tree")
	return compare("removing that image from the store", runs, 0, []contender{
		{
			name:   "rkt image rm; rkt gc --images",
			argv:   []string{"sh", "-c", `"$@" image rm oci:` + layout + ` && "$@" gc --images`, "sh", b.rktIn("removal")[0], b.rktIn("removal")[1], b.rktIn("removal")[2], b.rktIn("removal")[3]},
			before: func(int) error { defer syscall.Sync(); return b.must(b.rktIn("removal", "fetch", "oci:"+layout)...) },
		},
		{
			name: "rm -rf of the unpacked tree",
			argv: []string{"rm", "-rf", tree},
			before: func(int) error {
				defer syscall.Sync()
				return b.must("umoci", "unpack", "--image", layout+":latest", tree)
			},
		},
	})
}
