package main

import (
	"errors"
	"fmt"
	"io"

	"rkt/stage1/contract"
)

// usageError is a command line that rkt does not understand.
type usageError struct {
	message string
	help    string // the command that tells more
}

func (e *usageError) Error() string { return e.message }

// Hint implements hinter.
func (e *usageError) Hint() string { return "see " + e.help }

// hinter is an error that knows what the user can do about it. Errors of the
// packages below implement it too.
type hinter interface{ Hint() string }

// hintedError adds a hint to an error.
type hintedError struct {
	error
	hint string
}

func (e *hintedError) Unwrap() error { return e.error }

// Hint implements hinter.
func (e *hintedError) Hint() string { return e.hint }

// withHint adds a hint to err, formatted as by fmt.Sprintf.
func withHint(err error, format string, args ...any) error {
	return &hintedError{error: err, hint: fmt.Sprintf(format, args...)}
}

// exitCode ends rkt with that status and says nothing: everything is said, or
// the status is an answer (that of an app, say).
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// report tells the user about err, if any, and returns the exit status of rkt.
func report(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	var code exitCode
	if errors.As(err, &code) {
		return int(code)
	}
	fmt.Fprintf(stderr, "rkt: error: %v\n", err)
	var h hinter
	if errors.As(err, &h) && h.Hint() != "" {
		fmt.Fprintf(stderr, "rkt: hint: %s\n", h.Hint())
	}
	return contract.ExitFailure
}
