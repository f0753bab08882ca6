package fetch

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/fetch/wire"
	"rkt/image"
	"rkt/image/trust"
	"rkt/internal/escape"
	"rkt/internal/mutant"
)

// Error is a fetch that failed: of what, why, and what the user can do.
type Error struct {
	Reference string
	Code      wire.Code
	Err       error // has Text when it comes from rkt-fetch
	hint      string
}

func (e *Error) Error() string { return fmt.Sprintf("fetch %q: %v", e.Reference, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint tells what the user can do about it, or "".
func (e *Error) Hint() string { return e.hint }

// reported is what rkt-fetch says about its failure, made fit for a terminal.
type reported struct{ text string }

func (r reported) Error() string {
	if mutant.On("rawterminal") {
		return r.text
	}
	return escape.Text(r.text)
}

// coded makes an error that says what kind of failure it is.
func coded(code wire.Code, format string, args ...any) error {
	return &codedError{code, fmt.Errorf(format, args...)}
}

// codedError carries a code up to fail, which makes an Error of it.
type codedError struct {
	code wire.Code
	err  error
}

func (e *codedError) Error() string { return e.err.Error() }
func (e *codedError) Unwrap() error { return e.err }

// fail makes the Error that the user sees of the reason why ref was not fetched.
func (f *Fetcher) fail(ctx context.Context, ref image.Ref, err error) error {
	var refused *trust.Refused
	if errors.As(err, &refused) {
		return refused
	}
	out := &Error{Reference: ref.String(), Code: codeOf(err), Err: err}
	switch {
	case ctx.Err() != nil:
		out.Err = interrupted{ctx.Err()} // whatever it made fail
	case out.Code == wire.CodeSpace:
		out.Err = f.spaceError(err)
	}
	out.hint = f.hint(ref, out.Code)
	var knows interface{ Hint() string }
	switch {
	case errors.As(err, &knows):
		out.hint = knows.Hint()
	case errors.Is(err, errNever):
		out.hint = "rkt fetch " + ref.String()
	}
	return out
}

// interrupted is what the user sees of a context that ended.
type interrupted struct{ cause error }

func (interrupted) Error() string   { return "interrupted" }
func (i interrupted) Unwrap() error { return i.cause }

// codeOf classifies err.
func codeOf(err error) wire.Code {
	var c *codedError
	var mismatch *cas.MismatchError
	switch {
	case errors.As(err, &c):
		return c.code
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return wire.CodeSpace
	case errors.As(err, &mismatch), errors.Is(err, cas.ErrCorrupt):
		return wire.CodeDigest
	case errors.Is(err, image.ErrPlatform):
		return wire.CodePlatform
	}
	return wire.CodeOther
}

// hint tells what the user can do about a failure of that code.
func (f *Fetcher) hint(ref image.Ref, code wire.Code) string {
	local := ref.IsLocal()
	switch code {
	case wire.CodeNotFound:
		if local {
			return ""
		}
		return "check the name and the tag; without a tag rkt asks for \":latest\""
	case wire.CodeDenied:
		return fmt.Sprintf("check the name; for a private image put a credential for %s into /etc/rkt/auth.d, or use podman login %s", ref.Host, ref.Host)
	case wire.CodeDigest:
		if local {
			return "the image is damaged or was made wrongly; get it again"
		}
		return "the registry or something on the way to it does not give the right bytes; try again later"
	case wire.CodeType:
		return "rkt runs images in the OCI or Docker schema 2 format"
	case wire.CodeLayer:
		return "the image is malformed; build it again"
	case wire.CodeNetwork:
		return "is the registry reachable, its certificate authority in /etc/rkt/registries.d, a proxy needed? what came whole is not brought again"
	case wire.CodeStall:
		return "try again; what came whole is not brought again"
	case wire.CodeSpace:
		return "free some space, for example by rkt gc --images, or choose another folder with --dir"
	case wire.CodePlainHTTP:
		return fmt.Sprintf("if you trust the network: rkt --insecure-options=http fetch %s", ref)
	}
	return ""
}
