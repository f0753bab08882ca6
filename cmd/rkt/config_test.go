package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// configured makes files of configuration and an environment that reads them.
func configured(t *testing.T, files map[string]string) (*environment, *bytes.Buffer) {
	t.Helper()
	root := t.TempDir()
	t.Setenv("HOME", filepath.Join(root, "home"))
	t.Setenv("REGISTRY_AUTH_FILE", "")
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	env := newEnvironment(os.Stdin, os.Stdout, os.Stderr)
	env.stdout = &out
	env.systemConfig, env.localConfig, env.userConfig = filepath.Join(root, "usr"), filepath.Join(root, "etc"), filepath.Join(root, "user")
	env.dataDir, env.runDir = filepath.Join(root, "data"), filepath.Join(root, "run")
	return env, &out
}

const secretOfTest = "s3cr3t"

func credentialFile(registry string) string {
	return `{"rktKind":"dockerAuth","rktVersion":"v1","registries":["` + registry + `"],"credentials":{"user":"alice","password":"` + secretOfTest + `"}}`
}

// Every value is there with its file, and no secret.
func TestConfigShowsWhereValuesComeFrom(t *testing.T) {
	files := map[string]string{
		"etc/auth.d/a.json":        credentialFile("r.example"),
		"home/.docker/config.json": `{"auths":{"d.example":{"auth":"Ym9iOnMzY3IzdA=="}},"credsStore":"store"}`,
		"usr/defaults.d/v.json":    `{"rktKind":"defaults","rktVersion":"v1","verify":"always","pullPolicy":"never"}`,
		"etc/defaults.d/l.json":    `{"rktKind":"defaults","rktVersion":"v1","verify":"never"}`,
		"user/registries.d/m.json": `{"host":"r.example","mirrors":[{"host":"m.example"}]}`,
		"user/trust.d/t.json":      `{"prefix":"r.example","action":"accept"}`,
	}
	for _, format := range []string{"", "json"} {
		env, out := configured(t, files)
		o := tableOptions{formatOption: formatOption{format: format}}
		if err := showConfig(env, o); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"etc/auth.d/a.json", "alice", "home/.docker/config.json", "bob", "usr/defaults.d/v.json", "etc/defaults.d/l.json",
			"user/registries.d/m.json", "m.example", "user/trust.d/t.json",
		} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("format %q: no %q in\n%s", format, want, out)
			}
		}
		for _, secret := range []string{secretOfTest, "Ym9iOnMzY3IzdA"} {
			if strings.Contains(out.String(), secret) {
				t.Errorf("format %q shows a secret:\n%s", format, out)
			}
		}
		if format == "json" && !json.Valid(out.Bytes()) {
			t.Errorf("not JSON:\n%s", out)
		}
	}
}

// A credential that others can read is an error with the way out.
func TestConfigRefusesReadableCredentials(t *testing.T) {
	env, _ := configured(t, map[string]string{"etc/auth.d/a.json": credentialFile("r.example")})
	path := filepath.Join(env.localConfig, "auth.d/a.json")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	if code := report(&stderr, showConfig(env, tableOptions{})); code != 125 || !strings.Contains(stderr.String(), "chmod 0600 "+path) {
		t.Errorf("exit status %d: %s", code, &stderr)
	}
}

// A flag wins over files, a file over what is built in.
func TestFlagsWinOverSettings(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", "/from/file"},
		{"--dir=" + defaultDataDir, defaultDataDir},
		{"--dir=/from/flag", "/from/flag"},
	} {
		env, _ := configured(t, map[string]string{"etc/paths.d/p.json": `{"rktKind":"paths","rktVersion":"v1","data":"/from/file"}`})
		local := env.localConfig
		args := []string{"--local-config=" + local, "--system-config=/absent"}
		if c.args != "" {
			args = append(args, c.args)
		}
		root := newRootCommand(env, append(args, "config"))
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		if env.dataDir != c.want {
			t.Errorf("%q: data folder %q, want %q", c.args, env.dataDir, c.want)
		}
	}
}

// The line about hashing is one line, and goes.
func TestHashingLine(t *testing.T) {
	var out bytes.Buffer
	showHashing(&out, 1<<20, 2<<20)
	showHashing(&out, 2<<20, 2<<20)
	if got := out.String(); strings.Contains(got, "\n") || !strings.Contains(got, "verifying the layers") || !strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("%q", got)
	}
}
