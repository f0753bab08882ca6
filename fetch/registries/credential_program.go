package registries

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"rkt/internal/escape"

	"rkt/internal/confdir"
)

const (
	helperTime = 30 * time.Second // a helper may ask a service of the cloud
	helperMax  = 64 << 10         // bytes of its answer; tokens have a few thousand
)

// helperName is what may follow docker-credential- in a file name. It is
// compiled when it is needed, as every run of rkt would pay for it.
var helperName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
})

// helperKey is how docker names host to a helper.
func helperKey(host string) string {
	if host == dockerHub {
		return "https://index.docker.io/v1/"
	}
	return host
}

// askHelper runs docker-credential-NAME, which is told the registry on stdin
// and answers with JSON. The zero credential means that it knows none.
func (c Config) askHelper(ctx context.Context, name, key string) (credential, error) {
	program, err := c.helper(name)
	if err != nil {
		return credential{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()

	stdout := &bounded{max: helperMax}
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Env = []string{"PATH=" + strings.Join(c.HelperDirs, ":"), "HOME=" + c.Home}
	cmd.Dir = "/"
	cmd.Stdin = strings.NewReader(key)
	cmd.Stdout = stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // for children that keep stdout open

	err = cmd.Run()
	switch {
	case stdout.over:
		return credential{}, fmt.Errorf("%s answers with more than %d bytes", filepath.Base(program), helperMax)
	case ctx.Err() == context.DeadlineExceeded:
		return credential{}, fmt.Errorf("%s does not answer within %v", filepath.Base(program), helperTime)
	case err != nil && strings.Contains(stdout.String(), "credentials not found"):
		return credential{}, nil // the protocol's way to say so
	case err != nil:
		return credential{}, fmt.Errorf("%s: %w: %s", filepath.Base(program), err, firstLine(stdout.String()))
	}
	return parseAnswer(filepath.Base(program), stdout.Bytes())
}

func parseAnswer(program string, answer []byte) (credential, error) {
	var a struct{ Username, Secret string }
	if err := json.Unmarshal(answer, &a); err != nil {
		return credential{}, fmt.Errorf("%s: %w", program, plainJSONError(err))
	}
	switch {
	case a.Username == "" && a.Secret == "":
		return credential{}, nil
	case a.Username == "<token>": // docker's mark of a refresh token
		return credential{IdentityToken: a.Secret}, nil
	}
	return credential{User: a.Username, Password: a.Secret}, nil
}

// helper finds the program of a helper. The caller's PATH has no say, and
// nobody but root may have written the program.
func (c Config) helper(name string) (string, error) {
	if !helperName().MatchString(name) {
		return "", fmt.Errorf("%q is not the name of a credential helper", name)
	}
	for _, dir := range c.HelperDirs {
		path := filepath.Join(dir, "docker-credential-"+name)
		info, err := os.Stat(path)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if !confdir.Ours(info) {
			return "", &Refused{Path: path, Problem: "it does not belong to root", Fix: "chown root:root " + path}
		}
		if info.Mode().Perm()&confdir.Public != 0 {
			return "", confdir.ModeRefused(path, info, confdir.Public)
		}
		return path, nil
	}
	return "", fmt.Errorf("no docker-credential-%s in %s", name, strings.Join(c.HelperDirs, ", "))
}

// firstLine returns the first line of text in a form that a terminal can show.
func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if len(line) > 200 {
		line = line[:200]
	}
	return escape.Text(line)
}

// bounded keeps what is written to it and fails after max bytes.
type bounded struct {
	bytes.Buffer
	max  int
	over bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.max {
		b.over = true
		return 0, errors.New("too much")
	}
	return b.Buffer.Write(p)
}

// ReadFrom keeps io.Copy from filling the buffer past Write.
func (b *bounded) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{b}, r)
}
