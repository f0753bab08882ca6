package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"rkt/image/trust"
	"rkt/stage0"
)

// doctorOptions are the flags of "rkt doctor".
type doctorOptions struct{ tableOptions }

func newDoctorCommand(env *environment) *cobra.Command {
	var o doctorOptions
	c := &cobra.Command{
		Use:        "doctor",
		Short:      "Find out whether this host can run pods",
		SuggestFor: []string{"check", "info"},
		Long: `Find out whether this host can run pods: what each needs, what was found, and
what to do where it is not enough. A "failure" would make a run without further
options fail, and rkt ends with 125; a "warning" concerns some runs.`,
		Example: `  rkt doctor
  rkt doctor --format=json | jq -r '.[] | select(.verdict != "ok").advice'`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error { return doctor(env, o) },
	}
	o.flags(c.Flags())
	return c
}

func doctor(env *environment, o doctorOptions) error {
	if err := o.check("rkt doctor --help"); err != nil {
		return err
	}
	if err := env.setUp(); err != nil {
		return err
	}
	stage1s, err := env.stage1Dirs()
	if err != nil {
		return err
	}
	checks := append(stage0.CheckHost(&stage0.Env{RunDir: env.runDir, Stage1Dirs: stage1s}),
		checkFetchProgram(env), checkData(env), checkDriver(env), checkTrust(env),
		checkSystemd("/run/systemd/system", "/run/dbus/system_bus_socket"), checkClock(time.Now(), "/proc/self/exe"))

	failures := 0
	var cells [][]string
	for _, c := range checks {
		if c.Verdict == stage0.Failure {
			failures++
		}
		cells = append(cells, []string{c.Name, string(c.Verdict), c.Found, c.Advice})
	}
	if err := o.write(env.stdout, checks, []string{"CHECK", "VERDICT", "FOUND", "WHAT TO DO"}, cells); err != nil {
		return err
	}
	if failures > 0 {
		return fmt.Errorf("this host cannot run pods: %d of %d checks failed", failures, len(checks))
	}
	return nil
}

func checkFetchProgram(env *environment) stage0.Check {
	c := stage0.Check{Name: "rkt-fetch", Verdict: stage0.Fine}
	path, err := env.fetchProgram()
	if err == nil {
		err = unix.Access(path, unix.X_OK)
	}
	if err != nil {
		c.Verdict, c.Found, c.Advice = stage0.Failure, err.Error(), "install rkt again, or run it beside rkt-fetch"
		return c
	}
	c.Found = path
	return c
}

// littleSpace is where a warning begins: an image may well be larger.
const littleSpace = 1 << 30

// unfit are filesystems that cannot hold the writable layers of pods, by the
// numbers of statfs(2).
var unfit = map[int64]string{
	unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs", unix.SMB2_SUPER_MAGIC: "smb", unix.CIFS_SUPER_MAGIC: "smb",
	unix.V9FS_MAGIC: "9p", unix.MSDOS_SUPER_MAGIC: "vfat", unix.FUSE_SUPER_MAGIC: "fuse",
}

// checkData looks at the filesystem that holds the data folder, or will.
func checkData(env *environment) stage0.Check {
	c := stage0.Check{Name: "data folder", Verdict: stage0.Fine}
	dir := env.dataDir
	var fs unix.Statfs_t
	err := unix.Statfs(dir, &fs)
	for errors.Is(err, os.ErrNotExist) && dir != "/" {
		dir = filepath.Dir(dir)
		err = unix.Statfs(dir, &fs)
	}
	if err != nil {
		c.Verdict, c.Found, c.Advice = stage0.Failure, fmt.Sprintf("%s: %v", dir, err), "choose another folder with --dir"
		return c
	}
	free := int64(fs.Bavail) * fs.Bsize
	c.Found = fmt.Sprintf("%s, %s free", env.dataDir, byteSize(free))
	switch name, bad := unfit[fs.Type]; {
	case fs.Flags&unix.ST_RDONLY != 0:
		c.Verdict, c.Found, c.Advice = stage0.Failure, env.dataDir+" is on a read-only filesystem", "choose another folder with --dir"
	case bad:
		c.Verdict, c.Advice = stage0.Warning, "pods may not be able to write on "+name+"; choose a folder on ext4, xfs or btrfs with --dir"
	case free < littleSpace:
		c.Verdict, c.Advice = stage0.Warning, "rkt gc, rkt gc --images, or a larger filesystem"
	}
	return c
}

// checkDriver tells how layers are mounted, and why in that way.
func checkDriver(env *environment) stage0.Check {
	c := stage0.Check{Name: "layer driver", Verdict: stage0.Fine}
	if os.Geteuid() != 0 {
		c.Verdict, c.Found, c.Advice = stage0.Warning, "unknown", "run rkt as root"
		return c
	}
	layers, err := env.layers()
	if err != nil {
		c.Verdict, c.Found, c.Advice = stage0.Failure, err.Error(), "choose a folder on ext4, xfs or btrfs with --dir"
		return c
	}
	c.Found = fmt.Sprintf("%s (%s)", layers.Driver(), layers.Why())
	return c
}

// checkTrust tells whether any image of a registry may be used.
func checkTrust(env *environment) stage0.Check {
	c := stage0.Check{Name: "trust", Verdict: stage0.Fine}
	dirs, err := env.trustDirs()
	if err != nil {
		c.Verdict, c.Found = stage0.Failure, err.Error()
		return c
	}
	policy, err := trust.Load(dirs...)
	if err != nil {
		c.Verdict, c.Found, c.Advice = stage0.Failure, err.Error(), "repair the file, or remove it"
		return c
	}
	n := len(policy.Rules())
	c.Found = fmt.Sprintf("%d rules", n)
	if n == 0 {
		c.Verdict, c.Found, c.Advice = stage0.Warning, "no rules: images from registries are refused", "rkt trust add --accept docker.io/library"
	}
	return c
}

func checkSystemd(booted, bus string) stage0.Check {
	c := stage0.Check{Name: "systemd", Verdict: stage0.Fine, Found: "running, with a system bus"}
	if _, err := os.Stat(booted); err != nil {
		c.Verdict, c.Found, c.Advice = stage0.Warning, "not running", "nothing, unless pods are to be units: without it there are no scopes, no --slice and no journal"
		return c
	}
	if err := knock(bus); err != nil {
		c.Verdict, c.Found, c.Advice = stage0.Warning, "running, no system bus: "+err.Error(), "install dbus and start dbus.socket"
	}
	return c
}

// knock connects to a socket without waiting.
func knock(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return &os.PathError{Op: "connect", Path: path, Err: err}
	}
	return nil
}

// checkClock compares the clock with when this program was installed: one that
// is slow makes certificates invalid.
func checkClock(now time.Time, program string) stage0.Check {
	c := stage0.Check{Name: "clock", Verdict: stage0.Fine, Found: exactTime(now.Truncate(time.Second))}
	info, err := os.Stat(program)
	if err == nil && now.Before(info.ModTime().Add(-24*time.Hour)) {
		c.Verdict, c.Advice = stage0.Warning, "set the clock: it is before the time at which rkt was built, and certificates of registries will not be valid"
	}
	return c
}
