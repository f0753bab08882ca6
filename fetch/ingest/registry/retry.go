package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"rkt/fetch/ingest/fault"
	"rkt/fetch/wire"
)

const (
	maxTries      = 6                // of one request
	maxPause      = 15 * time.Second // that we choose ourselves
	maxRetryAfter = 60 * time.Second // that a server may ask for
	maxWaiting    = 3 * time.Minute  // all pauses of one request
	maxRefused    = 4                // tries of one that refuses connections: less than a second
)

// errStall is a connection that brings nothing for too long.
var errStall = errors.New("nothing came for too long")

// temporaryError is a failure of the connection, which may be gone next time.
type temporaryError struct{ err error }

func (t *temporaryError) Error() string { return t.err.Error() }
func (t *temporaryError) Unwrap() error { return t.err }

// broken marks an error in the middle of a body.
func broken(err error) error { return &temporaryError{fmt.Errorf("connection broke: %w", err)} }

// refused makes clear what it means that a request could not be sent or got no
// answer, and marks what may be gone next time.
func refused(err error) error {
	var record tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	var invalid x509.CertificateInvalidError
	var dns *net.DNSError
	switch {
	case errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/":
		return fault.New(wire.CodePlainHTTP, "it speaks plain http, not https")
	case errors.As(err, &record), errors.As(err, &verify), errors.As(err, &invalid):
		return fault.New(wire.CodeNetwork, "%w", err)
	case errors.As(err, &dns) && dns.IsNotFound:
		return fault.New(wire.CodeNetwork, "%w", err)
	case fault.Code(err) != wire.CodeOther: // what we refused ourselves
		return err
	}
	return &temporaryError{err}
}

// temporary tells whether it makes sense to try again, and after which pause the
// server wants that; 0 = it does not say.
func temporary(err error) (_ bool, after time.Duration) {
	var status *statusError
	if errors.As(err, &status) {
		switch status.status {
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			return true, retryAfter(status.retryAfter)
		case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout:
			return true, 0
		}
		return false, 0
	}
	var broken *temporaryError
	return errors.As(err, &broken), 0
}

// retryAfter reads the header of that name, seconds or a date; 0 for anything else.
func retryAfter(s string) time.Duration {
	seconds, err := strconv.ParseInt(s, 10, 64)
	after := time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second
	if err != nil {
		at, err := http.ParseTime(s)
		if err != nil {
			return 0
		}
		after = time.Until(at)
	}
	return min(max(after, 0), maxRetryAfter)
}

// patience decides how often one thing is tried. It is used by one goroutine.
type patience struct {
	c      *Client
	tries  int
	waited time.Duration
}

// renew forgets earlier failures: there was progress.
func (p *patience) renew() { p.tries, p.waited = 0, 0 }

// wait pauses after a failure. It returns err, classified, when there is to be
// no other try, and the cause when ctx ends.
func (p *patience) wait(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	again, after := temporary(err)
	p.tries++
	if !again || p.tries >= maxTries {
		return classified(err)
	}
	pause := min(p.c.o.Pause<<(p.tries-1), maxPause)
	if errors.Is(err, syscall.ECONNREFUSED) && !p.c.reach.known() {
		// Nobody listens there, and nobody ever did. One that has answered before
		// is being restarted, which takes longer.
		if p.c.o.Spare || p.tries >= maxRefused {
			return classified(err)
		}
		pause = p.c.o.Pause / 2
	}
	// Half of it is random, so that those who failed together do not come back
	// together.
	pause = pause/2 + rand.N(pause/2+1)
	pause = max(pause, after)
	if p.waited += pause; p.waited > maxWaiting {
		return classified(err)
	}
	p.c.o.Note(fmt.Sprintf("%s: %v; trying again in %v", p.c.end.Host, err, pause.Round(100*time.Millisecond)))
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// classified gives the final failure its code.
func classified(err error) error {
	var status *statusError
	switch {
	case errors.Is(err, errStall), isTimeout(err):
		return fault.New(wire.CodeStall, "%w", err)
	case fault.Code(err) != wire.CodeOther:
		return err
	case errors.As(err, &status):
		return fault.New(status.code(), "%w", err)
	}
	return fault.New(wire.CodeNetwork, "%w", err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// retry repeats a request of which nothing is kept when it fails. Each try must
// end within a bounded time.
func (c *Client) retry(ctx context.Context, try func(context.Context) error) error {
	p := patience{c: c}
	for {
		limited, cancel := context.WithTimeoutCause(ctx, 4*c.o.Stall, errStall)
		err := try(limited)
		if err != nil && context.Cause(limited) == errStall && ctx.Err() == nil {
			err = &temporaryError{errStall}
		}
		cancel()
		if err == nil {
			return nil
		}
		if err := p.wait(ctx, err); err != nil {
			return err
		}
	}
}
