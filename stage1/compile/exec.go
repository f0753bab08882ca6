package compile

import "rkt/stage1/program"

// ExecError says why the command of an app could not be executed.
type ExecError struct {
	Code    int // contract.ExitNotFound or contract.ExitNotExecutable
	Message string
}

func (e *ExecError) Error() string { return e.Message }

// ExecFailure explains the events of a program that came to its end without
// executing the command, whose name is as the user gave it.
func ExecFailure(command string, events []program.Event) *ExecError {
	return nil
}
