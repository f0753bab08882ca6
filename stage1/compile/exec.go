package compile

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
	"rkt/stage1/program"
)

// ExecError says why the command of an app could not be executed.
type ExecError struct {
	Code    int // contract.ExitNotFound or contract.ExitNotExecutable
	Message string
}

func (e *ExecError) Error() string { return e.Message }

// ExecFailure explains the events of a program that came to its end without
// executing the command, which is named as the user did. As a shell does, it
// prefers a file that is there and cannot be executed to one that is not there.
func ExecFailure(command string, events []program.Event) *ExecError {
	var failure *ExecError
	for i, e := range events {
		path, ok := strings.CutPrefix(e.Label, reportExec)
		if !ok {
			continue
		}
		exists := i+1 < len(events) && events[i+1].Label == reportExists+path && events[i+1].Errno == 0
		switch {
		case e.Errno == unix.ENOENT && exists:
			failure = &ExecError{contract.ExitNotExecutable,
				fmt.Sprintf("execute %q: the interpreter that it names (#! line or ELF header) is not in the image", path)}
		case e.Errno == unix.ENOENT || e.Errno == unix.ENOTDIR:
			continue
		case e.Errno == unix.EACCES:
			failure = &ExecError{contract.ExitNotExecutable,
				fmt.Sprintf("execute %q: not executable (%v)", path, e.Errno)}
		case e.Errno == unix.ENOEXEC:
			failure = &ExecError{contract.ExitNotExecutable,
				fmt.Sprintf("execute %q: not a program for this machine and without a #! line", path)}
		default:
			failure = &ExecError{contract.ExitNotExecutable, fmt.Sprintf("execute %q: %v", path, e.Errno)}
		}
		return failure
	}
	where := "not found in the image"
	if !strings.Contains(command, "/") {
		where = "not found in any folder of PATH in the image"
	}
	return &ExecError{contract.ExitNotFound, fmt.Sprintf("execute %q: %s", command, where)}
}
