package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// memory: 20 pods of the python image with the same modules imported; and what
// a supervisor costs.
func memory(b *bed, _ int) error {
	ref, err := b.load("python")
	if err != nil {
		return err
	}
	const pods = 20
	program := "import numpy, django, json, ssl, sqlite3, decimal, asyncio; print('ready', flush=True); import time; time.sleep(10000)"
	fmt.Printf("\n### %d pods of the python image, all with the same modules\n\n| | page cache + anonymous MB | helpers' PSS kB each |\n|---|---|---|\n", pods)
	kinds := []struct {
		name    string
		argv    func(i int) []string
		helper  string
		collect func()
	}{
		{"rkt", func(i int) []string {
			return b.rkt("run", fmt.Sprintf("--name=m%d", i), "--net=none", ref, "--", "python3", "-c", program)
		}, "stage1", func() { b.stopAll(pods, "m") }},
		{"podman", func(i int) []string {
			return b.podman("run", fmt.Sprintf("--name=m%d", i), "--network=none", "localhost/python", "python3", "-c", program)
		}, "conmon", func() { b.quiet(b.podman("rm", "-fa", "-t", "0")...) }},
	}
	for _, k := range kinds {
		if k.name == "podman" && !b.peers["podman"] {
			continue
		}
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0); err != nil {
			return err
		}
		before := inUse()
		var cmds []*exec.Cmd
		for i := range pods {
			cmd, err := startUntil(k.argv(i), "ready")
			if err != nil {
				return err
			}
			cmds = append(cmds, cmd)
		}
		fmt.Printf("| %s | %.0f | %d |\n", k.name, float64(inUse()-before)/1e6, pssOf(k.helper)/1000)
		k.collect()
		for _, c := range cmds {
			c.Wait()
		}
	}
	return nil
}

// startUntil starts a command and waits for a line of its stdout.
func startUntil(argv []string, line string) (*exec.Cmd, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := bufio.NewScanner(out)
	for s.Scan() {
		if s.Text() == line {
			return cmd, nil
		}
	}
	return nil, fmt.Errorf("%v ended before it printed %q", argv, line)
}

func (b *bed) stopAll(n int, prefix string) {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("%s%d", prefix, i))
	}
	b.quiet(b.rkt(append([]string{"stop", "--force"}, names...)...)...)
	b.quiet(b.rkt("gc", "--grace-period=0")...)
}

// inUse is page cache and anonymous memory of the machine in bytes.
func inUse() int64 {
	var sum int64
	b, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch f[0] {
		case "Cached:", "AnonPages:", "Buffers:":
			n, _ := strconv.ParseInt(f[1], 10, 64)
			sum += n << 10
		}
	}
	return sum
}

// pssOf is the mean proportional set size of the processes of a name, in bytes.
func pssOf(name string) int64 {
	var sum, n int64
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range all {
		comm, _ := os.ReadFile(p + "/comm")
		if strings.TrimSpace(string(comm)) != name {
			continue
		}
		b, _ := os.ReadFile(p + "/smaps_rollup")
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); f[0] == "Pss:" {
				kb, _ := strconv.ParseInt(f[1], 10, 64)
				sum += kb << 10
				n++
			}
		}
	}
	if n == 0 {
		return 0
	}
	return sum / n
}

// residentTree is the resident size of a process and all below it, in bytes.
func residentTree(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(f[1], 10, 64)
	sum := pages * int64(os.Getpagesize())
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, t := range tasks {
		b, _ := os.ReadFile(t)
		for _, c := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(c); err == nil {
				sum += residentTree(child)
			}
		}
	}
	return sum
}

// many: 50 pods started 8 at a time, then stopped and removed.
func many(b *bed, _ int) error {
	ref, err := b.load("busybox")
	if err != nil {
		return err
	}
	const pods, atOnce = 50, 8
	fmt.Printf("\n### %d pods, %d at a time\n\n| | start s | stop and remove s |\n|---|---|---|\n", pods, atOnce)
	var waits sync.WaitGroup
	began := time.Now()
	err = inParallel(pods, atOnce, func(i int) error {
		cmd, err := startUntil(b.rkt("run", fmt.Sprintf("--name=n%d", i), "--net=none", ref, "--", "sh", "-c", "echo ready; exec sleep 10000"), "ready")
		if err == nil {
			waits.Go(func() { cmd.Wait() })
		}
		return err
	})
	if err != nil {
		return err
	}
	started := time.Since(began)
	began = time.Now()
	err = inParallel(pods, atOnce, func(i int) error {
		name := fmt.Sprintf("n%d", i)
		if err := b.must(b.rkt("stop", "--force", name)...); err != nil {
			return err
		}
		return b.must(b.rkt("rm", name)...)
	})
	if err != nil {
		return err
	}
	fmt.Printf("| rkt | %.2f | %.2f |\n", started.Seconds(), time.Since(began).Seconds())
	waits.Wait()
	if !b.peers["podman"] {
		return nil
	}
	began = time.Now()
	err = inParallel(pods, atOnce, func(i int) error {
		return b.must(b.podman("run", "-d", fmt.Sprintf("--name=n%d", i), "--network=none", "localhost/busybox", "sleep", "10000")...)
	})
	if err != nil {
		return err
	}
	started = time.Since(began)
	began = time.Now()
	if err := inParallel(pods, atOnce, func(i int) error { return b.must(b.podman("rm", "-f", "-t", "0", fmt.Sprintf("n%d", i))...) }); err != nil {
		return err
	}
	fmt.Printf("| podman | %.2f | %.2f |\n", started.Seconds(), time.Since(began).Seconds())
	return nil
}

func inParallel(n, atOnce int, do func(i int) error) error {
	errs := make(chan error, n)
	slots := make(chan struct{}, atOnce)
	for i := range n {
		slots <- struct{}{}
		go func() {
			errs <- do(i)
			<-slots
		}()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// list: 200 pods in the store.
func list(b *bed, runs int) error {
	ref, err := b.load("busybox")
	if err != nil {
		return err
	}
	if err := inParallel(200, 2, func(int) error { return b.must(b.rkt("prepare", ref, "--", "true")...) }); err != nil {
		return err
	}
	all := []contender{{name: "rkt list", argv: b.rkt("list")}}
	if b.peers["podman"] {
		for i := range 200 {
			if err := b.must(b.podman("create", fmt.Sprintf("--name=l%d", i), "--network=none", "localhost/busybox", "true")...); err != nil {
				return err
			}
		}
		all = append(all, contender{name: "podman ps -a", argv: b.podman("ps", "-a")})
	}
	return compare("list with 200 pods", runs, 0, all)
}
