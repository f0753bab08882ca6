package image

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"rkt/cas"
)

func configOf(t *testing.T, members map[string]any) []byte {
	t.Helper()
	config := map[string]any{
		"os": "linux", "architecture": "amd64",
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{digestOf("a"), digestOf("b")}},
	}
	for k, v := range members {
		config[k] = v
		if v == nil {
			delete(config, k)
		}
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseConfig(t *testing.T) {
	in := configOf(t, map[string]any{
		"created": "2026-01-02T03:04:05.678Z", "variant": "v1", "author": "x", "docker_version": "1",
		"container_config": map[string]any{"Cmd": []string{"not this one"}},
		"history":          []any{map[string]any{"created_by": "a"}, map[string]any{"empty_layer": true}, map[string]any{}},
		"config": map[string]any{
			"User": "u:g", "Env": []string{"A=b", "A=c"}, "Entrypoint": []string{"/e"}, "Cmd": []string{"c", ""}, "WorkingDir": "/w", "StopSignal": "SIGINT",
			"ExposedPorts": map[string]any{"8080/tcp": struct{}{}, "53/UDP": struct{}{}, "80": struct{}{}, "80/tcp": struct{}{}, "9000-9010/sctp": struct{}{}},
			"Volumes":      map[string]any{"/data/": struct{}{}, "/data": struct{}{}, "/a/../b": struct{}{}},
			"Labels":       map[string]string{"io.podman.annotations.privileged": "true"},
			"Privileged":   true, "Memory": 5, "Healthcheck": map[string]any{},
		},
	})
	want := &Config{
		Entrypoint: []string{"/e"}, Cmd: []string{"c", ""}, Env: []string{"A=b", "A=c"}, User: "u:g", WorkingDir: "/w", StopSignal: "SIGINT",
		ExposedPorts: []Port{{53, 53, "udp"}, {80, 80, "tcp"}, {8080, 8080, "tcp"}, {9000, 9010, "sctp"}},
		Volumes:      []string{"/b", "/data"},
		Labels:       map[string]string{"io.podman.annotations.privileged": "true"},
		Platform:     Platform{OS: "linux", Architecture: "amd64"},
		Created:      time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC),
		DiffIDs:      []cas.Digest{digestOf("a"), digestOf("b")},
	}
	got, err := ParseConfig(in)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("ParseConfig() = %+v, want %+v", got, want)
	}
	if s := got.ExposedPorts[3].String() + got.ExposedPorts[0].String(); s != "9000-9010/sctp53/udp" {
		t.Errorf("ports are shown as %q", s)
	}
	if _, err := ParseConfig(configOf(t, map[string]any{"config": nil})); err != nil {
		t.Errorf("the smallest config: %v", err)
	}
}

func TestParseConfigRefuses(t *testing.T) {
	rootfs := func(kind string, ids ...any) map[string]any {
		return map[string]any{"rootfs": map[string]any{"type": kind, "diff_ids": ids}}
	}
	run := func(key string, v any) map[string]any { return map[string]any{"config": map[string]any{key: v}} }
	set := func(keys ...string) map[string]any {
		m := map[string]any{}
		for _, k := range keys {
			m[k] = struct{}{}
		}
		return m
	}
	many := make([]any, MaxLayers+1)
	for i := range many {
		many[i] = digestOf("x")
	}
	for name, members := range map[string]map[string]any{
		"no rootfs":              {"rootfs": nil},
		"other rootfs":           rootfs("overlay", digestOf("a")),
		"no diff IDs":            rootfs("layers"),
		"too many diff IDs":      rootfs("layers", many...),
		"null diff ID":           rootfs("layers", nil),
		"diff ID with slashes":   rootfs("layers", "sha256:../../../etc/passwd"),
		"diff ID in a list":      rootfs("layers", []string{digestOf("a").String()}),
		"history of more layers": {"history": []any{struct{}{}, struct{}{}, struct{}{}}},
		"no os":                  {"os": nil},
		"no architecture":        {"architecture": ""},
		"created yesterday":      {"created": "yesterday"},
		"NUL in the command":     run("Cmd", []string{"a\x00b"}),
		"NUL in the environment": run("Env", []string{"A=\x00"}),
		"NUL in the folder":      run("WorkingDir", "/\x00"),
		"command as text":        run("Cmd", "sh"),
		"environment as object":  run("Env", map[string]string{"A": "b"}),
		"user as number":         run("User", 0),
		"port 0":                 run("ExposedPorts", set("0/tcp")),
		"port 65536":             run("ExposedPorts", set("65536/tcp")),
		"port range backwards":   run("ExposedPorts", set("90-80/tcp")),
		"port of what":           run("ExposedPorts", set("80/icmp")),
		"port in words":          run("ExposedPorts", set("http")),
		"volume at the root":     run("Volumes", set("/..")),
		"relative volume":        run("Volumes", set("data")),
		"env in another case":    run("env", []string{}),
		"config in another case": {"Config": map[string]any{}},
		"os in another case":     {"OS": "linux"},
	} {
		if got, err := ParseConfig(configOf(t, members)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: ParseConfig() = %+v, %v, want ErrMalformed", name, got, err)
		}
	}
}

func TestStackLeavesOutHiddenLayers(t *testing.T) {
	a, b, c := digestOf("a"), digestOf("b"), digestOf("c")
	config := Config{DiffIDs: []cas.Digest{a, b, a, c, b}}
	if got, want := config.Stack(), []cas.Digest{b, c, a}; !slices.Equal(got, want) {
		t.Errorf("Stack() = %v, want %v", got, want)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["` + digestOf("x").String() + `"]},"config":{"Env":["A=b"],"ExposedPorts":{"80/tcp":{}},"Volumes":{"/x":{}}},"created":"2026-01-02T03:04:05Z"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			return
		}
		if len(c.DiffIDs) == 0 || len(c.Stack()) > len(c.DiffIDs) || c.Platform.OS == "" {
			t.Errorf("accepted %+v", c)
		}
		for _, v := range c.Volumes {
			if v[0] != '/' || strings.Contains(v, "..") && strings.Contains("/"+v+"/", "/../") {
				t.Errorf("accepted the volume %q", v)
			}
		}
	})
}
