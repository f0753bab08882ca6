package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"rkt/fetch/ingest/fault"
	"rkt/fetch/wire"
	"rkt/internal/mutant"
)

const (
	maxRedirects = 5
	maxErrorBody = 8 << 10 // bytes that are read of the body of a failure
	maxDetail    = 200     // bytes of them that are shown
)

// userAgent names the program and nothing about the machine.
const userAgent = "rkt"

// get sends one GET to the registry, with what authorization it asks for, and
// follows it to where it leads. Any answer but 200 and 206 is an error.
func (c *Client) get(ctx context.Context, path string, header http.Header) (*http.Response, error) {
	u := *c.base
	u.Path, u.RawQuery, _ = strings.Cut(path, "?")
	for asked := false; ; asked = true {
		sent := c.authorization()
		resp, left, err := c.follow(ctx, &u, header, sent)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent {
			return resp, nil
		}
		failure := c.failure(resp, left)
		if resp.StatusCode != http.StatusUnauthorized || left || asked {
			return nil, failure
		}
		if err := c.authorize(ctx, resp.Header, sent); err != nil {
			if errors.Is(err, errNoChallenge) {
				return nil, failure
			}
			return nil, err
		}
	}
}

// follow sends a request and follows redirects. The authorization goes to the
// registry alone, and not any more once a redirect has left it. It reports
// whether one has.
func (c *Client) follow(ctx context.Context, u *url.URL, header http.Header, authorization string) (_ *http.Response, left bool, err error) {
	for hop := 0; ; hop++ {
		req := (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: header.Clone()}).WithContext(ctx)
		if req.Header == nil {
			req.Header = http.Header{}
		}
		req.Header.Set("User-Agent", userAgent)
		req.Header.Set("Accept-Encoding", "identity")
		left = left || u.Scheme != c.base.Scheme || !strings.EqualFold(u.Host, c.base.Host)
		t := c.foreign
		if mutant.On("carryauth") && authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		if !left {
			t = c.own
			if authorization != "" {
				req.Header.Set("Authorization", authorization)
			}
		}
		resp, err := t.RoundTrip(req)
		if err != nil {
			return nil, left, fmt.Errorf("ask %q: %w", u.Host, refused(err))
		}
		to, err := redirect(resp, u)
		if err != nil || to == nil {
			return resp, left, err
		}
		if hop == maxRedirects {
			return nil, left, fault.New(wire.CodeNetwork, "more than %d redirects", maxRedirects)
		}
		u = to
	}
}

// redirect returns where an answer leads to, nil when it is one itself. The
// answer is closed unless nil and no error is returned.
func redirect(resp *http.Response, from *url.URL) (*url.URL, error) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	drain(resp)
	location := resp.Header.Get("Location")
	to, err := from.Parse(location)
	switch {
	case err != nil || location == "" || to.Host == "":
		return nil, fault.New(wire.CodeNetwork, "%q redirects to nowhere", from.Host)
	case to.User != nil:
		return nil, fault.New(wire.CodeNetwork, "%q redirects to an address with a user name", from.Host)
	case to.Scheme == "https", to.Scheme == "http" && from.Scheme == "http", mutant.On("redirecthttp"):
		to.Fragment = ""
		return to, nil
	case to.Scheme == "http":
		return nil, fault.New(wire.CodeNetwork, "%q redirects from https to http", from.Host)
	}
	return nil, fault.New(wire.CodeNetwork, "%q redirects to the scheme %.20q", from.Host, to.Scheme)
}

// drain reads a little of a body that is not wanted, so that the connection can
// be used again, and closes it.
func drain(resp *http.Response) []byte {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	resp.Body.Close()
	return b
}

// failure makes an error of an answer that is none, and closes it.
func (c *Client) failure(resp *http.Response, left bool) error {
	f := &statusError{
		status:     resp.StatusCode,
		detail:     detail(drain(resp)),
		retryAfter: resp.Header.Get("Retry-After"),
	}
	switch {
	case left:
		f.who = resp.Request.URL.Host
	case f.status == http.StatusUnauthorized && c.hasCredentials() && c.mayAuthorize():
		f.detail = "it does not accept the credentials" + f.detail
	case f.status == http.StatusUnauthorized && c.hasCredentials():
		f.detail = "it wants credentials, which are not sent to a host that is not verified" + f.detail
	case f.status == http.StatusUnauthorized:
		f.detail = "it wants credentials, or has no such repository" + f.detail
	}
	return f
}

// statusError is an answer other than success.
type statusError struct {
	status     int
	who        string // a host that is not the registry
	detail     string
	retryAfter string
}

func (s *statusError) Error() string {
	text := fmt.Sprintf("%d %s", s.status, http.StatusText(s.status))
	if s.who != "" {
		text = fmt.Sprintf("%q answers %s", s.who, text)
	}
	if s.detail != "" {
		text += ": " + s.detail
	}
	return text
}

func (s *statusError) code() wire.Code {
	switch s.status {
	case http.StatusNotFound, http.StatusGone:
		return wire.CodeNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return wire.CodeDenied
	case http.StatusRequestedRangeNotSatisfiable:
		return wire.CodeDigest
	}
	return wire.CodeNetwork
}

// detail finds what the registry says in the body of a failure.
func detail(body []byte) string {
	var doc struct {
		Errors []struct{ Code, Message string }
	}
	if json.Unmarshal(body, &doc) != nil || len(doc.Errors) == 0 {
		return ""
	}
	text := doc.Errors[0].Message
	if text == "" {
		text = doc.Errors[0].Code
	}
	if text == "" {
		return ""
	}
	return fmt.Sprintf(" (the registry says %.*q)", maxDetail, text)
}
