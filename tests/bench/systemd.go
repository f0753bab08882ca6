package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// booted says whether systemd is the init of this machine.
func booted() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// units: from the moment systemd begins to start a unit to READY=1, for a
// program that says so at once, as a service and as a pod that is one.
func units(b *bed, runs int) error {
	if !booted() {
		return nil
	}
	ref, err := b.load("busybox")
	if err != nil {
		return err
	}
	program := filepath.Join(b.bin, "tests/probe")
	pod := func(flags ...string) []string {
		flags = append(append([]string{"run", "--rm", "--net=none"}, flags...), ref, "-v", program+":/probe:ro", "--", "/probe", "notify")
		return b.rkt(flags...)
	}
	var all []contender
	for i, s := range []struct {
		name string
		argv []string
	}{
		{"rkt run, when the app says so", pod("--sd-notify=app")},
		{"rkt run, when the app runs", pod()},
		{"the same, --register=no", pod("--register=no")},
		{"a plain service", []string{program, "notify"}},
	} {
		unit := fmt.Sprintf("rkt-bench%d.service", i)
		path := filepath.Join("/run/systemd/system", unit)
		text := "[Service]\nType=notify\nDelegate=yes\nKillMode=mixed\nExecStart=" + strings.Join(s.argv, " ") + "\n"
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
		defer os.Remove(path)
		defer b.quiet("systemctl", "stop", unit)
		all = append(all, contender{
			name: s.name, argv: []string{"systemctl", "start", unit},
			took:  func() (time.Duration, error) { return untilReady(unit) },
			after: func(int) error { return b.must("systemctl", "stop", unit) },
		})
	}
	if err := b.must("systemctl", "daemon-reload"); err != nil {
		return err
	}
	return compare("unit start to READY=1 of a program that is ready at once", runs, 0, all)
}

// untilReady is what systemd says of the last start of a unit.
func untilReady(unit string) (time.Duration, error) {
	out, err := exec.Command("systemctl", "show", "--property=InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic", unit).Output()
	if err != nil {
		return 0, err
	}
	at := map[string]int64{}
	for line := range strings.Lines(string(out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if at[name], err = strconv.ParseInt(value, 10, 64); err != nil {
			return 0, err
		}
	}
	return time.Duration(at["ActiveEnterTimestampMonotonic"]-at["InactiveExitTimestampMonotonic"]) * time.Microsecond, nil
}

// scopes: what it takes to run a pod in a scope of its own, by rkt and by
// systemd-run. The last two together are what rkt saves.
func scopes(b *bed, runs int) error {
	if !booted() {
		return nil
	}
	ref, err := b.load("busybox")
	if err != nil {
		return err
	}
	pod := func(flags ...string) []string {
		return b.rkt(append(append([]string{"run", "--rm", "--net=none", "--register=no"}, flags...), ref, "--", "/bin/true")...)
	}
	return compare("a pod in a scope of its own", runs, 0, []contender{
		{name: "rkt run --scope=yes", argv: pod("--scope=yes")},
		{name: "systemd-run --scope true; rkt run --scope=no", argv: append([]string{"sh", "-c", `systemd-run --quiet --scope true && exec "$@"`, "sh"}, pod("--scope=no")...)},
		{name: "rkt run --scope=no", argv: pod("--scope=no")},
		{name: "systemd-run --scope true", argv: []string{"systemd-run", "--quiet", "--scope", "true"}},
	})
}

// supervisors: the memory of the process that each idle pod has beside it.
func supervisors(b *bed, _ int) error {
	if !booted() {
		return nil
	}
	ref, err := b.load("busybox")
	if err != nil {
		return err
	}
	kinds := []supervisor{{"rkt", "stage1", func(i int) []string {
		return b.rkt("run", "--detach", fmt.Sprintf("--name=s%d", i), "--net=none", ref, "--", "sleep", "100000")
	}, func(n int) { b.stopAll(n, "s") }}}
	if b.peers["podman"] && b.peers["skopeo"] {
		kinds = append(kinds, supervisor{"conmon", "conmon", func(i int) []string {
			return b.podman("run", "--detach", fmt.Sprintf("--name=s%d", i), "--network=none", "localhost/busybox", "sleep", "100000")
		}, func(int) { b.quiet(b.podman("rm", "-fa", "-t", "0")...) }})
	}
	if b.peers["containerd"] && b.peers["ctr"] {
		shim, stop, err := b.containerd()
		if err != nil {
			return err
		}
		defer stop()
		kinds = append(kinds, shim)
	}
	fmt.Printf("\n### The supervisor of an idle pod, PSS in KiB each\n\n| | 1 pod | 50 pods | ratio at 50 |\n|---|---|---|---|\n")
	var base float64
	for _, k := range kinds {
		one, err := k.measure(b, 1)
		if err != nil {
			return err
		}
		fifty, err := k.measure(b, 50)
		if err != nil {
			return err
		}
		if base == 0 {
			base = fifty
		}
		fmt.Printf("| %s | %.0f | %.0f | %.2f |\n", k.name, one, fifty, fifty/base)
	}
	return nil
}

// supervisor is a way to have detached pods, and the process each has beside it.
type supervisor struct {
	name, process string
	run           func(i int) []string
	collect       func(n int)
}

// measure is the mean PSS in KiB of the supervisors of n pods.
func (s supervisor) measure(b *bed, n int) (float64, error) {
	defer s.collect(n)
	for i := range n {
		argv := s.run(i)
		if err := b.must(argv...); err != nil {
			return 0, err
		}
	}
	return float64(settled(func() int64 { return pssOf(s.process) })) / 1024, nil
}

// settled is a value that has become what it stays: a process that is idle
// gives back what its start needed.
func settled(value func() int64) int64 {
	last := value()
	for same := 0; same < 3; {
		time.Sleep(2 * time.Second)
		now := value()
		if same++; now*100 < last*99 || last*101 < now*100 {
			same = 0
		}
		last = now
	}
	return last
}

// containerd starts a containerd with the busybox image, whose pods have shims.
func (b *bed) containerd() (_ supervisor, stop func(), err error) {
	dir := filepath.Join(b.dir, "containerd")
	socket := filepath.Join(dir, "sock")
	daemon := exec.Command("containerd", "--root", dir+"/root", "--state", dir+"/state", "--address", socket, "--log-level", "error")
	if err := daemon.Start(); err != nil {
		return supervisor{}, nil, err
	}
	stop = func() {
		daemon.Process.Kill()
		daemon.Wait()
	}
	ctr := func(args ...string) []string { return append([]string{"ctr", "--address", socket}, args...) }
	for range 600 { // it has no event for a client to wait on
		if exec.Command("ctr", "--address", socket, "version").Run() == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	layout, err := b.layout("busybox")
	if err == nil {
		err = b.must("tar", "-C", layout, "-cf", dir+"/image.tar", ".")
	}
	if err == nil {
		err = b.must(ctr("images", "import", "--base-name", "localhost/busybox", dir+"/image.tar")...)
	}
	if err != nil {
		stop()
		return supervisor{}, nil, err
	}
	return supervisor{"containerd-shim", "containerd-shim", func(i int) []string {
		return ctr("run", "--detach", "--null-io", "localhost/busybox:latest", fmt.Sprintf("s%d", i), "sleep", "100000")
	}, func(n int) {
		for i := range n {
			b.quiet(ctr("task", "kill", "--signal", "9", fmt.Sprintf("s%d", i))...)
			b.quiet(ctr("task", "rm", "--force", fmt.Sprintf("s%d", i))...)
			b.quiet(ctr("container", "rm", fmt.Sprintf("s%d", i))...)
		}
	}}, stop, nil
}
