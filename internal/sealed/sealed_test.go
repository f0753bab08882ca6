package sealed

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// mode tells the test binary to be a program that says how far it came and
// waits for the end of its stdin.
const mode = "RKT_TEST_SEALED"

func TestMain(m *testing.M) {
	switch os.Getenv(mode) {
	case "":
		os.Exit(m.Run())
	case "ensure":
		if err := Ensure(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	case "again":
		if err := Ensure(); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Setenv(mode, "plain")
		err := Exec("/proc/self/exe", os.Args, os.Environ())
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready", len(os.Args))
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// reopen starts the program, takes hold of its /proc/PID/exe, lets it end, and
// opens the file that it was for writing: what an app in a pod could do.
func reopen(t *testing.T, program, how string) error {
	t.Helper()
	cmd := exec.Command(program, "argument")
	cmd.Env = append(os.Environ(), mode+"="+how)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	if line != "ready 2\n" {
		t.Fatalf("the program says %q", line)
	}
	exe, err := unix.Open("/proc/"+strconv.Itoa(cmd.Process.Pid)+"/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(exe)
	stdin.Close()
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open("/proc/self/fd/"+strconv.Itoa(exe), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func TestSealedProgramCannotBeOpenedForWriting(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	program := t.TempDir() + "/program"
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(program, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := reopen(t, program, "plain"); err != nil {
		t.Fatalf("the attack does not work on a program that is not sealed (%v): this test shows nothing", err)
	}
	if err := reopen(t, program, "ensure"); !errors.Is(err, unix.EROFS) {
		t.Errorf("opening a sealed program for writing: %v, want %v", err, unix.EROFS)
	}
	if err := reopen(t, program, "again"); !errors.Is(err, unix.EROFS) {
		t.Errorf("opening a program that was sealed twice for writing: %v, want %v", err, unix.EROFS)
	}
}

func TestExecRunsScriptsPlainly(t *testing.T) {
	script := t.TempDir() + "/script"
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$0\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{script: true, "/proc/self/exe": false} {
		if got, err := isScript(path); got != want || err != nil {
			t.Errorf("isScript(%q) = %v, %v, want %v", path, got, err, want)
		}
	}
	if err := Exec(script+".missing", nil, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Exec of a missing file: %v", err)
	}
}
