package image

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// What an image may say passes through Config, and the fields of Config are all
// that it may say. Who adds one decides what it may do, here and in
// docs/security.md.
func TestConfigIsTheWholeAllowList(t *testing.T) {
	allowed := map[string]string{
		"Entrypoint": "argv", "Cmd": "argv", "Env": "environment of the app", "User": "user of the app", "WorkingDir": "folder of the app",
		"StopSignal": "signal that asks the app to end", "ExposedPorts": "display, and the ports that an operator may name",
		"Volumes": "folders of the root that stay writable", "Labels": "display",
		"Platform": "whether it can run here", "Created": "display", "DiffIDs": "the layers",
	}
	config := reflect.TypeFor[Config]()
	for i := range config.NumField() {
		if name := config.Field(i).Name; allowed[name] == "" {
			t.Errorf("Config has the field %s: what may it do?", name)
		}
	}
	if config.NumField() != len(allowed) {
		t.Errorf("Config has %d fields, want %d", config.NumField(), len(allowed))
	}
	for _, kind := range []reflect.Type{reflect.TypeFor[Manifest](), reflect.TypeFor[Descriptor](), reflect.TypeFor[Index]()} {
		for i := range kind.NumField() {
			if strings.Contains(strings.ToLower(kind.Field(i).Name), "annotation") {
				t.Errorf("%s keeps annotations", kind.Name())
			}
		}
	}
}

// RT-11: texts with every byte that steers something come through as they are,
// or not at all.
func TestHostileTexts(t *testing.T) {
	for _, s := range []string{
		"\n", "\r\n", "\x1b[2J", "\x7f", "%n%t${HOME}$(id)", "\"';#&|", "\u2028\u2029\u202e", strings.Repeat("x", 100<<10), "", " ", "-", "--privileged", "\\", "=",
	} {
		in := configOf(t, map[string]any{"config": map[string]any{
			"Env": []string{"A=" + s}, "Cmd": []string{s}, "User": s, "WorkingDir": s, "StopSignal": s, "Labels": map[string]string{s: s},
		}})
		c, err := ParseConfig(in)
		if err != nil {
			t.Errorf("%.20q: %v", s, err)
			continue
		}
		if c.Env[0] != "A="+s || c.Cmd[0] != s || c.User != s || c.WorkingDir != s || c.StopSignal != s || c.Labels[s] != s {
			t.Errorf("%.20q came through as %+v", s, c)
		}
	}
	for _, in := range []string{"\xff\xfe", "\xc0\x80", "\xed\xa0\x80"} {
		b := strings.Replace(string(configOf(t, map[string]any{"config": map[string]any{"Env": []string{"A=MARK"}}})), "MARK", in, 1)
		if _, err := ParseConfig([]byte(b)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: ParseConfig() = %v, want ErrMalformed", in, err)
		}
	}
}
