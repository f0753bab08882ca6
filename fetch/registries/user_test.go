package registries

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// helper writes a credential helper that is a shell script.
func (w *world) helper(name, script string) {
	w.write(0o755, "bin/docker-credential-"+name, "#!/bin/sh\n"+script+"\n")
}

func basic(user string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":p"))
}

func TestUserFilesInOrder(t *testing.T) {
	w := newWorld(t)
	file := func(user string) string {
		return `{"auths":{"r.example":{"auth":"` + basic(user) + `"}},"HttpHeaders":{}}`
	}
	steps := []struct{ name, want string }{
		{"home/.docker/config.json", "docker"},
		{"home/.config/containers/auth.json", "containers"},
		{"run/auth.json", "runtime"},
	}
	for _, s := range steps {
		w.write(0o600, s.name, file(s.want))
		if got := w.one("r.example", "x").User; got != s.want {
			t.Errorf("user %q, want %q", got, s.want)
		}
	}
	w.AuthFile = w.write(0o600, "named.json", `{}`)
	if got := w.one("r.example", "x").User; got != "" {
		t.Errorf("user %q although the named file has none", got)
	}
	w.AuthFile = filepath.Join(w.root, "absent")
	if _, err := w.Endpoints(context.Background(), "r.example", "x", false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a named file that is not there: %v", err)
	}
}

func TestLongestNameInAuthsWins(t *testing.T) {
	w := newWorld(t)
	w.write(0o600, "run/auth.json", fmt.Sprintf(`{"auths":{
		"r.example":{"auth":%q}, "r.example/team":{"auth":%q}, "r.example/team/app":{"auth":%q},
		"https://index.docker.io/v1/":{"auth":%q}, "https://t.example/v2/":{"identitytoken":"idt","auth":%q}}}`,
		basic("host"), basic("team"), basic("app"), basic("hub"), basic("ignored")))
	for _, c := range []struct{ host, repository, want string }{
		{"r.example", "other/x", "host"},
		{"r.example", "team/x", "team"},
		{"r.example", "teamwork", "host"},
		{"r.example", "team/app", "app"},
		{"r.example", "team/app/sub", "app"},
		{"r.example", "team/application", "team"},
		{"docker.io", "library/busybox", "hub"},
		{"t.example", "x", ""},
	} {
		if got := w.one(c.host, c.repository).User; got != c.want {
			t.Errorf("%s/%s: user %q, want %q", c.host, c.repository, got, c.want)
		}
	}
	if got := w.one("t.example", "x").IdentityToken; got != "idt" {
		t.Errorf("identity token %q", got)
	}
}

func TestFileOfAnotherUserIsNotUsed(t *testing.T) {
	w := newWorld(t)
	path := w.write(0o600, "home/.docker/config.json", `{"credsStore":"evil"}`)
	w.helper("evil", "touch "+filepath.Join(w.root, "ran"))
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Skip("needs root")
	}
	if end := w.one("r.example", "x"); end.User != "" {
		t.Errorf("user %q", end.User)
	}
	if _, err := os.Stat(filepath.Join(w.root, "ran")); err == nil {
		t.Error("the helper that another user named was run")
	}
	if len(w.notes) != 1 {
		t.Errorf("notes: %q", w.notes)
	}
}

func TestSecretsAreNotInErrors(t *testing.T) {
	w := newWorld(t)
	for name, text := range map[string]string{
		"home/.docker/config.json": `{"auths":{"r.example":{"auth":"s3cr3t!!"}}}`,
		"run/auth.json":            `{"auths":{"r.example": s3cr3t`,
	} {
		path := w.write(0o600, name, text)
		_, err := w.Endpoints(context.Background(), "r.example", "x", false)
		if err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", name, err)
		}
		os.Remove(path)
	}
}

func TestHelpers(t *testing.T) {
	w := newWorld(t)
	t.Setenv("RKT_TEST_SECRET", "leak")
	w.helper("good", `read key; [ "$1" = get ] && [ -z "$RKT_TEST_SECRET" ] && [ "$key" = r.example ] && echo '{"ServerURL":"x","Username":"helped","Secret":"p"}'`)
	w.helper("token", `echo '{"Username":"<token>","Secret":"refresh"}'`)
	w.helper("none", "echo credentials not found in native keychain; exit 1")
	w.helper("fails", "printf 'broken\\033[2J\\nmore'; exit 3")
	w.helper("floods", "while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done")
	w.helper("junk", "echo s3cr3t")
	for _, c := range []struct {
		name, helper string
		want         credential
		err          string // part of it; "" = none
	}{
		{"answers with a password", "good", credential{User: "helped", Password: "p"}, ""},
		{"answers with a token", "token", credential{IdentityToken: "refresh"}, ""},
		{"knows nothing", "none", credential{}, ""},
		{"fails", "fails", credential{}, `exit status 3: broken\x1b[2J`},
		{"floods", "floods", credential{}, "more than"},
		{"answers with junk", "junk", credential{}, "not JSON"},
		{"is not there", "absent", credential{}, "no docker-credential-absent"},
		{"has a path in its name", "../good", credential{}, "is not the name"},
		{"has an option as its name", "-x", credential{}, "is not the name"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := w.askHelper(context.Background(), c.helper, "r.example")
			if got != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("askHelper() = %v, %v; want %v, %q", got, err, c.want, c.err)
			}
			if err != nil && (strings.Contains(err.Error(), "s3cr3t") || strings.Contains(err.Error(), "\x1b")) {
				t.Errorf("error shows what the helper said raw: %q", err)
			}
		})
	}
}

func TestHelperThatHangsEndsWithTheCommand(t *testing.T) {
	w := newWorld(t)
	w.helper("hangs", "exec /bin/sleep 1000")
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := w.askHelper(ctx, "hangs", "r.example"); err == nil {
		t.Error("no error")
	}
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestHelperOfAllRegistriesMayFail(t *testing.T) {
	w := newWorld(t)
	w.write(0o600, "home/.docker/config.json", `{"credsStore":"absent","credHelpers":{"special.example":"alsoabsent"}}`)
	if end := w.one("r.example", "x"); end.User != "" || len(w.notes) != 1 {
		t.Errorf("user %q, notes %q", end.User, w.notes)
	}
	if _, err := w.Endpoints(context.Background(), "special.example", "x", false); err == nil {
		t.Error("the registry's own helper is missing and nobody says so")
	}
}
