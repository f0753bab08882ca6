package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"rkt/internal/escape"
	"rkt/stage0"
	"rkt/stage0/logs"
	"rkt/stage0/pod"
	"rkt/stage0/systemd"
	"rkt/stage1/contract"
)

// lastWords is how many lines of the log are shown of a pod that did not start.
const lastWords = 10

// maxLastWords bounds the same of a supervisor's own log, in bytes.
const maxLastWords = 1024

// startLimit bounds the start of a service. The first start after a boot reads
// all layers, which can be large.
const startLimit = 10 * time.Minute

// detach runs a prepared pod without this process: as a service of systemd or, on
// a host without, in a session of its own. It returns when the apps run, or the
// app has said that it is ready, and the UUID is printed then.
func detach(ctx context.Context, env *environment, p *stage0.Prepared, unit *podUnit) error {
	id := p.UUID()
	command, err := env.runPreparedCommand(id, unit)
	if err != nil {
		return discarded(p, err)
	}
	name := p.Name()
	if err := p.Pod.Close(); err != nil { // and with it the lock, for who runs it
		return err
	}
	if unit.manager != nil {
		err = startService(ctx, unit, command, id, name)
	} else {
		err = startSession(ctx, env, command, id)
	}
	if err != nil {
		return notStarted(ctx, env, id, err)
	}
	fmt.Fprintln(env.stdout, id)
	return nil
}

// runPreparedCommand is the command that runs a prepared pod on the same host,
// with the same folders.
func (e *environment) runPreparedCommand(id pod.UUID, unit *podUnit) ([]string, error) {
	self, err := ownProgram()
	if err != nil {
		return nil, err
	}
	command := []string{
		self, "--dir=" + e.dataDir, "--run-dir=" + e.runDir, "--system-config=" + e.systemConfig, "--local-config=" + e.localConfig, "--user-config=" + e.userConfig,
	}
	if e.driver != "" {
		command = append(command, "--driver="+e.driver)
	}
	for _, dir := range e.readOnly {
		command = append(command, "--read-only-store="+dir)
	}
	register := "no"
	if unit.announce != nil {
		register = "auto"
	}
	return append(command, "run-prepared", "--scope=no", "--register="+register, id.String()), nil
}

// ownProgram is the path of this program.
func ownProgram() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find own program: %w", err)
	}
	return self, nil
}

// startService runs the command as a service of systemd.
func startService(ctx context.Context, unit *podUnit, command []string, id pod.UUID, name string) error {
	s := systemd.Service{
		Options: unit.options, Command: command, Identifier: "rkt",
		LogFields: []string{"RKT_POD=" + id.String()}, StartLimit: startLimit,
	}
	s.Description = "rkt pod " + id.Short()
	if name != "" {
		s.Description = "rkt pod " + name
		s.LogFields = append(s.LogFields, "RKT_POD_NAME="+name)
	}
	return unit.manager.StartService(ctx, systemd.PodUnit(id.String(), "service"), s)
}

// sessionError reports a supervisor that ended before its pod was ready.
type sessionError struct{ status int }

func (e *sessionError) Error() string {
	return fmt.Sprintf("the pod did not start: status %d", e.status)
}

// startSession runs the command in a session of its own, which no terminal ends,
// and waits until the pod is ready.
func startSession(ctx context.Context, env *environment, command []string, id pod.UUID) error {
	p, err := env.dir.Get(id)
	if err != nil {
		return err
	}
	defer p.Close()
	own, err := os.OpenFile(filepath.Join(p.Path(), contract.LogFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("make log of the pod: %w", err)
	}
	defer own.Close()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = own, own, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run the pod: %w", err)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		err := cmd.Wait()
		ended <- err
		cancel(pod.ErrEnded)
	}()
	if err := p.AwaitReady(ctx); !errors.Is(err, pod.ErrEnded) {
		return err
	}
	if err := <-ended; err == nil {
		return nil // it was quick: perhaps it is removed already
	}
	return &sessionError{cmd.ProcessState.ExitCode()}
}

// notStarted tells why a pod did not start, with the end of its log, and removes
// one that has not been run at all.
func notStarted(ctx context.Context, env *environment, id pod.UUID, why error) error {
	if ctx.Err() != nil {
		return withHint(fmt.Errorf("pod %s: gave up waiting for its start: %w", id, why), "rkt status %s", id)
	}
	status := contract.ExitFailure
	var failed *systemd.FailedError
	var session *sessionError
	switch {
	case errors.As(why, &failed) && failed.Status > 0:
		status = failed.Status
	case errors.As(why, &session) && session.status > 0:
		status = session.status
	}
	p, err := env.dir.Get(id)
	if err == nil {
		defer p.Close()
	}
	showLastWords(ctx, env, p, id)
	fmt.Fprintf(env.stderr, "rkt: error: pod %s: %s\n", id, escape.Text(why.Error()))
	if p != nil && p.Place() == pod.InPrepared {
		if err := discardPrepared(p); err != nil {
			fmt.Fprintf(env.stderr, "rkt: error: remove pod %s: %s\n", id, escape.Text(err.Error()))
		}
	}
	return exitCode(status)
}

// discardPrepared removes a pod that is prepared still.
func discardPrepared(p *pod.Pod) error {
	prepared, err := stage0.OpenPrepared(p)
	if err != nil {
		return err
	}
	return prepared.Pod.Delete()
}

// showLastWords writes the end of the log of a pod to stderr. p may be nil.
func showLastWords(ctx context.Context, env *environment, p *pod.Pod, id pod.UUID) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	show := func(e logs.Entry) error {
		_, err := fmt.Fprintf(env.stderr, "  %s\n", visibleLine(string(e.Message)))
		return err
	}
	if p != nil {
		if own, err := p.Read(contract.LogFile); err == nil && len(own) > 0 {
			for line := range bytes.Lines(own[max(0, len(own)-maxLastWords):]) {
				_ = show(logs.Entry{Message: bytes.TrimSuffix(line, []byte{'\n'})})
			}
			return
		}
	}
	_ = logs.Journal(ctx, id.String(), logs.Query{Lines: lastWords}, show) // that it cannot be read is not the news
}
