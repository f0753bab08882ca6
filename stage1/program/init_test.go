package program

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// shell starts an init above a shell with the script.
func shell(t *testing.T, script string) *Child {
	t.Helper()
	p := &Program{}
	p.Init()
	p.Execve("/bin/sh", p.Strings([]string{"sh", "-c", script}, "argv"), p.Strings([]string{"PATH=/bin:/usr/bin"}, "envp"), "exec")
	c, err := p.Start(Clone{})
	if err != nil {
		t.Fatal(err)
	}
	if executed, err := c.Done(); !executed || err != nil {
		t.Fatalf("Done() = %v, %v", executed, err)
	}
	t.Cleanup(func() { unix.Close(c.Pidfd); c.Close() })
	return c
}

func waitStatus(t *testing.T, c *Child) unix.WaitStatus {
	t.Helper()
	var ws unix.WaitStatus
	if _, err := unix.Wait4(c.PID, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	return ws
}

func TestInitExitsAsItsChildDoes(t *testing.T) {
	for _, test := range []struct {
		script string
		code   int
	}{
		{"exit 7", 7},
		{"(sleep 0; exit 3) & wait; exit 0", 0},
		{"kill -TERM $$", 128 + int(unix.SIGTERM)},
	} {
		if ws := waitStatus(t, shell(t, test.script)); !ws.Exited() || ws.ExitStatus() != test.code {
			t.Errorf("%q: status %#x, want exit %d", test.script, ws, test.code)
		}
	}
}

func TestInitPassesSignalsOn(t *testing.T) {
	ready := t.TempDir() + "/ready"
	if err := unix.Mkfifo(ready, 0o600); err != nil {
		t.Fatal(err)
	}
	c := shell(t, "trap 'exit 9' USR1; : > "+ready+"; while :; do sleep 1; done")
	f, err := os.Open(ready) // until the shell has set its trap
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := unix.PidfdSendSignal(c.Pidfd, unix.SIGUSR1, nil, 0); err != nil {
		t.Fatal(err)
	}
	if ws := waitStatus(t, c); !ws.Exited() || ws.ExitStatus() != 9 {
		t.Errorf("status %#x, want exit 9", ws)
	}
}
