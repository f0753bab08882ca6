// Command vm runs tests in a machine of its own: Debian with systemd as pid 1,
// cgroup v2 alone and AppArmor, booted by qemu without hardware help.
//
//	vm [-guest NAME,NAME] [-run REGEXP] [-count N] [-timeout D] [PACKAGE...]
//
// The packages are folders of this module; ./tests, the black-box suite, when
// none is named. What a guest printed, its journal and its console are kept in a
// folder per guest below -out. The exit code is 0 if every test of every
// guest passed. Guests are made and booted once and kept in the cache; a run
// goes on with one that has booted, and what it writes is lost with it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	cache, bin, out string
	run             string
	count           int
	timeout         time.Duration
	cold            bool
	seed, driver    string
	command         string
	packages        []string
}

func main() {
	var o options
	guests := flag.String("guest", "debian13", "names of the guests: debian12, debian13")
	flag.StringVar(&o.cache, "cache", "/var/cache/rkt-tests", "folder that keeps the images and the guest disks")
	flag.StringVar(&o.bin, "bin", "bin", "folder of the built programs")
	flag.StringVar(&o.out, "out", "tests/results/vm", "folder for the output, the journal and the console of each guest")
	flag.StringVar(&o.run, "run", ".", "regular expression of the tests to run")
	flag.IntVar(&o.count, "count", 1, "run each test that many times")
	flag.DurationVar(&o.timeout, "timeout", 15*time.Minute, "limit for a guest, from power on to power off")
	flag.BoolVar(&o.cold, "cold", false, "boot, instead of going on with a guest that has booted")
	flag.StringVar(&o.seed, "seed", "", "boot with this folder's user-data and meta-data for cloud-init")
	flag.StringVar(&o.driver, "driver", "", "how layers are mounted: erofs, erofs-loop or dir; empty is what the guest can do")
	flag.StringVar(&o.command, "command", "", "run this in a shell instead of tests; the programs are in /rkt/bin")
	flag.Parse()
	if o.packages = flag.Args(); o.command != "" {
		o.packages = nil
	} else if len(o.packages) == 0 {
		o.packages = []string{"./tests"}
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	failed := false
	for name := range strings.SplitSeq(*guests, ",") {
		if err := test(ctx, name, o); err != nil {
			fmt.Fprintf(os.Stderr, "vm: %s: %v\n", name, err)
			failed = true
		}
	}
	if failed {
		stop()
		os.Exit(1)
	}
}

// test runs the tests in the guest of that name. Nil means that all passed.
func test(ctx context.Context, name string, o options) error {
	r, err := findRecipe(name)
	if err != nil {
		return err
	}
	g, err := makeGuest(ctx, filepath.Join(o.cache, "vm"), r)
	if err != nil {
		return fmt.Errorf("make guest: %w", err)
	}
	images, err := makeImages(ctx, o)
	if err != nil {
		return fmt.Errorf("make disk of images: %w", err)
	}
	scratch, err := os.MkdirTemp("/var/tmp", "rkt-vm-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	programs, err := makePrograms(ctx, scratch, o)
	if err != nil {
		return fmt.Errorf("make disk of programs: %w", err)
	}
	m := machine{guest: g, threads: "single", disk: filepath.Join(string(g), "disk"), scratch: scratch}
	m.disks = map[string]string{"rkt-programs": programs, "rkt-images": images}
	switch {
	case o.seed != "":
		if m.disks["rkt-seed"], err = makeSeed(ctx, scratch, o.seed); err != nil {
			return fmt.Errorf("make disk for cloud-init: %w", err)
		}
	case !o.cold:
		s, err := makeSaved(ctx, g)
		if err != nil {
			return fmt.Errorf("boot guest: %w", err)
		}
		m.threads = "multi"
		m.disk, m.memory = filepath.Join(string(s), "disk"), filepath.Join(string(s), "memory")
	}
	return m.test(ctx, name, o)
}

// test runs the machine to its end and judges what comes out of it.
func (m machine) test(ctx context.Context, name string, o options) error {
	out := filepath.Join(o.out, name)
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	output, err := os.Create(filepath.Join(out, "output"))
	if err != nil {
		return err
	}
	defer output.Close()
	journal, err := os.Create(filepath.Join(out, "journal"))
	if err != nil {
		return err
	}
	defer journal.Close()
	var status strings.Builder
	m.console = filepath.Join(out, "console")
	m.ports = map[string]io.Writer{"output": io.MultiWriter(os.Stdout, output), "journal": journal, "status": &status}

	begin := time.Now()
	err = m.run(ctx, o.timeout, nil)
	fmt.Printf("vm: %s: %v from power on to power off\n", name, time.Since(begin).Round(time.Second))
	if err = errors.Join(err, judge(status.String(), o)); err != nil {
		fmt.Print(explain(journal.Name()))
	}
	return err
}
