package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// start: a static `true` in a pod that is removed, runs back to back.
func start(b *bed, runs int) error {
	all, err := b.starters()
	if err != nil {
		return err
	}
	return compare("run --rm --net=none of a static true, back to back", runs, 0, all)
}

// sparse: the same with idle time in between, as an interactive user sees it.
func sparse(b *bed, runs int) error {
	all, err := b.starters()
	if err != nil {
		return err
	}
	light := all[:0]
	for _, c := range all {
		if c.name != "podman run" {
			light = append(light, c)
		}
	}
	return compare("the same, 0.3 s apart", runs, 300*time.Millisecond, light)
}

func (b *bed) starters() ([]contender, error) {
	ref, err := b.load("busybox")
	if err != nil {
		return nil, err
	}
	all := []contender{{name: "rkt run", argv: b.rkt("run", "--rm", "--net=none", ref, "--", "/bin/true")}}
	root, err := b.unpack("busybox")
	if err != nil {
		return nil, err
	}
	if b.peers["gcc"] {
		floor, err := b.floor(root)
		if err != nil {
			return nil, err
		}
		all = append(all, floor)
	}
	if b.peers["podman"] {
		all = append(all, contender{name: "podman run", argv: b.podman("run", "--rm", "--network=none", "localhost/busybox", "/bin/true")})
		bundle, err := b.bundle(root, []string{"/bin/true"})
		if err != nil {
			return nil, err
		}
		for _, runtime := range []string{"crun", "runc"} {
			if b.peers[runtime] {
				name := filepath.Base(b.dir) + "-" + runtime
				all = append(all, contender{name: runtime + " run, ready bundle, seccomp", argv: []string{runtime, "run", "--bundle", bundle, name}})
			}
		}
	}
	if b.peers["bwrap"] {
		all = append(all, contender{name: "bwrap --unshare-all", argv: []string{"bwrap", "--unshare-all", "--bind", root, "/", "--proc", "/proc", "--dev", "/dev", "/bin/true"}})
	}
	return all, nil
}

// unpack is the root of a test image as a folder.
func (b *bed) unpack(name string) (string, error) {
	dir := filepath.Join(b.dir, "unpacked-"+name)
	root := filepath.Join(dir, "rootfs")
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	layout, err := b.layout(name)
	if err != nil {
		return "", err
	}
	if err := b.must("umoci", "unpack", "--image", layout+":latest", dir); err != nil {
		return "", err
	}
	return root, b.must("mkdir", "-p", root+"/proc", root+"/sys", root+"/dev")
}

// floor compiles floor/floor.c and runs it with the cgroups that rkt makes as well.
func (b *bed) floor(root string) (contender, error) {
	program := filepath.Join(b.dir, "floor")
	if err := b.must("gcc", "-O2", "-static", "-o", program, "tests/bench/floor/floor.c"); err != nil {
		return contender{}, err
	}
	argv := []string{program, root, filepath.Join(b.dir, "scratch")}
	for _, c := range []string{"memory", "pids", "cpu"} {
		if dir := filepath.Join("/sys/fs/cgroup", c); exists(dir) {
			argv = append(argv, filepath.Join(dir, "rkt-bench-floor"))
		}
	}
	if exists("/sys/fs/cgroup/cgroup.controllers") {
		argv = append(argv, "/sys/fs/cgroup/rkt-bench-floor")
	}
	return contender{name: "C floor with cgroups", argv: append(argv, "--", "/bin/true")}, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// bundle is an OCI bundle with the configuration, seccomp filter included,
// that podman writes for a container without network.
func (b *bed) bundle(root string, args []string) (string, error) {
	dir := filepath.Join(b.dir, "bundle")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := b.must(b.podman("create", "--name=template", "--network=none", "localhost/busybox", "sleep", "1000")...); err != nil {
		return "", err
	}
	defer b.quiet(b.podman("rm", "-f", "template")...)
	if err := b.must(b.podman("init", "template")...); err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(b.dir, "podman/root/overlay-containers/*/userdata/config.json"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("podman's configuration of the template: %v %w", found, err)
	}
	var spec map[string]any
	raw, err := os.ReadFile(found[0])
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(raw, &spec); err != nil {
		return "", err
	}
	trimBundle(spec, root, args)
	out, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	return dir, os.WriteFile(filepath.Join(dir, "config.json"), out, 0o644)
}

// trimBundle takes out of a configuration of podman's what only podman has.
func trimBundle(spec map[string]any, root string, args []string) {
	spec["root"] = map[string]any{"path": root}
	delete(spec, "hooks")
	delete(spec, "annotations")
	process := spec["process"].(map[string]any)
	process["args"], process["terminal"] = args, false
	delete(process, "apparmorProfile")
	var mounts []any
	for _, m := range spec["mounts"].([]any) {
		if source, _ := m.(map[string]any)["source"].(string); !strings.HasPrefix(source, "/") {
			mounts = append(mounts, m)
		}
	}
	spec["mounts"] = mounts
	linux := spec["linux"].(map[string]any)
	delete(linux, "cgroupsPath")
	var namespaces []any
	for _, n := range linux["namespaces"].([]any) {
		delete(n.(map[string]any), "path")
		namespaces = append(namespaces, n)
	}
	linux["namespaces"] = namespaces
}

// enter: a static `true` in a running pod.
func enter(b *bed, runs int) error {
	ref, err := b.load("busybox")
	if err != nil {
		return err
	}
	pod, err := startUntil(b.rkt("run", "--name=target", "--net=none", ref, "--", "sh", "-c", "echo ready; exec sleep 10000"), "ready")
	if err != nil {
		return err
	}
	defer func() {
		b.quiet(b.rkt("stop", "--force", "target")...)
		pod.Wait()
	}()
	var status struct{ Apps []struct{ PID int } }
	out, err := exec.Command(b.rkt("status")[0], b.rkt("status", "--format=json", "target")[1:]...).Output()
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, &status); err != nil {
		return err
	}
	all := []contender{
		{name: "rkt enter", argv: b.rkt("enter", "target", "--", "/bin/true")},
		{name: "nsenter (joins no cgroup)", argv: []string{"nsenter", "-a", "-t", fmt.Sprint(status.Apps[0].PID), "/bin/true"}},
	}
	if b.peers["podman"] {
		root, err := b.unpack("busybox")
		if err != nil {
			return err
		}
		bundle, err := b.bundle(root, []string{"/bin/sleep", "10000"})
		if err != nil {
			return err
		}
		if err := b.must(b.podman("run", "-d", "--name=target", "--network=none", "localhost/busybox", "sleep", "10000")...); err != nil {
			return err
		}
		defer b.quiet(b.podman("rm", "-f", "-t", "0", "target")...)
		all = append(all, contender{name: "podman exec", argv: b.podman("exec", "target", "/bin/true")})
		for _, runtime := range []string{"crun", "runc"} {
			if !b.peers[runtime] {
				continue
			}
			id := filepath.Base(b.dir) + "-" + runtime
			// What runs keeps the streams: a pipe would never end.
			if err := exec.Command(runtime, "run", "-d", "--bundle", bundle, id).Run(); err != nil {
				return fmt.Errorf("%s run -d: %w", runtime, err)
			}
			defer b.quiet(runtime, "delete", "-f", id)
			all = append(all, contender{name: runtime + " exec", argv: []string{runtime, "exec", id, "/bin/true"}})
		}
	}
	return compare("enter: a static true in a running pod", runs, 0, all)
}
