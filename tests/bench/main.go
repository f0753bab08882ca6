// Command bench measures rkt beside whatever of the C floor, crun, runc,
// podman and bubblewrap is installed, in interleaved runs on one machine, and
// prints tables in Markdown with the ratio to rkt. It runs as root, keeps what
// it needs under a folder of its own, and leaves nothing. Sections that need
// systemd print nothing where it is not the init: see make bench-vm.
//
//	bench [-n RUNS] [-only REGEXP]
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
)

func main() {
	runs := flag.Int("n", 21, "rounds of each comparison")
	only := flag.String("only", "", "run the sections whose name matches")
	bin := flag.String("bin", "bin", "folder of the built programs")
	cache := flag.String("cache", "/var/cache/rkt-tests", "folder of the images")
	flag.Parse()
	if err := bench(*runs, *only, *bin, *cache); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(runs int, only, bin, cache string) (err error) {
	if os.Getenv("RKT_BENCH_NAMESPACE") == "" {
		return inNamespace()
	}
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	b, err := newBed(bin, cache)
	if err != nil {
		return err
	}
	defer b.remove()
	for _, s := range []struct {
		name string
		run  func(*bed, int) error
	}{
		{"start", start}, {"sparse", sparse}, {"enter", enter}, {"fetch", fetch}, {"remove", remove},
		{"memory", memory}, {"many", many}, {"list", list},
		{"systemd-units", units}, {"systemd-scopes", scopes}, {"systemd-supervisors", supervisors},
	} {
		if !pattern.MatchString(s.name) {
			continue
		}
		if err := s.run(b, runs); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// inNamespace runs this program again in a mount namespace that shows either
// cgroup v1 or v2, because crun refuses to work where both are.
func inNamespace() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	script := `if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi; exec "$@"`
	cmd := exec.Command("sh", append([]string{"-c", script, "sh", self}, os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), "RKT_BENCH_NAMESPACE=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	return cmd.Run()
}

// bed is what all sections stand on: images, stores, bundles.
type bed struct {
	dir, bin, cache string
	peers           map[string]bool
}

func newBed(bin, cache string) (*bed, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("/var/tmp", "rkt-bench-")
	if err != nil {
		return nil, err
	}
	b := &bed{dir: dir, bin: bin, cache: cache, peers: map[string]bool{}}
	for _, p := range []string{"crun", "runc", "podman", "bwrap", "nsenter", "gcc", "umoci", "skopeo", "containerd", "ctr"} {
		_, err := exec.LookPath(p)
		b.peers[p] = err == nil
	}
	return b, b.podmanConfig()
}

// podmanConfig makes podman work for a root that may not raise limits.
func (b *bed) podmanConfig() error {
	path := filepath.Join(b.dir, "containers.conf")
	os.Setenv("CONTAINERS_CONF", path)
	return os.WriteFile(path, []byte(`[containers]
default_ulimits = ["nofile=1024:20000", "nproc=1024:1024"]
log_driver = "none"
[engine]
cgroup_manager = "cgroupfs"
runtime = "crun"
events_logger = "none"
`), 0o644)
}

func (b *bed) remove() {
	b.quiet(b.rkt("gc", "--grace-period=0", "--expire-prepared=0")...)
	b.quiet(b.rkt("gc", "--images")...)
	if b.peers["podman"] {
		b.quiet(b.podman("rm", "-fa", "-t", "0")...)
		b.quiet("umount", "-R", filepath.Join(b.dir, "podman/root/overlay"))
	}
	os.RemoveAll(b.dir)
}

// rkt is a command line of rkt on the bed's store.
func (b *bed) rkt(args ...string) []string { return b.rktIn("rkt", args...) }

func (b *bed) rktIn(store string, args ...string) []string {
	base := filepath.Join(b.dir, store)
	return append([]string{filepath.Join(b.bin, "rkt"), "--dir=" + base + "/data", "--run-dir=" + base + "/run", "--local-config=/nonexistent"}, args...)
}

// podman is a command line of podman on the bed's store.
func (b *bed) podman(args ...string) []string { return b.podmanIn("podman", args...) }

func (b *bed) podmanIn(store string, args ...string) []string {
	base := filepath.Join(b.dir, store)
	return append([]string{"podman", "--root", base + "/root", "--runroot", base + "/run"}, args...)
}

// layout is the OCI layout of a test image.
func (b *bed) layout(name string) (string, error) {
	out, err := exec.Command(filepath.Join(b.bin, "tests/images"), "-cache", b.cache, name).Output()
	if err != nil {
		return "", fmt.Errorf("make the image %s: %w", name, err)
	}
	return string(out[:len(out)-1]), nil
}

// load brings a test image into the stores of rkt and podman; the latter knows
// it as localhost/NAME.
func (b *bed) load(name string) (ref string, err error) {
	dir, err := b.layout(name)
	if err != nil {
		return "", err
	}
	ref = "oci:" + dir
	if err := b.must(b.rkt("fetch", ref)...); err != nil {
		return "", err
	}
	if !b.peers["podman"] || !b.peers["skopeo"] {
		return ref, nil
	}
	store := fmt.Sprintf("containers-storage:[overlay@%s/podman/root+%s/podman/run]localhost/%s:latest", b.dir, b.dir, name)
	return ref, b.must("skopeo", "copy", "-q", "--insecure-policy", ref+":latest", store)
}

func (b *bed) quiet(argv ...string) { exec.Command(argv[0], argv[1:]...).Run() }

func (b *bed) must(argv ...string) error {
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%v: %w: %s", argv, err, out)
	}
	return nil
}
