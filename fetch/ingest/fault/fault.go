// Package fault gives the failures of rkt-fetch the code by which the front end
// finds a hint. An error without one is classified by what it wraps.
package fault

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
	"rkt/image"
	"rkt/image/layer"
)

// coded is an error with a code.
type coded struct {
	code wire.Code
	err  error
}

func (c *coded) Error() string { return c.err.Error() }
func (c *coded) Unwrap() error { return c.err }

// New returns an error with a code; the rest is as for fmt.Errorf.
func New(code wire.Code, format string, args ...any) error {
	return &coded{code, fmt.Errorf(format, args...)}
}

// Code returns the code of the outermost New in err, else what follows from the
// errors it wraps, else wire.CodeOther.
func Code(err error) wire.Code {
	var c *coded
	switch {
	case errors.As(err, &c):
		return c.code
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return wire.CodeSpace
	case errors.Is(err, layer.ErrMalformed):
		return wire.CodeLayer
	case errors.Is(err, image.ErrPlatform):
		return wire.CodePlatform
	}
	return wire.CodeOther
}
