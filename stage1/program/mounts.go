package program

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Filesystem appends the calls that make a new instance of a filesystem with
// options, each "name" or "name=value", as a detached mount with the attributes
// attrs. The last call is returned: its result is the mount. The others have
// the reason why.
func (p *Program) Filesystem(fstype, source string, options []string, attrs uintptr, why string) *Op {
	fs := p.Add("fsopen", unix.SYS_FSOPEN, p.Text(fstype), Named(unix.FSOPEN_CLOEXEC, "FSOPEN_CLOEXEC")).Because(why)
	if source != "" {
		p.fsconfig(fs, unix.FSCONFIG_SET_STRING, "FSCONFIG_SET_STRING", p.Text("source"), p.Text(source)).Because(why)
	}
	for _, o := range options {
		name, value, ok := cut(o)
		if ok {
			p.fsconfig(fs, unix.FSCONFIG_SET_STRING, "FSCONFIG_SET_STRING", p.Text(name), p.Text(value)).Because(why)
		} else {
			p.fsconfig(fs, unix.FSCONFIG_SET_FLAG, "FSCONFIG_SET_FLAG", p.Text(name), Null()).Because(why)
		}
	}
	p.fsconfig(fs, unix.FSCONFIG_CMD_CREATE, "FSCONFIG_CMD_CREATE", Null(), Null()).Because(why)
	return p.Add("fsmount", unix.SYS_FSMOUNT, fs.Result(), Named(unix.FSMOUNT_CLOEXEC, "FSMOUNT_CLOEXEC"),
		flagsArg(attrs, &mountAttrs)).Because(why)
}

func cut(option string) (name, value string, ok bool) {
	for i := range len(option) {
		if option[i] == '=' {
			return option[:i], option[i+1:], true
		}
	}
	return option, "", false
}

func (p *Program) fsconfig(fs *Op, cmd uintptr, name string, key, value Arg) *Op {
	return p.Add("fsconfig", unix.SYS_FSCONFIG, fs.Result(), Named(cmd, name), key, value, Num(0))
}

// OpenTree clones the mount at path below dir as a detached one; with an empty
// path, the mount of dir itself from dir on.
func (p *Program) OpenTree(dir Arg, path string, recursive bool) *Op {
	flags := uintptr(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if path == "" {
		flags |= unix.AT_EMPTY_PATH
	}
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	return p.Add("open_tree", unix.SYS_OPEN_TREE, dir, p.Text(path), flagsArg(flags, &openTreeFlags))
}

// MoveMount attaches the mount to the file or directory target. Neither is
// looked up again by a path.
func (p *Program) MoveMount(mount, target Arg) *Op {
	return p.Add("move_mount", unix.SYS_MOVE_MOUNT, mount, p.Text(""), target, p.Text(""),
		flagsArg(unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH, &moveMountFlags))
}

// MoveMountTo attaches the mount to name below dir, which must be a place where
// only this program has made names.
func (p *Program) MoveMountTo(mount, dir Arg, name string) *Op {
	return p.Add("move_mount", unix.SYS_MOVE_MOUNT, mount, p.Text(""), dir, p.Text(name),
		flagsArg(unix.MOVE_MOUNT_F_EMPTY_PATH, &moveMountFlags))
}

// MountSetattr sets attributes of the mount.
func (p *Program) MountSetattr(mount Arg, attrs uint64, recursive bool) *Op {
	flags := uintptr(unix.AT_EMPTY_PATH)
	if recursive {
		flags |= unix.AT_RECURSIVE
	}
	attr := &unix.MountAttr{Attr_set: attrs}
	a := Pointer(p, attr, "")
	a.style, a.shown = styleFlags, attr
	return p.Add("mount_setattr", unix.SYS_MOUNT_SETATTR, mount, p.Text(""), flagsArg(flags, &atFlags), a,
		Num(int(unsafe.Sizeof(*attr))))
}

// Mount is mount(2); empty strings are null pointers.
func (p *Program) Mount(source, target, fstype string, flags uintptr, data string) *Op {
	text := func(s string) Arg {
		if s == "" {
			return Null()
		}
		return p.Text(s)
	}
	return p.Add("mount", unix.SYS_MOUNT, text(source), p.Text(target), text(fstype), flagsArg(flags, &mountFlags), text(data))
}

// PivotRoot makes the working directory the root and stacks the old root on it.
func (p *Program) PivotRoot() *Op {
	return p.Add("pivot_root", unix.SYS_PIVOT_ROOT, p.Text("."), p.Text("."))
}

// UmountDetach detaches what is mounted at path.
func (p *Program) UmountDetach(path string) *Op {
	return p.Add("umount2", unix.SYS_UMOUNT2, p.Text(path), Named(unix.MNT_DETACH, "MNT_DETACH"))
}
