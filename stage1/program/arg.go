package program

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxArgs is how many arguments a system call can have.
const maxArgs = 6

// Arg is an argument of an operation: a number, a pointer to memory that the
// program keeps, or the result of an earlier operation.
type Arg struct {
	value  uintptr
	result *Op
	style  style
	name   string // styleFD, styleText, styleName
	shown  any    // *[]flag, *unix.OpenHow, *unix.MountAttr, []uint32, or what a Buffer is
}

// style is how an argument prints.
type style uint8

const (
	styleNumber style = iota
	styleOctal
	styleResult
	styleFD
	styleText
	styleName
	styleFlags // and all others that have something shown
)

// Num is a number.
func Num(n int) Arg { return Arg{value: uintptr(n)} }

// Mode is a number that prints in octal.
func Mode(n uint32) Arg { return Arg{style: styleOctal, value: uintptr(n)} }

// Named is a number that prints as a name.
func Named(n uintptr, name string) Arg { return Arg{style: styleName, value: n, name: name} }

// Null is a null pointer.
func Null() Arg { return Named(0, "NULL") }

// Cwd stands for the working directory where a directory's file descriptor is wanted.
func Cwd() Arg {
	at := unix.AT_FDCWD
	return Named(uintptr(at), "AT_FDCWD")
}

func flagsArg(n uintptr, names *[]flag) Arg {
	return Arg{style: styleFlags, value: n, shown: names}
}

func (a Arg) String() string {
	switch a.style {
	case styleOctal:
		return "0" + strconv.FormatUint(uint64(a.value), 8)
	case styleResult:
		return "#" + strconv.Itoa(a.result.slot().index)
	case styleFD:
		return strconv.Itoa(int(a.value)) + "<" + a.name + ">"
	case styleText:
		return strconv.Quote(a.name)
	case styleName:
		return a.name
	}
	switch shown := a.shown.(type) {
	case *[]flag:
		return flagNames(uint64(a.value), *shown)
	case *unix.OpenHow:
		s := "{" + flagNames(shown.Flags, openFlags)
		if shown.Mode != 0 {
			s += ", 0" + strconv.FormatUint(shown.Mode, 8)
		}
		return s + ", " + flagNames(shown.Resolve, resolveFlags) + "}"
	case *unix.MountAttr:
		return "{" + flagNames(shown.Attr_set, mountAttrs) + "}"
	case []uint32:
		s := make([]string, len(shown))
		for i, g := range shown {
			s[i] = strconv.FormatUint(uint64(g), 10)
		}
		return "[" + strings.Join(s, ", ") + "]"
	}
	return strconv.FormatInt(int64(a.value), 10)
}

func hex(n uint64) string { return "0x" + strconv.FormatUint(n, 16) }

func limit(n uint64) string {
	if n == unix.RLIM_INFINITY {
		return "RLIM_INFINITY"
	}
	return strconv.FormatUint(n, 10)
}

// flag is a bit, or several, and its name.
type flag struct {
	bits uint64
	name string
}

func flagNames(v uint64, names []flag) string {
	var s []string
	for _, f := range names {
		if f.bits != 0 && v&f.bits == f.bits {
			s = append(s, f.name)
			v &^= f.bits
		}
	}
	if v != 0 || len(s) == 0 {
		s = append(s, "0x"+strconv.FormatUint(v, 16))
	}
	return strings.TrimSuffix(strings.Join(s, "|"), "|0x0")
}
