package stage0

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"rkt/internal/escape"
	"rkt/stage0/pod"
	"rkt/stage1/contract"
)

// errNoEntrypoint reports a stage1 that does not have an entrypoint.
var errNoEntrypoint = errors.New("no entrypoint")

// entrypointLimit bounds how long stage0 waits for an entrypoint that it runs
// as a child. What these do is quick; a stage1 that hangs must not block gc.
const entrypointLimit = time.Minute

// maxComplaint bounds what is kept of the stderr of an entrypoint.
const maxComplaint = 4096

// entrypoint runs an entrypoint of the pod's stage1 as a child in the pod
// directory and waits for it. The error is errNoEntrypoint when the stage1 does
// not have it.
func entrypoint(ctx context.Context, p *pod.Pod, c *contract.Pod, name string, args ...string) error {
	s1, err := stage1Of(p, c)
	if err != nil {
		return err
	}
	defer s1.Close()
	argv, err := s1.command(name, args...)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, entrypointLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, s1.executable(name, argv))
	cmd.Args = argv
	cmd.Dir = p.Path()
	cmd.Env = stage1Environment()
	complaint := &tail{max: maxComplaint}
	cmd.Stderr = complaint
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("stage1 %s: %w%s", name, err, complaint)
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	max int
	b   []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.b = append(t.b, b...)
	t.b = t.b[max(0, len(t.b)-t.max):]
	return len(b), nil
}

// String returns ": " and the text in one line, or nothing.
func (t *tail) String() string {
	text := string(bytes.TrimSpace(t.b))
	if text == "" {
		return ""
	}
	return ": " + escape.Text(strings.ReplaceAll(text, "\n", "; "))
}
