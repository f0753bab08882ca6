package registries

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
	"rkt/internal/confdir"
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
		Folders: confdir.Folders{filepath.Join(root, "usr"), filepath.Join(root, "etc")},
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
		"too big":                 {"etc/registries.d/a.json": `{"host":"a.example"}` + strings.Repeat(" ", confdir.MaxFile)},
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
