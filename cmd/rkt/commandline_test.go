package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"rkt/stage0/plan"
	"rkt/stage1/contract"
)

// parseRun parses the arguments of "rkt run".
func parseRun(args ...string) (*runOptions, []*appOptions, error) {
	env := newEnvironment(os.Stdin, os.Stdout, os.Stderr)
	o := &runOptions{}
	flags := pflag.NewFlagSet("run", pflag.ContinueOnError)
	o.flags(flags)
	env.flags(flags)
	apps, err := parseCommandLine("run", flags, args)
	return o, apps, err
}

func TestCommandLines(t *testing.T) {
	type app struct {
		image, name string
		args        []string
	}
	tests := []struct {
		line string // words separated by blanks
		pod  string // --name of the pod
		want []app
	}{
		{"a", "", []app{{image: "a"}}},
		{"--name=p --rm a --name=x", "p", []app{{image: "a", name: "x"}}},
		{"--name p a --name x -- y", "p", []app{{"a", "x", []string{"y"}}}},
		{"a -- -x --name=y --", "", []app{{"a", "", []string{"-x", "--name=y", "--"}}}},
		{"a -- x --- b", "", []app{{"a", "", []string{"x"}}, {image: "b"}}},
		{"a -- --- b", "", []app{{image: "a"}, {image: "b"}}},
		{"a --- b --- c", "", []app{{image: "a"}, {image: "b"}, {image: "c"}}},
		{"a --name=x --- b --name=y -- z", "", []app{{image: "a", name: "x"}, {"b", "y", []string{"z"}}}},
		{"a -- x --- b -- y --- c", "", []app{{"a", "", []string{"x"}}, {"b", "", []string{"y"}}, {image: "c"}}},
		{"a --- b -- x", "", []app{{image: "a"}, {"b", "", []string{"x"}}}},
		{"- -- x", "", []app{{"-", "", []string{"x"}}}},
		{"a --name=x --- b --name=y", "", []app{{image: "a", name: "x"}, {image: "b", name: "y"}}},
	}
	for _, tt := range tests {
		t.Run(tt.line, func(t *testing.T) {
			o, apps, err := parseRun(strings.Fields(tt.line)...)
			if err != nil {
				t.Fatal(err)
			}
			var got []app
			for _, a := range apps {
				got = append(got, app{a.image, a.name, a.args})
			}
			for i := range got {
				if len(got[i].args) == 0 {
					got[i].args = nil
				}
			}
			if o.name != tt.pod || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("pod %q, apps %q, want %q, %q", o.name, got, tt.pod, tt.want)
			}
		})
	}
}

func TestCommandLinesThatAreRefused(t *testing.T) {
	for line, word := range map[string]string{
		"":                         "image is required",
		"--rm":                     "image is required",
		"-- x":                     "before any arguments",
		"--rm -- x":                "before any arguments",
		"a -- x --- -- y":          "only one set",
		"a -- x ---":               "after ---",
		"a --- --- b":              "before ---",
		"a -- x --- --memory=1G":   "--memory=1G",
		"--exec=/x a":              "--exec must follow an image",
		"-v /a:/b a":               "-v must follow an image",
		"a --rm":                   "--rm must come before the first image",
		"a --net=host":             "--net must come before",
		"a --nonsense":             "--nonsense",
		"--nonsense a":             "--nonsense",
		"a --user=x --user=y":      "--user is given more than once",
		"--name=x --name=y a":      "--name is given more than once",
		"--dir=x --dir=y a":        "--dir is given more than once",
		"-it a":                    "--interactive",
		"a sh -c x":                `"sh" after the image "a": -- begins`,
		"a b":                      `"b" after the image "a": -- begins`,
		"a --memory":               "memory",
		"a --init=maybe":           "init",
		"a --stop-timeout=10":      "stop-timeout",
		"--insecure-options=bad a": "bad",
	} {
		_, _, err := parseRun(strings.Fields(line)...)
		var usage *usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), word) || usage.Hint() == "" {
			t.Errorf("%q: error %v, want a usage error with %q", line, err, word)
		}
	}
}

func TestHelpIsNoError(t *testing.T) {
	for _, args := range [][]string{{"--help"}, {"-h"}, {"a", "--help"}} {
		if _, _, err := parseRun(args...); !errors.Is(err, pflag.ErrHelp) {
			t.Errorf("%q: error %v, want ErrHelp", args, err)
		}
	}
}

// appOf is what the plan gets of an image with these flags.
func appOf(t *testing.T, flags ...string) (plan.App, error) {
	t.Helper()
	_, apps, err := parseRun(append([]string{"image"}, flags...)...)
	if err != nil {
		t.Fatal(err)
	}
	return apps[0].app()
}

func TestAppFlagsReachThePlan(t *testing.T) {
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte("# comment\n\nA=file\r\nB=x=y #z\n;C=1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	a, err := appOf(t, "--memory=128M", "--cpu=0.5", "--cpu-shares=12", "--pids=9", "-e", "A=1", "--environment=D=", "--env-file="+file,
		"--supplementary-gids=5,6", "--caps-remove=KILL", "-v", "/a:/b:ro", "-v", "./x:/y", "--mount=volume=v,target=/v,readOnly=true",
		"--tmpfs=/tmp:size=1m,exec", "--tmpfs=/run", "--restart=on-failure:3", "--stop-timeout=250ms",
		"--stdout=file:/var/log/a,cri,1M", "--stdin=null")
	if err != nil {
		t.Fatal(err)
	}
	cwd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if want := (contract.Limits{MemoryBytes: 128 << 20, CPUMillis: 500, CPUShares: 12, Pids: 9}); a.Limits != want {
		t.Errorf("limits = %+v, want %+v", a.Limits, want)
	}
	if want := []string{"A=file", "B=x=y #z", "A=1", "D="}; !slices.Equal(a.Environment, want) {
		t.Errorf("environment = %q, want %q", a.Environment, want)
	}
	mounts := []plan.Mount{
		{Volume: "v", Target: "/v", ReadOnly: true}, {Source: "/a", Target: "/b", ReadOnly: true},
		{Source: filepath.Join(cwd, "x"), Target: "/y"},
	}
	if !slices.Equal(a.Mounts, mounts) {
		t.Errorf("mounts = %+v, want %+v", a.Mounts, mounts)
	}
	if !slices.Equal(a.Groups, []uint32{5, 6}) || a.CapsRetain != nil || !slices.Equal(a.CapsRemove, []string{"KILL"}) {
		t.Errorf("groups %v, capabilities %q and %q", a.Groups, a.CapsRetain, a.CapsRemove)
	}
	if a.StopTimeout == nil || a.StopTimeout.Milliseconds() != 250 || a.Restart != (contract.Restart{Policy: "on-failure", Max: 3}) {
		t.Errorf("stop timeout %v, restart %+v", a.StopTimeout, a.Restart)
	}
	if a.Stdout != (contract.Stream{Kind: "file", Path: "/var/log/a", Format: "cri", Max: 1 << 20}) || a.Stdin.Kind != "null" {
		t.Errorf("streams %+v, %+v", a.Stdin, a.Stdout)
	}
	if len(a.Tmpfs) != 2 || a.Tmpfs[0].Target != "/tmp" || !slices.Equal(a.Tmpfs[0].Options, []string{"size=1m", "exec"}) {
		t.Errorf("tmpfs %+v", a.Tmpfs)
	}
}

func TestAppFlagsThatAreRefused(t *testing.T) {
	for flag, word := range map[string]string{
		"--memory=16x": "memory", "--memory=-1": "memory", "--memory=i": "memory", "--memory=1.5G": "memory", "--memory=9999999T": "range",
		"--cpu=0": "cpu", "--cpu=x": "cpu", "--cpu=-1m": "cpu", "--cpu=NaN": "cpu", "--cpu=1e9": "cpu",
		"--environment==X": "NAME=VALUE", "--env-file=/no/such/file": "no such file",
		"--volume=/a": "SOURCE:TARGET", "--volume=/a:/b:rx": "rx", "--volume=name:/b": "./name", "--volume=:/b": "SOURCE:TARGET",
		"--mount=volume=v": "target", "--mount=volume=v,target=/x,mode=1": "mode", "--mount=volume=v,target=/x,readOnly=2": "readOnly",
		"--restart=sometimes": "sometimes", "--restart=no:3": "no:3", "--restart=always:0": "always:0",
		"--stdout=pipe": "pipe", "--stdout=file:": "file", "--stdout=file:/x,json": "json", "--stdout=null:x": "null:x",
		"--supplementary-gids=4294967295": "range",
	} {
		_, err := appOf(t, flag)
		if err == nil || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), "image") {
			t.Errorf("%s: error %v, want one with %q that names the image", flag, err, word)
		}
	}
	if _, err := appOf(t, "-e", "A=1", "-e", "A=2"); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("a variable given twice: %v", err)
	}
}

func TestPodVolumes(t *testing.T) {
	for text, want := range map[string]plan.Volume{
		"v,kind=empty":                          {Name: "v"},
		"v,kind=empty,mode=1777,uid=33,gid=34":  {Name: "v", Mode: 0o1777, UID: 33, GID: 34},
		"v,kind=host,source=/srv":               {Name: "v", Source: "/srv"},
		"v,kind=host,source=/srv,readOnly=true": {Name: "v", Source: "/srv", ReadOnly: true},
		"v,kind=host,source=/,recursive=false":  {Name: "v", Source: "/", Flat: true},
	} {
		if got, err := parseVolume(text); err != nil || got != want {
			t.Errorf("parseVolume(%q) = %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"v", "v,kind=tmpfs", "v,kind=host", "v,kind=host,source=srv", "v,kind=empty,source=/x", "v,kind=empty,mode=99999",
		"v,kind=empty,uid=-1", "v,kind=host,source=/x,mode=0755", "v,kind=empty,colour=red", "v,kind=host,source=/x,readOnly=maybe",
	} {
		if got, err := parseVolume(text); err == nil {
			t.Errorf("parseVolume(%q) = %+v, want an error", text, got)
		}
	}
}

func TestErrorsHaveOneLineAndAHint(t *testing.T) {
	var out strings.Builder
	if code := report(&out, withHint(errors.New("it broke"), "mend it with %s", "tape")); code != 125 {
		t.Errorf("exit status %d, want 125", code)
	}
	if want := "rkt: error: it broke\nrkt: hint: mend it with tape\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
	out.Reset()
	if code := report(&out, exitCode(7)); code != 7 || out.String() != "" {
		t.Errorf("exit status %d, output %q, want 7 and nothing", code, out.String())
	}
}
