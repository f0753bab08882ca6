// Package crashtest kills work at its worst moments: a process before any of
// its system calls, a filesystem as by a power cut. It is for tests.
package crashtest

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What the helper process finds in its environment.
const (
	helperVariable = "RKT_CRASH_HELPER"
	dirVariable    = "RKT_CRASH_DIR"
	// budgetVariable is how long Kill goes on, as a time.Duration; 0 = until
	// every point was tried.
	budgetVariable = "RKT_CRASH_BUDGET"
	defaultBudget  = 3 * time.Second
)

// Main is for TestMain: in a helper process it does the work of that name in a
// folder and exits, else it returns.
func Main(work map[string]func(dir string) error) {
	name := os.Getenv(helperVariable)
	if name == "" {
		return
	}
	// strace counts calls by thread; so all that matter are of one.
	runtime.LockOSThread()
	if err := work[name](os.Getenv(dirVariable)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// calls are the system calls that change something on a disk, or a lock.
const calls = "openat,openat2,mkdirat,renameat,renameat2,linkat,unlinkat,fsync,fdatasync,syncfs,write,pwrite64,fchmod,fchmodat,fchown,fchownat,ftruncate,fcntl,flock"

// point is the n-th use of a system call by the helper.
type point struct {
	call string
	n    int
}

// Kill runs the work of a helper (see Main) once for every moment at which it
// may be killed by SIGKILL, each time in a new folder made by prepare, and then
// calls check for the folder. It tries the moments in a random order as long as
// there is time, and skips the test without strace.
func Kill(t *testing.T, name string, prepare func() string, check func(t *testing.T, dir string)) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs strace")
	}
	budget := defaultBudget
	if s := os.Getenv(budgetVariable); s != "" {
		var err error
		if budget, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	points := trace(t, name, prepare())
	seed := uint64(time.Now().UnixNano())
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
	begin, tried := time.Now(), 0
	for _, p := range points {
		if budget > 0 && time.Since(begin) > budget {
			break
		}
		tried++
		dir := prepare()
		inject := fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", p.call, p.n)
		out, err := helper(name, dir, "-o", os.DevNull, "-e", "trace="+p.call, "-e", inject).CombinedOutput()
		if err == nil {
			continue // this run had fewer of these calls
		}
		if !strings.Contains(err.Error(), "killed") {
			t.Fatalf("helper to be killed at %v: %v\n%s", p, err, out)
		}
		check(t, dir)
		if t.Failed() {
			t.Fatalf("after SIGKILL at call %d of %s", p.n, p.call)
		}
		os.RemoveAll(dir)
	}
	t.Logf("seed %d: killed at %d of %d points", seed, tried, len(points))
}

// helper is this program, run again under strace.
func helper(name, dir string, strace ...string) *exec.Cmd {
	cmd := exec.Command("strace", append(append([]string{"-f", "-qq"}, strace...), os.Args[0])...)
	cmd.Env = append(os.Environ(), helperVariable+"="+name, dirVariable+"="+dir, "GOMAXPROCS=1", "GOGC=off")
	return cmd
}

// trace runs the work undisturbed and lists the calls that it makes.
func trace(t *testing.T, name, dir string) []point {
	t.Helper()
	log := filepath.Join(t.TempDir(), "trace")
	if out, err := helper(name, dir, "-o", log, "-e", "trace="+calls).CombinedOutput(); err != nil {
		t.Fatalf("helper %s: %v\n%s", name, err, out)
	}
	f, err := os.Open(log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	counts := map[string]int{}
	main := ""
	var points []point
	for lines := bufio.NewScanner(f); lines.Scan(); {
		thread, rest, _ := strings.Cut(lines.Text(), " ")
		call, _, ok := strings.Cut(strings.TrimSpace(rest), "(")
		if main == "" {
			main = thread
		}
		if thread == main && ok && !strings.HasPrefix(call, "<") {
			counts[call]++
			points = append(points, point{call, counts[call]})
		}
	}
	if len(points) == 0 {
		t.Fatal("the helper made no call that could be traced")
	}
	return points
}

// Disk is a small ext4 filesystem that can lose its power.
type Disk struct {
	t     *testing.T
	image string
	Dir   string // where it is mounted
}

// diskOptions take away what makes ext4 kinder than it promises to be: syncing
// files that replace others, and writing the journal every 5 seconds.
const diskOptions = "loop,noauto_da_alloc,commit=300"

// NewDisk makes and mounts a filesystem, and skips the test where that cannot be
// done. It is gone after the test.
func NewDisk(t *testing.T, size int64) *Disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount")
	}
	dir := t.TempDir()
	d := &Disk{t: t, image: filepath.Join(dir, "image"), Dir: filepath.Join(dir, "mnt")}
	if err := os.Mkdir(d.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(d.image, size); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-m", "0", d.image).CombinedOutput(); err != nil {
		t.Skipf("cannot make an ext4 filesystem: %v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", diskOptions, d.image, d.Dir).CombinedOutput(); err != nil {
		t.Skipf("cannot mount it: %v: %s", err, out)
	}
	// The loop device goes with the last mount.
	t.Cleanup(func() { unix.Unmount(d.Dir, unix.MNT_DETACH) })
	return d
}

// Cut cuts the power, so that what is not on the disk is lost, and mounts the
// disk again. Nobody may have files open on it. Between, lost (may be nil) sees
// the filesystem without power.
func (d *Disk) Cut(lost func()) {
	d.t.Helper()
	f, err := os.Open(d.Dir)
	if err != nil {
		d.t.Fatal(err)
	}
	const (
		fsIocShutdown = 0x8004587d // FS_IOC_SHUTDOWN of linux/fs.h
		noLogFlush    = 2
	)
	err = unix.IoctlSetPointerInt(int(f.Fd()), fsIocShutdown, noLogFlush)
	f.Close()
	if err != nil {
		d.t.Skipf("this filesystem cannot be shut down: %v", err)
	}
	if lost != nil {
		lost()
	}
	// A process that has been reaped may still be closing its files: the kernel
	// tells nobody when it is done.
	deadline := time.Now().Add(10 * time.Second)
	for err = unix.Unmount(d.Dir, 0); err == unix.EBUSY && time.Now().Before(deadline); err = unix.Unmount(d.Dir, 0) {
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		d.t.Fatalf("unmount after the power cut: %v", err)
	}
	if out, err := exec.Command("mount", "-o", diskOptions, d.image, d.Dir).CombinedOutput(); err != nil {
		d.t.Fatalf("mount after the power cut: %v: %s", err, out)
	}
}
