package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// nsFile is the file in the folder of the layers that the namespace is bound to.
const nsFile = "ns"

// namespace is the mount namespace that the layers are mounted in, open. It has
// nothing else in it: its root is a tmpfs with one folder for each layer. The
// host sees two mounts: the folder of the layers, bound to itself, and in it
// the file that keeps the namespace.
type namespace struct {
	file  *os.File
	inode uint64
}

func (n *namespace) Close() error { return n.file.Close() }

// openNamespace opens the namespace kept in dir; the error is os.ErrNotExist
// when there is none, though a file of that name may be there.
func openNamespace(dir string) (*namespace, error) {
	f, err := os.OpenFile(filepath.Join(dir, nsFile), os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	var st unix.Stat_t
	if err := errors.Join(unix.Fstatfs(int(f.Fd()), &fs), unix.Fstat(int(f.Fd()), &st)); err != nil {
		f.Close()
		return nil, fmt.Errorf("stat %q: %w", f.Name(), err)
	}
	if fs.Type != unix.NSFS_MAGIC {
		f.Close()
		return nil, fmt.Errorf("no namespace at %q: %w", f.Name(), os.ErrNotExist)
	}
	return &namespace{file: f, inode: st.Ino}, nil
}

// createNamespace makes a namespace and keeps it in dir. The caller holds the
// lock. Killed on the way, it leaves nothing that a second call or
// removeNamespace does not cope with.
func createNamespace(dir string) (*namespace, error) {
	if err := makePrivateMount(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, nsFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	f.Close()

	err = keepNewNamespace(dir, path, anyCPU)
	// The kernel refuses to bind a namespace in one that is younger, by their
	// numbers. Since Linux 6.18 each processor has its own supply of numbers: a
	// new one is higher than ours for sure on the processor that ours is from.
	for cpu := 0; errors.Is(err, unix.EINVAL) && cpu < maxCPU; cpu++ {
		err = keepNewNamespace(dir, path, cpu)
	}
	if err != nil {
		return nil, fmt.Errorf("make mount namespace for layers: %w", err)
	}
	return openNamespace(dir)
}

const (
	anyCPU = -1
	maxCPU = 1024 // of unix.CPUSet
)

// keepNewNamespace makes a namespace on the processor and binds it to path.
func keepNewNamespace(dir, path string, cpu int) error {
	made, keep, done := make(chan error), make(chan struct{}), make(chan struct{})
	var tid int
	go func() {
		defer close(done)
		onThread(func() {
			tid = unix.Gettid()
			made <- becomeEmptyNamespace(dir, cpu)
			<-keep
		})
	}()
	err := <-made
	if err == nil {
		err = unix.Mount(fmt.Sprintf("/proc/self/task/%d/ns/mnt", tid), path, "", unix.MS_BIND, "")
	}
	close(keep)
	<-done
	return err
}

// makePrivateMount binds dir to itself, privately: a namespace cannot be bound
// to a file below a mount that propagates (see unshare(1), --mount=FILE).
func makePrivateMount(dir string) error {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, &st); err != nil {
		return fmt.Errorf("stat %q: %w", dir, err)
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %q to itself: %w", dir, err)
		}
	}
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mount %q private: %w", dir, err)
	}
	return nil
}

// becomeEmptyNamespace gives the calling thread a mount namespace of its own in
// which there is nothing but a tmpfs: a copy of the host's mounts would keep
// all of them busy. dir is any folder.
func becomeEmptyNamespace(dir string, cpu int) error {
	steps := []func() error{
		func() error { return stayOn(cpu) },
		func() error { return unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS) },
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error {
			return unix.Mount("rkt-layers", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700")
		},
		func() error { return unix.Chdir(dir) },
		// The old root comes to lie upon the new one, and is taken away.
		func() error { return unix.PivotRoot(".", ".") },
		func() error { return unix.Unmount(".", unix.MNT_DETACH) },
		func() error { return unix.Chdir("/") },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// stayOn binds the calling thread to a processor; EINVAL when it cannot be there.
func stayOn(cpu int) error {
	if cpu == anyCPU {
		return nil
	}
	var set unix.CPUSet
	set.Set(cpu)
	return unix.SchedSetaffinity(0, &set)
}

// removeNamespace lets go of the namespace kept in dir, and with it of all that
// is mounted there. A nil error means that it keeps nothing mounted now.
func removeNamespace(dir string) error {
	path := filepath.Join(dir, nsFile)
	for _, mount := range []string{path, dir} {
		err := unix.Unmount(mount, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		// EINVAL: it is no mount point.
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %q: %w", mount, err)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// inside calls fn on a thread that has joined the namespace. fn must not start
// goroutines.
func (n *namespace) inside(fn func() error) error {
	var err error
	onThread(func() {
		// A thread that shares its root and working directory with others
		// cannot join.
		if err = unix.Unshare(unix.CLONE_FS); err != nil {
			err = fmt.Errorf("unshare working directory: %w", err)
			return
		}
		if err = unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNS); err != nil {
			err = fmt.Errorf("join mount namespace of layers: %w", err)
			return
		}
		err = fn()
	})
	return err
}

// onThread calls fn on a thread of its own, which ends then: it may do to itself
// what cannot be undone. The first thread of the process is not used: what
// /proc/self says is about that one.
func onThread(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// While this goroutine holds the first thread, another gets another.
			onThread(fn)
			runtime.UnlockOSThread()
			return
		}
		fn()
	}()
	<-done
}
