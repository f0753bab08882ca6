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

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
)

// world is a machine's configuration in a folder of the test.
type world struct {
	Config
	t     *testing.T
	root  string
	notes []string
}

func newWorld(t *testing.T) *world {
	root := t.TempDir()
	w := &world{t: t, root: root}
	w.Config = Config{
		Vendor: filepath.Join(root, "usr"), Local: filepath.Join(root, "etc"),
		Runtime: filepath.Join(root, "run"), Home: filepath.Join(root, "home"),
		HelperDirs: []string{filepath.Join(root, "bin")},
		Note:       func(s string) { w.notes = append(w.notes, s) },
	}
	return w
}

// write writes a file below the root of the world.
func (w *world) write(mode os.FileMode, name, text string) string {
	w.t.Helper()
	path := filepath.Join(w.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// helper writes a credential helper that is a shell script.
func (w *world) helper(name, script string) {
	w.write(0o755, "bin/docker-credential-"+name, "#!/bin/sh\n"+script+"\n")
}

// one returns the only endpoint of the host.
func (w *world) one(host, repository string) wire.Endpoint {
	w.t.Helper()
	ends, err := w.Endpoints(context.Background(), host, repository, false)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(ends) != 1 {
		w.t.Fatalf("%d endpoints, want 1: %v", len(ends), ends)
	}
	return ends[0]
}

func authD(user string, hosts ...string) string {
	return fmt.Sprintf(`{"rktKind":"dockerAuth","rktVersion":"v1","registries":["%s"],"credentials":{"user":%q,"password":"p"}}`,
		strings.Join(hosts, `","`), user)
}

func basic(user string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":p"))
}

func TestCredentialGoesOnlyToItsHost(t *testing.T) {
	w := newWorld(t)
	w.write(0o600, "etc/auth.d/a.json", authD("alice", "a.example", "b.example:5000", "docker.io"))
	for _, c := range []struct{ host, wantHost, wantUser string }{
		{"a.example", "a.example", "alice"},
		{"a.example:5000", "a.example:5000", ""},
		{"b.example:5000", "b.example:5000", "alice"},
		{"b.example", "b.example", ""},
		{"a.example.evil", "a.example.evil", ""},
		{"x.a.example", "x.a.example", ""},
		{"docker.io", "registry-1.docker.io", "alice"},
	} {
		end := w.one(c.host, "x/y")
		if end.Host != c.wantHost || end.User != c.wantUser {
			t.Errorf("%s: host %q with user %q, want %q with %q", c.host, end.Host, end.User, c.wantHost, c.wantUser)
		}
	}
}

func TestCredentialNeedsAVerifiedConnection(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*world)
		want []wire.Endpoint
	}{
		{"verified", func(*world) {}, []wire.Endpoint{{Host: "r.example", User: "u", Password: "p"}}},
		{"tls not verified", func(w *world) { w.SkipTLSVerify = true }, []wire.Endpoint{{Host: "r.example", SkipTLSVerify: true}}},
		{"http allowed", func(w *world) { w.AllowHTTP = true },
			[]wire.Endpoint{{Host: "r.example", User: "u", Password: "p"}, {Host: "r.example", HTTP: true}}},
		{"plain http by configuration", func(w *world) {
			w.write(0o644, "etc/registries.d/r.json", `{"host":"r.example","plainHTTP":true}`)
		}, []wire.Endpoint{{Host: "r.example", HTTP: true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.write(0o600, "etc/auth.d/a.json", authD("u", "r.example"))
			c.set(w)
			got, err := w.Endpoints(context.Background(), "r.example", "x", false)
			if err != nil {
				t.Fatal(err)
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("Endpoints() = %v, want %v", got, c.want)
			}
			if kept := got[0].User == ""; kept != (len(w.notes) > 0) {
				t.Errorf("credential kept back: %v, notes: %q", kept, w.notes)
			}
		})
	}
}

func TestMirrorsComeFirstWithTheirOwnCredential(t *testing.T) {
	w := newWorld(t)
	w.write(0o600, "etc/auth.d/a.json", authD("upstream", "r.example"))
	w.write(0o600, "etc/auth.d/m.json", authD("mirror", "m1.example:5000"))
	w.write(0o644, "etc/registries.d/r.json", `{"host":"r.example","tokenHosts":["t.example"],
		"mirrors":[{"host":"m1.example:5000"},{"host":"m2.example","digestOnly":true}]}`)
	for _, c := range []struct {
		byDigest bool
		want     string
	}{
		{false, "m1.example:5000/mirror r.example/upstream"},
		{true, "m1.example:5000/mirror m2.example/ r.example/upstream"},
	} {
		ends, err := w.Endpoints(context.Background(), "r.example", "x", c.byDigest)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range ends {
			got = append(got, e.Host+"/"+e.User)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("by digest %v: %v, want %s", c.byDigest, got, c.want)
		}
		if last := ends[len(ends)-1]; len(last.TokenHosts) != 1 || len(ends[0].TokenHosts) != 0 {
			t.Errorf("token hosts are not those of the registry: %v", ends)
		}
	}
}

func TestOnlyCertificatesOfTheFileAreHandedOver(t *testing.T) {
	const cert = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
	const key = "-----BEGIN PRIVATE KEY-----\nBBBB\n-----END PRIVATE KEY-----\n"
	w := newWorld(t)
	w.write(0o644, "etc/registries.d/ca.pem", "text\n"+key+cert)
	w.write(0o644, "etc/registries.d/r.json", `{"host":"r.example","ca":"ca.pem"}`)
	if got := w.one("r.example", "x").CAs; got != cert {
		t.Errorf("CAs = %q, want %q", got, cert)
	}
	if got := w.one("other.example", "x").CAs; got != "" {
		t.Errorf("another registry has the certificates %q", got)
	}
}

// RG-15: what others can read or write is refused, with the command that helps.
func TestFilesThatOthersCanReachAreRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(w *world)
		hint string
	}{
		{"auth.d readable by others", func(w *world) { w.write(0o644, "etc/auth.d/a.json", authD("u", "r.example")) }, "chmod 0600 "},
		{"auth.d readable by the group", func(w *world) { w.write(0o640, "usr/auth.d/a.json", authD("u", "r.example")) }, "chmod 0600 "},
		{"auth.d of another user", func(w *world) {
			if err := os.Chown(w.write(0o600, "etc/auth.d/a.json", authD("u", "r.example")), 12345, 0); err != nil {
				w.t.Skip("needs root")
			}
		}, "chown root:root "},
		{"folder writable by others", func(w *world) {
			path := w.write(0o600, "etc/auth.d/a.json", authD("u", "r.example"))
			os.Chmod(filepath.Dir(path), 0o777)
		}, "chmod go-w "},
		{"registries.d writable by others", func(w *world) { w.write(0o666, "etc/registries.d/r.json", `{"host":"r.example"}`) }, "chmod go-w "},
		{"symbolic link", func(w *world) {
			target := w.write(0o600, "elsewhere", authD("u", "r.example"))
			w.write(0o600, "etc/auth.d/keep", "")
			os.Symlink(target, filepath.Join(w.root, "etc/auth.d/a.json"))
		}, ""},
		{"FIFO is not waited for", func(w *world) {
			w.write(0o600, "etc/auth.d/keep", "")
			if err := unix.Mkfifo(filepath.Join(w.root, "etc/auth.d/a.json"), 0o600); err != nil {
				w.t.Fatal(err)
			}
		}, ""},
		{"docker's file with a credential that others can read", func(w *world) {
			w.write(0o644, "home/.docker/config.json", `{"auths":{"r.example":{"auth":"`+basic("u")+`"}}}`)
		}, "chmod 0600 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			c.set(w)
			_, err := w.Endpoints(context.Background(), "r.example", "x", false)
			var refused *Refused
			if !errors.As(err, &refused) {
				t.Fatalf("Endpoints() = %v, want Refused", err)
			}
			if !strings.HasPrefix(refused.Hint(), c.hint) || (c.hint == "") != (refused.Hint() == "") {
				t.Errorf("Hint() = %q, want %q...", refused.Hint(), c.hint)
			}
		})
	}
}

func TestConfigurationIsStrict(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"unknown key":             {"etc/auth.d/a.json": `{"rktKind":"dockerAuth","rktVersion":"v1","registries":["a"],"credentials":{"user":"u","password":"p"},"more":1}`},
		"repeated key":            {"etc/auth.d/a.json": `{"rktKind":"dockerAuth","rktVersion":"v1","rktVersion":"v1","registries":["a"],"credentials":{"user":"u"}}`},
		"key in another case":     {"etc/registries.d/a.json": `{"Host":"a.example"}`},
		"wrong kind":              {"etc/auth.d/a.json": `{"rktKind":"auth","rktVersion":"v1","registries":["a"],"credentials":{"user":"u"}}`},
		"no credential":           {"etc/auth.d/a.json": `{"rktKind":"dockerAuth","rktVersion":"v1","registries":["a"],"credentials":{}}`},
		"two credentials":         {"etc/auth.d/a.json": `{"rktKind":"dockerAuth","rktVersion":"v1","registries":["a"],"credentials":{"user":"u","registryToken":"t"}}`},
		"no registries":           {"etc/auth.d/a.json": `{"rktKind":"dockerAuth","rktVersion":"v1","registries":[],"credentials":{"user":"u"}}`},
		"one registry twice":      {"etc/auth.d/a.json": authD("u", "a.example"), "etc/auth.d/b.json": authD("v", "https://a.example/v2/")},
		"one host twice":          {"etc/registries.d/a.json": `{"host":"a.example"}`, "etc/registries.d/b.json": `{"host":"a.example"}`},
		"host with a path":        {"etc/registries.d/a.json": `{"host":"a.example/x"}`},
		"host in capitals":        {"etc/registries.d/a.json": `{"host":"A.example"}`},
		"no host":                 {"etc/registries.d/a.json": `{}`},
		"mirror with a scheme":    {"etc/registries.d/a.json": `{"host":"a.example","mirrors":[{"host":"https://m.example"}]}`},
		"plain http with ca":      {"etc/registries.d/a.json": `{"host":"a.example","plainHTTP":true,"ca":"x"}`},
		"ca without certificates": {"etc/registries.d/a.json": `{"host":"a.example","ca":"x.pem"}`, "etc/registries.d/x.pem": "nothing"},
		"too big":                 {"etc/registries.d/a.json": `{"host":"a.example"}` + strings.Repeat(" ", maxFile)},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			for file, text := range files {
				w.write(0o600, file, text)
			}
			if ends, err := w.Endpoints(context.Background(), "other.example", "x", false); err == nil {
				t.Errorf("Endpoints() = %v, want an error", ends)
			}
		})
	}
}

func TestLocalFolderWinsOverTheVendor(t *testing.T) {
	w := newWorld(t)
	w.write(0o600, "usr/auth.d/a.json", authD("vendor", "a.example"))
	w.write(0o600, "usr/auth.d/b.json", authD("vendor", "b.example"))
	w.write(0o600, "usr/auth.d/c.json", authD("vendor", "c.example"))
	w.write(0o600, "etc/auth.d/mine.json", authD("local", "a.example"))
	w.write(0o600, "etc/auth.d/b.json", "") // masks
	w.write(0o600, "etc/auth.d/notes.txt", "ignored")
	w.write(0o600, "etc/auth.d/sub.json/x", "ignored")
	for host, want := range map[string]string{"a.example": "local", "b.example": "", "c.example": "vendor"} {
		if got := w.one(host, "x").User; got != want {
			t.Errorf("%s: user %q, want %q", host, got, want)
		}
	}
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
