package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rkt/stage0"
)

func TestDoctorFailsWhereARunWould(t *testing.T) {
	var out bytes.Buffer
	env := newEnvironment(os.Stdin, os.Stdout, os.Stderr)
	env.stdout = &out
	dir := t.TempDir()
	// No stage1 and no rkt-fetch are beside the test's program.
	err := newRootCommand(env, []string{"doctor", "--format=json", "--dir=" + dir + "/data", "--run-dir=" + dir + "/run"}).Execute()
	if err == nil || !strings.Contains(err.Error(), "cannot run pods") {
		t.Errorf("error %v, want that pods cannot be run", err)
	}
	var checks []stage0.Check
	if err := json.Unmarshal(out.Bytes(), &checks); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	seen := make(map[string]stage0.Check)
	for _, c := range checks {
		seen[c.Name] = c
		if c.Verdict != stage0.Fine && c.Advice == "" {
			t.Errorf("%+v does not say what to do", c)
		}
	}
	for _, name := range []string{"stage1", "rkt-fetch"} {
		if c := seen[name]; c.Verdict != stage0.Failure {
			t.Errorf("%s: %+v, want a failure", name, c)
		}
	}
}

func TestDoctorLooksAtSystemd(t *testing.T) {
	dir := t.TempDir()
	bus := filepath.Join(dir, "bus")
	if c := checkSystemd(filepath.Join(dir, "none"), bus); c.Verdict != stage0.Warning || c.Found != "not running" {
		t.Errorf("without systemd: %+v", c)
	}
	if c := checkSystemd(dir, bus); c.Verdict != stage0.Warning || !strings.Contains(c.Advice, "dbus") {
		t.Errorf("without a bus: %+v", c)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: bus}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	if c := checkSystemd(dir, bus); c.Verdict != stage0.Fine {
		t.Errorf("with a bus: %+v", c)
	}
}

func TestDoctorLooksAtTheClock(t *testing.T) {
	if c := checkClock(time.Now(), "/proc/self/exe"); c.Verdict != stage0.Fine {
		t.Errorf("now: %+v", c)
	}
	if c := checkClock(time.Unix(0, 0), "/proc/self/exe"); c.Verdict != stage0.Warning {
		t.Errorf("in 1970: %+v", c)
	}
}
