// Package program is the start of a process as data: a flat list of system
// calls with their arguments, what each is for, and what must come back.
//
// A Program is built by the methods named after system calls, printed by
// String, and run by Start: clone3 makes a child which performs the list in a
// loop of raw system calls, with no Go runtime, no allocation and no stack
// growth, and tells its parent over a pipe what failed. So the order of a start
// can be read, tested against a golden file and printed, and a start costs one
// clone and nothing else.
//
// The package knows system calls and nothing about pods; package compile does.
// Begin with Program, Op and Child.
package program

import (
	"slices"
	"strconv"
	"syscall"
	"unsafe"
)

// Program is a list of operations and the memory that they point to. The zero
// value is an empty program. A program may be started any number of times, one
// start at a time.
type Program struct {
	ops  []*Op
	keep []any // the memory that arguments point to
	fds  []int // the parent's file descriptors that the child needs
	// passed is how many files from 3 on execve keeps.
	passed int
}

// kind says what running an operation means.
type kind uint8

const (
	call kind = iota
	fork
	wait
	closeFiles
	dropCaps
	initFork
	reap
	ownPID
)

// An Op is one operation of a program. The methods that change it return it, so
// that they can be chained behind the method of Program that made it.
type Op struct {
	kind  kind
	index int
	nr    uintptr
	name  string
	args  []Arg

	why     string
	label   string
	report  bool
	anyErr  bool
	allowed []syscall.Errno
	cond    *Op  // run only when this one ...
	condOK  bool // ... succeeded (true) or failed (false)
	as      *Op  // whose outcome this one's replaces
	want    *uintptr
	first   byte // what the byte at firstAt must be afterwards
	firstAt *byte
	pidAt   *byte // of ownPID
}

// Add appends a system call. Where Program has a method with its name, that
// reads better.
func (p *Program) Add(name string, nr uintptr, args ...Arg) *Op {
	return p.add(&Op{kind: call, name: name, nr: nr, args: args[:min(len(args), maxArgs)]})
}

func (p *Program) add(o *Op) *Op {
	o.index = len(p.ops)
	p.ops = append(p.ops, o)
	return o
}

// Fork appends a clone with these flags. The process that makes it reports the
// new pid to the parent and exits with code 0; the new one goes on.
func (p *Program) Fork(flags uintptr) *Op {
	return p.add(&Op{kind: fork, name: "clone", nr: syscall.SYS_CLONE,
		args: []Arg{flagsArg(flags, &cloneFlags), Num(0), Num(0), Num(0), Num(0)}})
}

// Wait appends a meeting with the parent: the child reports the label and waits
// for Child.Release. When the parent is gone instead, the program ends.
func (p *Program) Wait(label string) *Op {
	return p.add(&Op{kind: wait, name: "read", label: label})
}

// CloseFiles closes every file descriptor from 3 on, except those of PassFiles,
// if that was called before, and the two pipes that lead to the parent and are closed by execve.
func (p *Program) CloseFiles() *Op {
	return p.add(&Op{kind: closeFiles, name: "close_range", args: []Arg{Num(firstFile + p.passed)}})
}

// PassFiles gives the process the files, which the parent has open, as 3, 4 and
// so on, and lets execve keep them. No later operation has another file there.
func (p *Program) PassFiles(fds []int, why string) {
	p.passed = len(fds)
	args := make([]Arg, len(fds))
	for i, fd := range fds {
		args[i] = p.FD(fd, "passed "+strconv.Itoa(i))
		if fd < firstFile+len(fds) { // where another one goes
			args[i] = p.DupAbove(args[i], firstFile+len(fds)).Because(why).Result()
		}
	}
	for i := range fds {
		p.Dup3(args[i], firstFile+i, false).Because(why)
	}
}

// firstFile is the first number after those of stdin, stdout and stderr.
const firstFile = 3

// PIDText is a pointer to a text that begins with prefix and ends with the
// number of the process that has performed WritePID.
func (p *Program) PIDText(prefix string) Arg {
	b := make([]byte, len(prefix)+maxPIDDigits+1)
	copy(b, prefix)
	p.keep = append(p.keep, b)
	return Arg{style: styleName, value: uintptr(unsafe.Pointer(&b[0])), name: prefix, shown: &b[len(prefix)]}
}

// maxPIDDigits is the length of the highest pid (PID_MAX_LIMIT is 2^22).
const maxPIDDigits = 7

// WritePID completes a PIDText with the number that the process has in its own
// pid namespace.
func (p *Program) WritePID(text Arg) *Op {
	o := p.add(&Op{kind: ownPID, name: "getpid", nr: syscall.SYS_GETPID, args: []Arg{text}})
	o.pidAt, _ = text.shown.(*byte)
	return o
}

// DropBounding takes from the bounding set all capabilities that are not in the
// mask keep, also those that only the running kernel knows.
func (p *Program) DropBounding(keep uint64, names string) *Op {
	return p.add(&Op{kind: dropCaps, name: "prctl", args: []Arg{Named(uintptr(keep), names)}})
}

// Init appends a fork. The new process goes on with the program. The old one
// becomes its init: it closes all files, reaps, passes on every signal that it
// gets, and exits as the new process does (128 plus the signal, when one ended
// it). It never executes anything.
func (p *Program) Init() *Op {
	return p.add(&Op{kind: initFork, name: "clone", nr: syscall.SYS_CLONE,
		args: []Arg{flagsArg(uintptr(syscall.SIGCHLD), &cloneFlags), Num(0), Num(0), Num(0), Num(0)}})
}

// Reap ends the program with a loop that reaps children for ever, as the first
// process of a pid namespace must. All files are closed first.
func (p *Program) Reap() *Op {
	return p.add(&Op{kind: reap, name: "wait4"})
}

// Because says what the operation is for: a verb phrase for error messages and
// for the printed program, such as `mount proc on "/proc"`.
func (o *Op) Because(why string) *Op {
	o.why = why
	return o
}

// Allow lets the program go on when the operation fails with one of these
// errors; with none given, with any. The failure is then its outcome.
func (o *Op) Allow(errs ...syscall.Errno) *Op {
	o.anyErr = o.anyErr || len(errs) == 0
	o.allowed = append(o.allowed, errs...)
	return o
}

// Report makes the outcome known to the parent, as an Event with this label.
func (o *Op) Report(label string) *Op {
	o.report, o.label = true, label
	return o
}

// IfOK skips the operation unless the earlier one has run and succeeded.
func (o *Op) IfOK(earlier *Op) *Op {
	o.cond, o.condOK = earlier, true
	return o
}

// IfFailed skips the operation unless the earlier one has run and failed.
func (o *Op) IfFailed(earlier *Op) *Op {
	o.cond, o.condOK = earlier, false
	return o
}

// As makes the outcome of the operation replace that of an earlier one for all
// that refers to it from here on: this is a further attempt.
func (o *Op) As(earlier *Op) *Op {
	o.as = earlier
	return o
}

// Want makes any other result than n a failure with the error EPROTO.
func (o *Op) Want(n uintptr) *Op {
	o.want = &n
	return o
}

// WantFirst makes it a failure with the error EPROTO when the first byte of the
// Buffer buf is not c after the call.
func (o *Op) WantFirst(buf Arg, c byte) *Op {
	o.first = c
	o.firstAt, _ = buf.shown.(*byte)
	return o
}

// Result is the result of the operation as an argument of a later one.
func (o *Op) Result() Arg { return Arg{style: styleResult, result: o} }

// slot is the operation whose outcome this one writes.
func (o *Op) slot() *Op {
	for o.as != nil {
		o = o.as
	}
	return o
}

// FD is a file descriptor of the parent as an argument. The child keeps those
// that are named in this way; it closes all others, but for 0, 1 and 2, before
// the first operation.
func (p *Program) FD(fd int, name string) Arg {
	if !slices.Contains(p.fds, fd) {
		p.fds = append(p.fds, fd)
	}
	return Arg{style: styleFD, value: uintptr(fd), name: name}
}

// Text is a pointer to a copy of s that ends with a zero byte.
func (p *Program) Text(s string) Arg {
	b := append([]byte(s), 0)
	p.keep = append(p.keep, b)
	return Arg{style: styleText, value: uintptr(unsafe.Pointer(&b[0])), name: s}
}

// Buffer is a pointer to n zero bytes.
func (p *Program) Buffer(n int) Arg {
	b := make([]byte, max(n, 1))
	p.keep = append(p.keep, b)
	return Arg{style: styleName, value: uintptr(unsafe.Pointer(&b[0])), name: "buffer", shown: &b[0]}
}

// Pointer is a pointer to v, which prints as name. The program keeps v; it must
// not be changed while the program runs.
func Pointer[T any](p *Program, v *T, name string) Arg {
	p.keep = append(p.keep, v)
	return Arg{style: styleName, value: uintptr(unsafe.Pointer(v)), name: name}
}

// forks is the number of Forks.
func (p *Program) forks() (n int) {
	for _, o := range p.ops {
		if o.kind == fork {
			n++
		}
	}
	return n
}

// lastFork is the index of the last Fork.
func (p *Program) lastFork() int {
	for i := len(p.ops) - 1; i >= 0; i-- {
		if p.ops[i].kind == fork {
			return i
		}
	}
	return -1
}
