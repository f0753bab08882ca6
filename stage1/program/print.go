package program

import (
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// String prints the program, one operation a line, much as strace(1) would:
// its number, the condition under which it runs, the call, the errors with
// which the program goes on, and what it is for.
func (p *Program) String() string {
	var b strings.Builder
	for _, o := range p.ops {
		b.WriteString(o.line())
		b.WriteByte('\n')
	}
	return b.String()
}

// reasonColumn is where the reasons begin in a printed program.
const reasonColumn = 72

func (o *Op) line() string {
	s := strconv.Itoa(o.index)
	s = strings.Repeat(" ", max(0, 3-len(s))) + s + "  "
	if o.cond != nil {
		s += "if #" + strconv.Itoa(o.cond.slot().index)
		if o.condOK {
			s += " succeeded: "
		} else {
			s += " failed: "
		}
	}
	if o.as != nil {
		s += "#" + strconv.Itoa(o.slot().index) + " = "
	}
	s += o.Call() + o.expectation()
	if o.why == "" {
		return s
	}
	return s + strings.Repeat(" ", max(1, reasonColumn-len(s))) + "# " + o.why
}

// Call prints the system call of the operation.
func (o *Op) Call() string {
	switch o.kind {
	case wait:
		return "read(parent) until released: " + o.label
	case closeFiles:
		return "close_range(" + o.args[0].String() + ", max) but for the pipes to the parent"
	case ownPID:
		return "getpid() -> " + o.args[0].name
	case dropCaps:
		return "prctl(PR_CAPBSET_DROP, each but {" + o.args[0].name + "})"
	case initFork:
		return "clone(SIGCHLD), the caller stays as init"
	case reap:
		return "wait4(-1) for ever"
	}
	args := make([]string, len(o.args))
	for i, a := range o.args {
		args[i] = a.String()
	}
	s := o.name + "(" + strings.Join(args, ", ") + ")"
	if o.kind == fork {
		s += ", the caller exits"
	}
	return s
}

// expectation prints which outcomes let the program go on.
func (o *Op) expectation() string {
	s := ""
	if o.want != nil {
		s += " = " + strconv.FormatUint(uint64(*o.want), 10)
	}
	if o.firstAt != nil {
		s += " = " + strconv.QuoteRune(rune(o.first)) + "..."
	}
	if o.anyErr {
		s += " or any error"
	} else if len(o.allowed) > 0 {
		names := make([]string, len(o.allowed))
		for i, e := range o.allowed {
			names[i] = unix.ErrnoName(e)
		}
		s += " or " + strings.Join(names, "|")
	}
	if o.report {
		s += " -> " + o.label
	}
	return s
}

// Error is the failure of an operation.
type Error struct {
	Index int           // of the operation in its program
	Why   string        // what it was for
	Call  string        // the call as it prints
	Errno syscall.Errno // EPROTO: the result was not the expected one
}

func (e *Error) Error() string {
	what := e.Why
	if what == "" {
		what = e.Call
	}
	return what + ": " + e.Errno.Error()
}

// Unwrap gives the errno, for errors.Is.
func (e *Error) Unwrap() error { return e.Errno }
