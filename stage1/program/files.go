package program

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Openat2 opens path below dir. The flags always include O_CLOEXEC.
func (p *Program) Openat2(dir Arg, path string, flags, mode, resolve uint64) *Op {
	how := &unix.OpenHow{Flags: flags | unix.O_CLOEXEC, Mode: mode, Resolve: resolve}
	h := Pointer(p, how, "")
	h.style, h.shown = styleFlags, how
	return p.Add("openat2", unix.SYS_OPENAT2, dir, p.Text(path), h, Num(int(unsafe.Sizeof(*how))))
}

// Openat opens a path that the host alone decides. The flags always include O_CLOEXEC.
func (p *Program) Openat(dir Arg, path string, flags uintptr) *Op {
	return p.Add("openat", unix.SYS_OPENAT, dir, p.Text(path), flagsArg(flags|unix.O_CLOEXEC, &openFlags), Num(0))
}

// Mkdirat makes a directory.
func (p *Program) Mkdirat(dir Arg, name string, mode uint32) *Op {
	return p.Add("mkdirat", unix.SYS_MKDIRAT, dir, p.Text(name), Mode(mode))
}

// Mkfileat makes an empty regular file.
func (p *Program) Mkfileat(dir Arg, name string, mode uint32) *Op {
	return p.Add("mknodat", unix.SYS_MKNODAT, dir, p.Text(name), Named(uintptr(unix.S_IFREG|mode), "S_IFREG|"+Mode(mode).String()), Num(0))
}

// Symlinkat makes a symbolic link.
func (p *Program) Symlinkat(target string, dir Arg, name string) *Op {
	return p.Add("symlinkat", unix.SYS_SYMLINKAT, p.Text(target), dir, p.Text(name))
}

// Write writes all of s into fd.
func (p *Program) Write(fd Arg, s string) *Op {
	return p.Add("write", unix.SYS_WRITE, fd, p.Text(s), Num(len(s))).Want(uintptr(len(s)))
}

// Close closes a file descriptor.
func (p *Program) Close(fd Arg) *Op { return p.Add("close", unix.SYS_CLOSE, fd) }

// Dup3 makes to another name of fd, kept or not by execve.
func (p *Program) Dup3(fd Arg, to int, cloexec bool) *Op {
	flags := uintptr(0)
	if cloexec {
		flags = unix.O_CLOEXEC
	}
	return p.Add("dup3", unix.SYS_DUP3, fd, Num(to), flagsArg(flags, &openFlags))
}

// DupAbove gives fd a further name of at least min, closed by execve.
func (p *Program) DupAbove(fd Arg, min int) *Op {
	return p.Add("fcntl", unix.SYS_FCNTL, fd, Named(unix.F_DUPFD_CLOEXEC, "F_DUPFD_CLOEXEC"), Num(min))
}

// KeepOnExec lets execve keep fd open.
func (p *Program) KeepOnExec(fd Arg) *Op {
	return p.Add("fcntl", unix.SYS_FCNTL, fd, Named(unix.F_SETFD, "F_SETFD"), Num(0))
}

// Fchdir makes the directory fd the working directory.
func (p *Program) Fchdir(fd Arg) *Op { return p.Add("fchdir", unix.SYS_FCHDIR, fd) }

// Chdir makes path the working directory.
func (p *Program) Chdir(path string) *Op { return p.Add("chdir", unix.SYS_CHDIR, p.Text(path)) }

// Fchown changes the owner of fd; a group of -1 stays.
func (p *Program) Fchown(fd Arg, uid, gid int) *Op {
	return p.Add("fchown", unix.SYS_FCHOWN, fd, Num(uid), Num(gid))
}

// Fchmod changes the mode of fd.
func (p *Program) Fchmod(fd Arg, mode uint32) *Op {
	return p.Add("fchmod", unix.SYS_FCHMOD, fd, Mode(mode))
}

// Ioctl makes a request of the open file fd.
func (p *Program) Ioctl(fd Arg, request uintptr, name string, arg Arg) *Op {
	return p.Add("ioctl", unix.SYS_IOCTL, fd, Named(request, name), arg)
}

// Exists fails with ENOENT when there is nothing at path.
func (p *Program) Exists(path string) *Op {
	return p.Add("faccessat", unix.SYS_FACCESSAT, Cwd(), p.Text(path), Named(unix.F_OK, "F_OK"))
}
