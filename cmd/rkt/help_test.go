package main

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// What the manual pages are made of has every command and every flag, those
// that cobra does not see included.
func TestHelpAsData(t *testing.T) {
	var out bytes.Buffer
	env := newEnvironment(os.Stdin, os.Stdout, os.Stderr)
	env.stdout = &out
	if err := newRootCommand(env, []string{"help", "--format=json"}).Execute(); err != nil {
		t.Fatal(err)
	}
	var root commandText
	if err := json.Unmarshal(out.Bytes(), &root); err != nil {
		t.Fatal(err)
	}
	found := make(map[string]commandText)
	for _, c := range root.Commands {
		found[c.Path] = c
	}
	for _, v := range verbs() {
		if v.make(env).Hidden {
			continue
		}
		if c, ok := found["rkt "+v.name]; !ok || c.Short == "" || !strings.HasPrefix(c.Usage, "rkt "+v.name) {
			t.Errorf("rkt %s: %+v", v.name, c)
		}
	}
	for path, want := range map[string]string{"rkt run": "memory", "rkt prepare": "net", "rkt gc": "images"} {
		if !slices.ContainsFunc(found[path].Flags, func(g flagGroup) bool {
			return slices.ContainsFunc(g.Flags, func(f flagText) bool { return f.Name == want && f.Usage != "" })
		}) {
			t.Errorf("%s has no flag %q", path, want)
		}
	}
	if !slices.ContainsFunc(found["rkt image"].Commands, func(c commandText) bool { return c.Path == "rkt image list" }) {
		t.Errorf("rkt image has no commands: %+v", found["rkt image"])
	}
}
