package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"
)

const (
	// pluginLimit bounds how long a plugin may take.
	pluginLimit = time.Minute
	// maxOutput bounds what is read of a plugin.
	maxOutput = 1 << 20
)

// executor executes plugins as strangers: with a bounded time and output, with
// nothing of this process but the streams, and so that nothing of them is left.
type executor struct {
	version.PluginDecoder
	dirs  []string
	limit time.Duration // of one plugin
}

// FindInPath finds the program of a plugin, which only root may be able to write.
func (e *executor) FindInPath(plugin string, paths []string) (string, error) {
	path, err := invoke.FindInPath(plugin, paths)
	if err != nil {
		return "", fmt.Errorf("plugin %q is in none of %q", plugin, e.dirs)
	}
	return path, trusted(path)
}

// ExecPlugin executes a plugin and returns its stdout. An error that the plugin
// has told is a *types.Error.
func (e *executor) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, e.limit, fmt.Errorf("it took longer than %s", e.limit))
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, v := range environ {
		if strings.HasPrefix(v, "CNI_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	stdout, stderr := &bounded{max: maxOutput, full: cancel}, &bounded{max: 4096}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), stdout, stderr
	// A group, so that what the plugin has started ends with it, and ends when this
	// process is killed. The main goroutine has the main thread for itself.
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case stdout.over:
		return nil, fmt.Errorf("plugin %s: it printed more than %d bytes", path, maxOutput)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("plugin %s: %w", path, context.Cause(ctx))
	case err != nil && !errors.Is(err, exec.ErrWaitDelay):
		return nil, told(path, err, stdout.kept, stderr.kept)
	}
	return stdout.kept, nil
}

// told is why a plugin says that it failed.
func told(path string, err error, stdout, stderr []byte) error {
	e := &types.Error{}
	if json.Unmarshal(stdout, e) == nil && e.Msg != "" {
		return e
	}
	text := strings.TrimSpace(string(stderr))
	if text == "" {
		text = strings.TrimSpace(string(stdout[:min(len(stdout), 256)]))
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		var perr *os.PathError
		if errors.As(err, &perr) {
			return fmt.Errorf("plugin %s: %w", path, perr.Err)
		}
	}
	if text != "" {
		return fmt.Errorf("plugin %s: %w: %s", path, err, text)
	}
	return fmt.Errorf("plugin %s: %w", path, err)
}

// bounded keeps the beginning of what is written to it, and calls full when
// there is more. The buffer is a field: embedded, its ReadFrom would go round Write.
type bounded struct {
	kept []byte
	max  int
	over bool
	full func()
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	room := min(b.max-len(b.kept), len(p))
	b.kept = append(b.kept, p[:room]...)
	if room < len(p) {
		b.over = true
		if b.full != nil {
			b.full()
		}
	}
	return len(p), nil
}
