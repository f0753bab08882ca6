package ingest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"rkt/fetch/wire"
)

// challenge refuses a request.
func challenge(w http.ResponseWriter, text string) bool {
	w.Header().Set("WWW-Authenticate", text)
	w.WriteHeader(401)
	return true
}

// basic lets those in who have the password.
func basic(w http.ResponseWriter, r *http.Request) bool {
	if user, password, ok := r.BasicAuth(); !ok || user != "me" || password != "secret" {
		return challenge(w, `Basic realm="x"`)
	}
	return false
}

// bearer lets those in who got a token at the realm with the password.
func bearer(realm func(r *http.Request) string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			if r.FormValue("scope") != "repository:"+repository+":pull" || r.FormValue("service") != "reg" {
				w.WriteHeader(400)
			} else if _, password, _ := r.BasicAuth(); password == "secret" || r.FormValue("refresh_token") == "refresh" {
				io.WriteString(w, `{"access_token":"good"}`)
			} else {
				io.WriteString(w, `{"token":"anonymous"}`)
			}
			return true
		}
		if r.Header.Get("Authorization") != "Bearer good" {
			return challenge(w, `Bearer realm="`+realm(r)+`",service="reg",scope="repository:everything:push,pull"`)
		}
		return false
	}
}

// own is a token server on the registry itself.
func own(r *http.Request) string { return "https://" + r.Host + "/token" }

func TestCredentials(t *testing.T) {
	image := smallImage(t)
	tests := map[string]struct {
		before func(http.ResponseWriter, *http.Request) bool
		change func(*wire.Endpoint)
		words  string // of the failure; "" = it succeeds
	}{
		"basic":                  {basic, func(e *wire.Endpoint) { e.User, e.Password = "me", "secret" }, ""},
		"basic, wrong":           {basic, func(e *wire.Endpoint) { e.User, e.Password = "me", "wrong" }, "does not accept the credentials"},
		"basic, none":            {basic, func(e *wire.Endpoint) {}, "wants credentials"},
		"RG-10 basic, no verify": {basic, func(e *wire.Endpoint) { e.User, e.Password, e.CAs, e.SkipTLSVerify = "me", "secret", "", true }, "not verified"},
		"token":                  {bearer(own), func(e *wire.Endpoint) { e.User, e.Password = "me", "secret" }, ""},
		"token, wrong":           {bearer(own), func(e *wire.Endpoint) { e.User, e.Password = "me", "wrong" }, "does not accept"},
		"token, anonymous":       {bearer(own), func(e *wire.Endpoint) {}, "wants credentials"},
		"identity token":         {bearer(own), func(e *wire.Endpoint) { e.IdentityToken = "refresh" }, ""},
		"registry token":         {bearer(own), func(e *wire.Endpoint) { e.RegistryToken = "good" }, ""},
		"two challenges": {func(w http.ResponseWriter, r *http.Request) bool {
			if basic(httptest.NewRecorder(), r) {
				return challenge(w, `Negotiate, Digest realm="a\"b", Basic realm="x"`)
			}
			return false
		}, func(e *wire.Endpoint) { e.User, e.Password = "me", "secret" }, ""},
		"realm with a user": {bearer(func(r *http.Request) string { return "https://a:b@" + r.Host + "/token" }), func(e *wire.Endpoint) {}, "user name"},
		"no realm":          {bearer(func(r *http.Request) string { return "" }), func(e *wire.Endpoint) {}, "token server"},
		"token is no token": {func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				io.WriteString(w, `{"token":"a\r\nX-Evil: b"}`)
				return true
			}
			return challenge(w, `Bearer realm="`+own(r)+`"`)
		}, func(e *wire.Endpoint) {}, "something else than a token"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			e := newEvilRegistry(t, image, test.before)
			request := e.request()
			test.change(&request.Source.Endpoints[0])
			r := serveAll(t, request, nil)
			if test.words != "" {
				r.wantFailure(t, wire.CodeDenied, test.words)
				if strings.Contains(r.last().Text, "secret") {
					t.Errorf("the failure tells the password: %q", r.last().Text)
				}
				return
			}
			r.wantImage(t, image)
		})
	}
}

// TestCredentialsStayHome: RG-08 and RG-09, another host never sees a secret.
func TestCredentialsStayHome(t *testing.T) {
	image := smallImage(t)
	for name, test := range map[string]struct {
		listed bool
		words  string
	}{
		"token server that is not listed": {false, "not configured to get the credentials"},
		"token server that is listed":     {true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			other := newEvilRegistry(t, image, func(w http.ResponseWriter, r *http.Request) bool {
				io.WriteString(w, `{"token":"good"}`)
				return true
			})
			otherHost := strings.Replace(other.host(), "127.0.0.1", "localhost", 1)
			e := newEvilRegistry(t, image, func(w http.ResponseWriter, r *http.Request) bool {
				if r.Header.Get("Authorization") == "Bearer good" {
					return false
				}
				w.Header().Set("WWW-Authenticate", `Bearer realm="https://`+otherHost+`/token"`)
				w.WriteHeader(401)
				return true
			})
			request := e.request()
			end := &request.Source.Endpoints[0]
			end.User, end.Password = "me", "secret"
			end.SkipTLSVerify = false
			end.CAs = e.ca() + other.ca()
			if test.listed {
				end.TokenHosts = []string{otherHost}
			}
			r := serveAll(t, request, nil)
			if test.words != "" {
				r.wantFailure(t, wire.CodeDenied, test.words)
				if len(other.log) != 0 {
					t.Errorf("the other host was asked: %q", other.log)
				}
				return
			}
			// Its certificate is not for that name: nothing is sent to it.
			r.wantFailure(t, wire.CodeNetwork, "certificate")
		})
	}
}

// TestRedirectsDoNotCarryCredentials: RG-09.
func TestRedirectsDoNotCarryCredentials(t *testing.T) {
	image := smallImage(t)
	other := newEvilRegistry(t, image, nil)
	e := newEvilRegistry(t, image, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(401)
			return true
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, "https://"+other.host()+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}
		return false
	})
	request := e.request()
	end := &request.Source.Endpoints[0]
	end.User, end.Password, end.CAs = "me", "secret", e.ca()+other.ca()
	r := serveAll(t, request, nil)
	r.wantImage(t, image)
	if other.requests("/blobs/") == 0 || other.requests("Basic") != 0 {
		t.Errorf("requests to the other host = %q", other.log)
	}
}
