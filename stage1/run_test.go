package main

import (
	"strings"
	"testing"
)

func TestExitCodes(t *testing.T) {
	for _, test := range []struct {
		name    string
		command []string
		code    int
		stderr  string
	}{
		{"success", []string{"true"}, 0, ""},
		{"failure", []string{"false"}, 1, ""},
		{"own code", script("exit 42"), 42, ""},
		{"signal", script("kill -TERM $$; exit 3"), 3, ""}, // pid 1 has no handler: the kernel drops it
		{"not found", []string{"nothing"}, 127, `execute "nothing": not found in any folder of PATH in the image`},
		{"not found with slash", []string{"/bin/nothing"}, 127, `execute "/bin/nothing": not found in the image`},
		{"not executable", []string{"/bin/data"}, 126, `execute "/bin/data": not executable`},
		{"no interpreter", []string{"/bin/script"}, 126, `execute "/bin/script": the interpreter that it names`},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPod(t, test.command)
			code, _, stderr := p.run()
			if code != test.code {
				t.Errorf("exit code %d, want %d; stderr %q", code, test.code, stderr)
			}
			if test.stderr != "" && !strings.Contains(stderr, "stage1: app a: "+test.stderr) || test.stderr == "" && stderr != "" {
				t.Errorf("stderr %q, want %q in it", stderr, test.stderr)
			}
			if e := p.exit("a"); e.Code != test.code {
				t.Errorf("exit record %+v, want code %d", e, test.code)
			}
			p.checkClean()
		})
	}
}
