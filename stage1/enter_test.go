package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// enter is the command that runs args in the app a of the running pod.
func (r *running) enter(change func(*contract.EnterRequest), args ...string) *exec.Cmd {
	r.t.Helper()
	p := r.specs["a"].Process
	req := &contract.EnterRequest{
		Version: contract.Version, App: "a", Args: args, Candidates: []string{args[0]}, Env: p.Env, Cwd: p.Cwd,
		UID: p.User.UID, GID: p.User.GID,
	}
	if !strings.Contains(args[0], "/") {
		req.Candidates = []string{"/sbin/" + args[0], "/bin/" + args[0]}
	}
	if change != nil {
		change(req)
	}
	b, err := json.Marshal(req)
	r.must(err)
	from, to, err := os.Pipe()
	r.must(err)
	go func() {
		_, _ = to.Write(b)
		to.Close()
	}()
	cmd := r.entry(append([]string{"enter", "a", "--"}, args...)...)
	cmd.ExtraFiles = []*os.File{from}
	r.t.Cleanup(func() { from.Close() })
	return cmd
}

// entered runs args in the app and returns what came of it.
func (r *running) entered(change func(*contract.EnterRequest), args ...string) (code int, stdout, stderr string) {
	r.t.Helper()
	cmd := r.enter(change, args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	if cmd.ProcessState == nil {
		r.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), complaint.String()
}

func TestEnterExitCodes(t *testing.T) {
	r := newPod(t, []string{"sleep", "1000"}).start()
	r.await(contract.ReadyFile)
	for _, test := range []struct {
		name    string
		command []string
		code    int
		stderr  string
	}{
		{"success", []string{"true"}, 0, ""},
		{"own code", script("exit 42"), 42, ""},
		{"signal", script("kill -KILL $$"), 137, ""},
		{"not found", []string{"nothing"}, 127, `execute "nothing": not found in any folder of PATH in the image`},
		{"not executable", []string{"/bin/data"}, 126, `execute "/bin/data": not executable`},
		{"no interpreter", []string{"/bin/script"}, 126, `execute "/bin/script": the interpreter that it names`},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, _, stderr := r.entered(nil, test.command...)
			if code != test.code || !strings.Contains(stderr, test.stderr) || test.stderr == "" && stderr != "" {
				t.Errorf("exit code %d, stderr %q; want %d, %q", code, stderr, test.code, test.stderr)
			}
		})
	}
	r.must(r.cmd.Process.Signal(unix.SIGTERM))
	r.wait()
	r.checkClean()
}

// probe prints what a process in a pod is confined by, without what must differ
// between two processes.
var probe = script(
	`grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|SigBlk|SigIgn|Umask)' /proc/self/status`,
	`for n in cgroup ipc mnt net pid user uts; do readlink /proc/self/ns/$n; done`,
	`cat /proc/self/mountinfo /proc/self/cgroup /proc/self/limits /proc/self/oom_score_adj /proc/self/uid_map`,
	`ls /proc/self/fd`, `pwd`, `env`,
)

func TestEnteredProcessIsConfinedLikeTheApp(t *testing.T) {
	p := newPod(t, append(probe[:2:2], probe[2]+"\nexec sleep 1000"))
	umask, score := uint32(0o027), 300
	spec := p.specs["a"]
	spec.Process.User.Umask, spec.Process.OOMScoreAdj = &umask, &score
	r := p.start()
	r.await(contract.ReadyFile)
	r.awaitThat("the probe", func() bool { return strings.Contains(r.stdout.String(), "PATH=/bin") })
	_, inside, stderr := r.entered(nil, probe...)
	outside := r.stdout.String()
	// The cgroup namespace shows the leaf of an entered process as a sibling.
	drop := func(s string) string {
		var kept []string
		for line := range strings.Lines(s) {
			if !strings.HasPrefix(line, "0::") {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "")
	}
	if got, want := drop(inside), drop(outside); got != want || stderr != "" {
		t.Errorf("probe of the app:\n%s\nprobe of the entered process:\n%s\n%s", want, got, stderr)
	}
	if !strings.Contains(inside, "Umask:\t0027") || !strings.Contains(inside, "\n300\n") {
		t.Errorf("the probe lacks the umask or the OOM score: %s", inside)
	}
	r.must(r.cmd.Process.Signal(unix.SIGTERM))
	r.wait()
	r.checkClean()
}

func TestEnteredProcessGetsATerminalOfThePod(t *testing.T) {
	r := newPod(t, []string{"sleep", "1000"}).start()
	r.await(contract.ReadyFile)
	change := func(req *contract.EnterRequest) { req.Terminal, req.UID = true, 7 }
	code, out, stderr := r.entered(change, script("id -u", "busybox tty", "exit 4")...)
	if code != 4 || out != "7\r\n/dev/pts/0\r\n" || stderr != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, out, stderr)
	}
	r.must(r.cmd.Process.Signal(unix.SIGTERM))
	r.wait()
	r.checkClean()
}

// A process that has been entered is confined before it can be reached, and one
// whose app ends meanwhile runs nowhere else.
func TestEnterOfAnAppThatEnds(t *testing.T) {
	p := newPod(t, script("sleep 0.3"))
	r := p.start()
	r.await(contract.ReadyFile)
	for {
		code, out, stderr := r.entered(nil, "readlink", "/proc/self/ns/mnt")
		host, err := os.Readlink("/proc/self/ns/mnt")
		r.must(err)
		if code == 0 && (out == host+"\n" || out == "") {
			t.Fatalf("the process ran in %q", out)
		}
		if code != 0 {
			if code != contract.ExitFailure && code != 137 || code == contract.ExitFailure && stderr == "" {
				t.Errorf("exit code %d, stderr %q", code, stderr)
			}
			break
		}
	}
	r.wait()
	r.checkClean()
}
