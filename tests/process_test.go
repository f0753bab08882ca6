package tests

import (
	"bufio"
	"bytes"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is an rkt that runs while the test goes on.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr *lockedBuffer
	exited chan struct{}
}

// lockedBuffer can be read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs rkt and does not wait for it.
func (h *host) start(args ...string) *process {
	h.t.Helper()
	cmd := h.command(h.t.Context(), args...)
	// An orphan keeps the pipes open after the process that was rkt is dead.
	cmd.WaitDelay = 2 * time.Second
	out, in := io.Pipe()
	p := &process{t: h.t, cmd: cmd, stdout: bufio.NewReaderSize(out, 1<<20), stderr: &lockedBuffer{}, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = in, p.stderr
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		cmd.Wait()
		in.Close()
	}()
	return p
}

// line is the next line of stdout, without its newline.
func (p *process) line() string {
	p.t.Helper()
	type read struct {
		s   string
		err error
	}
	c := make(chan read, 1)
	go func() {
		s, err := p.stdout.ReadString('\n')
		c <- read{s, err}
	}()
	select {
	case r := <-c:
		if r.err != nil {
			p.t.Fatalf("rkt ended before it printed a line: %v: %q %s", r.err, r.s, p.stderr)
		}
		return strings.TrimSuffix(r.s, "\n")
	case <-time.After(patience):
		p.t.Fatalf("no line within %v: %s", patience, p.stderr)
	}
	return ""
}

// signal sends s to the process that was rkt.
func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wait is the exit code, or -1 when a signal ended the process.
func (p *process) wait() int {
	p.t.Helper()
	go io.Copy(io.Discard, p.stdout)
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.cmd.Process.Kill()
		p.t.Fatalf("still running after %v: %s", patience, p.stderr)
		return 0
	}
}

// stop ends the process in order.
func (p *process) stop() int {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	return p.wait()
}
