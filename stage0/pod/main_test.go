package pod

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// helperEnv makes the test binary play another process: its value is the part.
const helperEnv = "RKT_POD_TEST_HELPER"

func TestMain(m *testing.M) {
	if part := os.Getenv(helperEnv); part != "" {
		os.Exit(helper(part, os.Args[1:]))
	}
	os.Exit(m.Run())
}

// helper says "ready" once it did its part and then lives until it is killed or
// its stdin ends.
func helper(part string, args []string) int {
	d, err := Open(args[0])
	if err == nil {
		switch part {
		case "sleep":
		case "prepare":
			err = helperPrepare(d, InPrepare)
		case "prepared":
			err = helperPrepare(d, InPrepared)
		case "run":
			err = helperPrepare(d, InRun)
		case "lock":
			var p *Pod
			if p, err = d.Find(args[1]); err == nil {
				err = p.Lock()
			}
		case "exec": // as rkt run: the lock goes with an exec
			err = helperExec(d)
		}
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
	return 0
}

func helperPrepare(d *Dir, to Place) error {
	p, err := d.Create("")
	if err != nil {
		return err
	}
	fmt.Println(p.UUID())
	if to >= InPrepared {
		if err := p.ToPrepared(false); err != nil {
			return err
		}
	}
	if to >= InRun {
		return p.ToRun()
	}
	return nil
}

func helperExec(d *Dir) error {
	if err := ReserveLockFD(); err != nil {
		return err
	}
	p, err := d.Create("")
	if err != nil {
		return err
	}
	fmt.Println(p.UUID())
	if err := p.ToRun(); err != nil {
		return err
	}
	if err := p.PassLock(); err != nil {
		return err
	}
	os.Setenv(helperEnv, "sleep")
	return unix.Exec("/proc/self/exe", []string{"stage1", filepath.Dir(d.path)}, os.Environ())
}

// other is another process.
type other struct {
	*exec.Cmd
	stdin io.WriteCloser
	said  []string // before "ready"
}

// start makes another process play a part and waits until it has done so.
func start(t *testing.T, part string, args ...string) *other {
	t.Helper()
	o := &other{Cmd: exec.Command("/proc/self/exe", args...)}
	o.Env = append(os.Environ(), helperEnv+"="+part)
	o.Stderr = os.Stderr
	out, err := o.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if o.stdin, err = o.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := o.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.kill() })
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == "ready" {
			return o
		}
		o.said = append(o.said, lines.Text())
	}
	t.Fatalf("%s: %s", part, strings.Join(o.said, "; "))
	return nil
}

// kill ends the process as kill -9 does and waits for it.
func (o *other) kill() {
	o.Process.Kill()
	o.Wait()
}

func openDir(t *testing.T) *Dir {
	t.Helper()
	d, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// data returns the data directory of d.
func (d *Dir) data() string { return filepath.Dir(d.path) }

func create(t *testing.T, d *Dir, name string) *Pod {
	t.Helper()
	p, err := d.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func get(t *testing.T, d *Dir, id string) *Pod {
	t.Helper()
	p, err := d.Find(id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func wantState(t *testing.T, p *Pod, want State) {
	t.Helper()
	got, err := p.State()
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("State() = %q, want %q", got, want)
	}
}

// writeApp puts a file of an app into the pod directory.
func writeApp(t *testing.T, p *Pod, app, file string, v any) {
	t.Helper()
	dir := filepath.Join(p.Path(), contract.AppsDir, app)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := contract.Write(dir, file, v); err != nil {
		t.Fatal(err)
	}
}

// startedAs returns the start record of a running process.
func startedAs(t *testing.T, d *Dir, pid int) contract.Started {
	t.Helper()
	ticks, err := startTicks(pid)
	if err != nil {
		t.Fatal(err)
	}
	return contract.Started{PID: pid, StartTicks: ticks, BootID: d.boot, Nanos: 1}
}
