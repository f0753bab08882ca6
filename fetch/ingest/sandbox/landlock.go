package sandbox

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
)

// Access rights to files, by the version of Landlock that they came with.
const (
	accessFirst = 1<<13 - 1 // execute, read, write, make and remove of each kind

	accessRead = unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR
	accessMake = accessRead | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_MAKE_REG |
		unix.LANDLOCK_ACCESS_FS_REMOVE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE
	accessUnpack = accessMake | unix.LANDLOCK_ACCESS_FS_MAKE_DIR | unix.LANDLOCK_ACCESS_FS_MAKE_SYM |
		unix.LANDLOCK_ACCESS_FS_MAKE_FIFO | unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_REFER
)

// scopedSignals is the erratum of Landlock from which on threads of one process
// can signal each other, which the Go runtime does.
const scopedSignals = 1 << 1

// ruleset is struct landlock_ruleset_attr.
type ruleset struct {
	files   uint64
	network uint64
	scoped  uint64
}

// handled is everything that the kernel's version of Landlock can forbid.
func handled(abi int) ruleset {
	r := ruleset{files: accessFirst}
	if abi >= 2 {
		r.files |= unix.LANDLOCK_ACCESS_FS_REFER
	}
	if abi >= 3 {
		r.files |= unix.LANDLOCK_ACCESS_FS_TRUNCATE
	}
	if abi >= 5 {
		r.files |= unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
	}
	if abi >= 6 {
		r.scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
		errata, _, _ := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, 1<<1)
		if errata&scopedSignals != 0 {
			r.scoped |= unix.LANDLOCK_SCOPE_SIGNAL
		}
	}
	return r
}

// restrictFiles forbids to open, make or remove any file but those of the role.
func restrictFiles(role wire.Role) error {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return fmt.Errorf("landlock: %w", errno)
	}
	r := handled(int(abi))
	if role != wire.AskRegistries && abi >= 4 {
		r.network = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	rules, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&r)), sizeOf(int(abi)), 0)
	if errno != 0 {
		return fmt.Errorf("landlock_create_ruleset: %w", errno)
	}
	defer unix.Close(int(rules))
	if err := allowFiles(int(rules), role, r.files); err != nil {
		return err
	}
	return onAllThreads("landlock_restrict_self", unix.SYS_LANDLOCK_RESTRICT_SELF, rules, 0, 0)
}

// sizeOf is how much of a ruleset that version of Landlock knows, in bytes.
func sizeOf(abi int) uintptr {
	switch {
	case abi < 4:
		return 8
	case abi < 6:
		return 16
	}
	return 24
}

// allowFiles adds the files of a role.
func allowFiles(rules int, role wire.Role, handled uint64) error {
	switch role {
	case wire.AskRegistries:
		root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open root: %w", err)
		}
		defer unix.Close(root)
		return errors.Join(allow(rules, root, accessRead&handled), allow(rules, wire.SpoolFD, accessMake&handled))
	case wire.ReadImage:
		return allow(rules, wire.SpoolFD, accessMake&handled)
	case wire.UnpackLayer:
		return allow(rules, wire.SpoolFD, accessUnpack&handled)
	}
	return nil
}

// pathBeneath is struct landlock_path_beneath_attr, which is packed.
type pathBeneath struct {
	access uint64
	parent int32
}

func allow(rules, fd int, access uint64) error {
	p := pathBeneath{access: access, parent: int32(fd)}
	_, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(rules), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&p)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("landlock_add_rule: %w", errno)
	}
	return nil
}
