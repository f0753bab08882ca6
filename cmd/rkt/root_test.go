package main

import (
	"bytes"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestVerbsAreListedUnderTheirNames(t *testing.T) {
	env := newEnvironment(os.Stdin, os.Stdout, os.Stderr)
	for _, v := range verbs() {
		c := v.make(env)
		if c.Name() != v.name {
			t.Errorf("verb %q makes the command %q", v.name, c.Name())
		}
		if c.Short == "" || c.Example == "" && !c.HasSubCommands() && !c.Hidden {
			t.Errorf("verb %q has no summary or no example", v.name)
		}
	}
}

func TestOnlyTheNamedVerbIsMade(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want int
	}{
		{[]string{"run", "--net=host", "x"}, 1},
		{[]string{"--dir", "gc", "run"}, 1}, // "gc" is the folder
		{[]string{"--debug", "--insecure-options=http", "gc"}, 1},
		{nil, len(verbs())},
		{[]string{"--help"}, len(verbs())},
		{[]string{"help", "run"}, len(verbs())},
		{[]string{"nonsense"}, len(verbs())},
		{[]string{"--nonsense", "run"}, len(verbs())},
		{[]string{"__complete", "r"}, len(verbs())},
	} {
		env := newEnvironment(os.Stdin, os.Stdout, os.Stderr)
		if got := chosen(env, tt.args); len(got) != tt.want {
			t.Errorf("chosen(%q) has %d verbs, want %d", tt.args, len(got), tt.want)
		}
		root := newRootCommand(env, tt.args)
		if tt.want == 1 {
			c, _, err := root.Find(tt.args)
			if err != nil || !slices.ContainsFunc(chosen(env, tt.args), func(v verb) bool { return v.name == c.Name() }) {
				t.Errorf("Find(%q) = %q, %v", tt.args, c.Name(), err)
			}
		}
	}
}

func TestWordsThatAreNoCommand(t *testing.T) {
	for line, want := range map[string]string{
		"nonsense":      `unknown command "nonsense"`,
		"lst":           "did you mean list?",
		"ps":            "did you mean list?",
		"images":        "did you mean image?",
		"help nonsense": `unknown command "nonsense"`,
		"help image r":  `unknown command "r" of rkt image; did you mean rm?`,
		"image lst":     `unknown command "lst" of rkt image; did you mean list?`,
		"list x":        `unexpected argument "x"`,
	} {
		env := newEnvironment(os.Stdin, os.Stdout, os.Stderr)
		env.stdout, env.stderr = io.Discard, io.Discard
		err := newRootCommand(env, strings.Fields(line)).Execute()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("rkt %s: error %v, want %q", line, err, want)
		}
	}
}

func TestShellsCompleteTheFlagsOfRun(t *testing.T) {
	for line, want := range map[string]string{
		"run --n":                  "--name --net",
		"run --net=host image --n": "--name",
		"run --name web --ne":      "--net",
		"run image --mem":          "--memory",
		"prepare --qu":             "--quiet",
		"run im":                   "",
	} {
		var out bytes.Buffer
		env := newEnvironment(os.Stdin, os.Stdout, os.Stderr)
		env.stdout, env.stderr = &out, io.Discard
		args := append([]string{"__completeNoDesc"}, strings.Fields(line)...)
		if err := newRootCommand(env, args).Execute(); err != nil {
			t.Fatal(err)
		}
		words := strings.Fields(out.String())
		if got := strings.Join(words[:len(words)-1], " "); got != want { // the last one is for the script
			t.Errorf("%s: completed as %q, want %q", line, got, want)
		}
	}
}
