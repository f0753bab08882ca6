package supervise

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/compile"
	"rkt/stage1/contract"
)

// none is a user namespace that there is none of: mounts keep their owners.
const none = compile.None

// openLayers clones the mounts of layers as detached, read-only mounts with the
// id map of the user namespace userns. On an error none is left open.
func openLayers(layers []contract.Mounted, userns int) (fds []int, err error) {
	fds = make([]int, len(layers))
	for i := range fds {
		fds[i] = -1
	}
	defer func() {
		if err != nil {
			closeFDs(fds)
			fds = nil
		}
	}()
	spaces := map[string]bool{}
	for _, l := range layers {
		spaces[l.Namespace] = true
	}
	for file := range spaces {
		if err := cloneIn(file, layers, fds); err != nil {
			return fds, err
		}
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	for i, fd := range fds {
		if err := setAttributes(fd, attr, userns, 0); err != nil {
			return fds, fmt.Errorf("layer: %w", idmapError(layers[i].Path, userns, err))
		}
	}
	return fds, nil
}

// cloneIn clones those of the layers that are mounted in the mount namespace
// which is bound to file; "" is the one that this process is in.
func cloneIn(file string, layers []contract.Mounted, fds []int) error {
	if file == "" {
		return cloneLayers(file, layers, fds)
	}
	ns, err := unix.Open(file, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open mount namespace of the layers: %w", err)
	}
	defer unix.Close(ns)

	return onOwnThread(func() error {
		if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("enter mount namespace %s: %w", file, err)
		}
		return cloneLayers(file, layers, fds)
	})
}

func cloneLayers(file string, layers []contract.Mounted, fds []int) error {
	for i, l := range layers {
		if l.Namespace != file {
			continue
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, l.Path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("clone mount of layer %s: %w", l.Path, err)
		}
		fds[i] = fd
	}
	return nil
}

// openFolder clones what is mounted at the folder path as a detached mount with
// the id map of userns.
func openFolder(path string, userns int) (int, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("clone mount of %s: %w", path, err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	if err := setAttributes(fd, attr, userns, 0); err != nil {
		unix.Close(fd)
		return -1, idmapError(path, userns, err)
	}
	return fd, nil
}

// openBind opens the source of a bind mount of config.json. A relative source
// is relative to the pod directory.
func openBind(m specs.Mount, userns int) (compile.Bind, error) {
	o, err := compile.ParseBind(m)
	if err != nil {
		return compile.Bind{}, err
	}
	flags, at := uint(unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC), uint(0)
	if o.Recursive {
		flags, at = flags|unix.AT_RECURSIVE, unix.AT_RECURSIVE
	}
	fd, err := openTree(m.Source, flags)
	if err != nil {
		return compile.Bind{}, fmt.Errorf("open %q for mount %q: %w", m.Source, m.Destination, err)
	}
	if !o.IDMap {
		userns = none
	}
	if err := setAttributes(fd, unix.MountAttr{Attr_set: o.Attrs}, userns, at); err != nil {
		unix.Close(fd)
		return compile.Bind{}, fmt.Errorf("mount %q: %w", m.Destination, idmapError(m.Source, userns, err))
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return compile.Bind{}, fmt.Errorf("open %q for mount %q: %w", m.Source, m.Destination, err)
	}
	return compile.Bind{FD: fd, Dir: st.Mode&unix.S_IFMT == unix.S_IFDIR}, nil
}

// openTree clones what is mounted at path as detached mounts. With all that is
// mounted below, those of mount namespaces (that of the layers, those of other
// container programs) stay behind: they would be younger than the namespace of
// the app, and the kernel mounts no such loop. A copy of this namespace, from
// which the tree is taken then, has none of them.
func openTree(path string, flags uint) (int, error) {
	if flags&unix.AT_RECURSIVE == 0 {
		return unix.OpenTree(unix.AT_FDCWD, path, flags)
	}
	fd := -1
	err := onOwnThread(func() error {
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			fd, err = unix.OpenTree(unix.AT_FDCWD, path, flags)
		}
		return err
	})
	return fd, err
}

// onOwnThread calls f on a thread that nothing else ever runs on and that ends
// with f: what f makes of the thread's namespaces harms nobody. Threads of a Go
// program share root and working directory; one that leaves their mount
// namespace must have its own, as this one does.
func onOwnThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // without UnlockOSThread the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// setAttributes sets the attributes of a detached mount and takes it out of the
// propagation of its original: a mount made in the pod must not appear on the
// host, nor the other way around.
func setAttributes(mount int, attr unix.MountAttr, userns int, at uint) error {
	attr.Propagation = unix.MS_PRIVATE
	if userns != none {
		attr.Attr_set |= unix.MOUNT_ATTR_IDMAP
		attr.Userns_fd = uint64(userns)
	}
	return unix.MountSetattr(mount, "", at|unix.AT_EMPTY_PATH, &attr)
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
