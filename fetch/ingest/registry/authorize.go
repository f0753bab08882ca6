package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"golang.org/x/net/publicsuffix"

	"rkt/fetch/ingest/fault"
	"rkt/fetch/wire"
	"rkt/internal/mutant"
)

// maxTokenAnswer bounds the answer of a token server, in bytes.
const maxTokenAnswer = 256 << 10

// errNoChallenge says that the registry refuses without saying what it wants.
var errNoChallenge = errors.New("no challenge that can be met")

func (c *Client) hasCredentials() bool {
	return c.end.User != "" || c.end.Password != "" || c.end.IdentityToken != "" || c.end.RegistryToken != ""
}

// mayAuthorize: what is secret goes to hosts whose certificate was verified only.
func (c *Client) mayAuthorize() bool { return !c.end.HTTP && !c.end.SkipTLSVerify }

// authorization is the header to send to the registry; "" = none.
func (c *Client) authorization() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.header
}

// authorize answers the challenge of a registry that refused what was sent. One
// goroutine at a time does so; others find its result.
func (c *Client) authorize(ctx context.Context, header http.Header, sent string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.header != sent {
		return nil
	}
	challenges := parseChallenges(header.Values("Www-Authenticate"))
	for _, ch := range challenges {
		if ch.scheme == "bearer" {
			token, err := c.token(ctx, ch)
			if err != nil {
				return fmt.Errorf("get a token: %w", err)
			}
			c.header = "Bearer " + token
			return nil
		}
	}
	for _, ch := range challenges {
		basic := basicAuth(c.end.User, c.end.Password)
		if ch.scheme == "basic" && c.mayAuthorize() && c.end.User != "" && sent != basic {
			c.header = basic
			return nil
		}
	}
	return errNoChallenge
}

func basicAuth(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// token asks the token server that the registry names, for the right to read
// this repository and nothing else, whatever the registry would like to be asked.
func (c *Client) token(ctx context.Context, ch challenge) (string, error) {
	realm, err := c.realm(ch.parameters["realm"])
	if err != nil {
		return "", err
	}
	req, err := c.tokenRequest(ctx, realm, ch.parameters["service"])
	if err != nil {
		return "", err
	}
	t := c.foreign
	if c.isOwn(realm) {
		t = c.own
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return "", fmt.Errorf("ask %q: %w", realm.Host, refused(err))
	}
	if resp.StatusCode != http.StatusOK {
		f := &statusError{status: resp.StatusCode, who: realm.Host, retryAfter: resp.Header.Get("Retry-After")}
		drain(resp)
		if f.status == http.StatusNotFound {
			f.status = http.StatusUnauthorized // it is not the image that is missing
		}
		return "", f
	}
	defer resp.Body.Close()
	return readToken(resp.Body)
}

// realm checks who is to be asked for the token.
func (c *Client) realm(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return nil, fault.New(wire.CodeDenied, "registry names the token server %.200q", text)
	case u.User != nil:
		return nil, fault.New(wire.CodeDenied, "registry names a token server with a user name")
	case u.Scheme != "https" && !(u.Scheme == "http" && c.end.HTTP):
		return nil, fault.New(wire.CodeDenied, "registry names the token server %q, which is not https", u.Redacted())
	}
	u.Fragment = ""
	return u, nil
}

// tokenRequest makes the request for a token: with the identity token or the
// password if there are some and the server may see them.
func (c *Client) tokenRequest(ctx context.Context, realm *url.URL, service string) (*http.Request, error) {
	secret := c.end.IdentityToken != "" || c.end.User != ""
	if secret && c.mayAuthorize() && !c.trustsRealm(realm) {
		return nil, fault.New(wire.CodeDenied,
			"registry names the token server %q, which is not configured to get the credentials of %q", realm.Host, c.end.Host)
	}
	secret = secret && c.mayAuthorize()
	query := realm.Query()
	if service != "" {
		query.Set("service", service)
	}
	query.Set("scope", "repository:"+c.repository+":pull")
	u := *realm
	if secret && c.end.IdentityToken != "" {
		query.Set("grant_type", "refresh_token")
		query.Set("refresh_token", c.end.IdentityToken)
		query.Set("client_id", userAgent)
		u.RawQuery = ""
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(query.Encode()))
		if err == nil {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			req.Header.Set("User-Agent", userAgent)
		}
		return req, err
	}
	if secret {
		query.Set("account", c.end.User)
	}
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", userAgent)
	if secret {
		req.Header.Set("Authorization", basicAuth(c.end.User, c.end.Password))
	}
	return req, nil
}

// isOwn reports whether u is the registry itself.
func (c *Client) isOwn(u *url.URL) bool {
	return u.Scheme == c.base.Scheme && strings.EqualFold(u.Host, c.base.Host)
}

// trustsRealm reports whether a token server may see the credentials: when it is
// on the registry's host, was listed by the operator, or is on the usual port of
// a host that belongs to the same registered domain.
func (c *Client) trustsRealm(realm *url.URL) bool {
	host := strings.ToLower(realm.Hostname())
	if mutant.On("sendauth") {
		return true
	}
	if host == strings.ToLower(c.base.Hostname()) {
		return true
	}
	for _, listed := range c.end.TokenHosts {
		if strings.EqualFold(listed, realm.Host) || strings.EqualFold(net.JoinHostPort(listed, "443"), realm.Host) {
			return true
		}
	}
	if port := realm.Port(); port != "" && port != "443" {
		return false
	}
	return sameDomain(host, strings.ToLower(c.base.Hostname()))
}

// sameDomain reports whether two names are below one domain that somebody has
// registered, by the public suffix list.
func sameDomain(a, b string) bool {
	for _, name := range []string{a, b} {
		if _, err := netip.ParseAddr(name); err == nil {
			return false
		}
	}
	domainA, errA := publicsuffix.EffectiveTLDPlusOne(a)
	domainB, errB := publicsuffix.EffectiveTLDPlusOne(b)
	return errA == nil && errB == nil && domainA == domainB
}

// readToken reads the answer of a token server.
func readToken(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxTokenAnswer+1))
	if err != nil {
		return "", broken(err)
	}
	if len(b) > maxTokenAnswer {
		return "", fault.New(wire.CodeDenied, "token server answers with more than %d bytes", maxTokenAnswer)
	}
	var answer struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return "", fault.New(wire.CodeDenied, "token server answers with something else than a token")
	}
	token := answer.Token
	if token == "" {
		token = answer.AccessToken
	}
	visible := func(r rune) bool { return r > ' ' && r < 0x7f }
	if token == "" || strings.IndexFunc(token, func(r rune) bool { return !visible(r) }) >= 0 {
		return "", fault.New(wire.CodeDenied, "token server answers with something else than a token")
	}
	return token, nil
}
