package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rkt/internal/escape"
	"rkt/stage0"
	"rkt/stage0/pod"
	"rkt/stage1/contract"
)

// statusOptions are the flags of "rkt status".
type statusOptions struct {
	formatOption
	podSelection
	wait      waitOption
	waitReady waitOption
}

func (o *statusOptions) flags(fs *pflag.FlagSet) {
	o.formatOption.flags(fs)
	o.podSelection.flags(fs)
	fs.Var(&o.wait, "wait", "wait until the pod has ended, at most for a duration if one is given")
	fs.Lookup("wait").NoOptDefVal = "true"
	fs.Var(&o.waitReady, "wait-ready", "wait until all apps have been started, at most for a duration if one is given")
	fs.Lookup("wait-ready").NoOptDefVal = "true"
}

func newStatusCommand(env *environment) *cobra.Command {
	var o statusOptions
	c := &cobra.Command{
		Use:        "status POD",
		Short:      "Show what a pod and its apps are doing",
		SuggestFor: []string{"inspect"},
		Long: `Show what a pod and its apps are doing, as lines KEY=VALUE or as JSON.

POD is a UUID, the unique beginning of one, or a name. An app's line is its exit
code once it has ended, else its state. Waiting costs nothing: rkt sleeps until
the kernel wakes it.`,
		Example: `  rkt status web
  rkt status --wait-ready=10s --uuid-file=/run/web.uuid
  rkt status --wait --format=json 3f2a | jq '.apps[].exitCode'`,
		ValidArgsFunction: env.completeOnePod,
		RunE:              func(c *cobra.Command, args []string) error { return status(c.Context(), env, o, args) },
	}
	o.flags(c.Flags())
	return c
}

func status(ctx context.Context, env *environment, o statusOptions, args []string) error {
	const help = "rkt status --help"
	if err := o.check(help); err != nil {
		return err
	}
	words, err := o.words(args, help)
	if err != nil {
		return err
	}
	if len(words) != 1 {
		return &usageError{message: fmt.Sprintf("expected one pod, got %d", len(words)), help: help}
	}
	if err := requireRoot("status"); err != nil {
		return err
	}
	p, err := env.findPod(words[0])
	if err != nil {
		return err
	}
	defer p.Close()
	last, err := stage0.StatusOf(p)
	if err != nil {
		return fmt.Errorf("status of pod %s: %w", p.UUID(), err)
	}
	if err := o.await(ctx, p); err != nil {
		return err
	}
	if o.wait.on || o.waitReady.on {
		last, err = statusAfterWait(p, last)
		if err != nil {
			return err
		}
	}
	if o.json() {
		err = o.writeJSON(env.stdout, last)
	} else {
		err = writeStatus(env.stdout, last)
	}
	if err == nil && len(last.Problems) > 0 {
		err = fmt.Errorf("pod %s is damaged: %s", p.UUID(), strings.Join(last.Problems, "; "))
	}
	return err
}

// statusAfterWait reads the status again. Of a pod that was removed while rkt
// waited (run --rm), it is the last one known, with the state of such a pod.
func statusAfterWait(p *pod.Pod, before *stage0.Status) (*stage0.Status, error) {
	s, err := stage0.StatusOf(p)
	if !errors.Is(err, pod.ErrNotFound) {
		return s, err
	}
	before.State, before.PID, before.Ready = pod.Deleting, 0, false
	for i := range before.Apps {
		before.Apps[i].State, before.Apps[i].PID = pod.AppExited, 0
	}
	return before, nil
}

// await waits for what the flags ask for.
func (o *statusOptions) await(ctx context.Context, p *pod.Pod) error {
	if o.waitReady.on {
		ctx, cancel := o.waitReady.context(ctx, p)
		defer cancel()
		if err := p.AwaitReady(ctx); err != nil {
			return fmt.Errorf("wait until pod %s is ready: %w", p.UUID(), err)
		}
	}
	if o.wait.on {
		ctx, cancel := o.wait.context(ctx, p)
		defer cancel()
		if err := p.AwaitEnd(ctx); err != nil {
			return fmt.Errorf("wait for the end of pod %s: %w", p.UUID(), err)
		}
	}
	return nil
}

// writeStatus writes a status as lines KEY=VALUE.
func writeStatus(out io.Writer, s *stage0.Status) error {
	var b strings.Builder
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s=%s\n", key, escape.Text(value))
		}
	}
	line("state", string(s.State))
	line("uuid", s.UUID.String())
	line("name", s.Name)
	line("created", knownTime(s.Created))
	line("started", knownTime(s.Started))
	line("ended", knownTime(s.Ended))
	line("stage1", s.Stage1)
	line("network", s.Network)
	line("addresses", addresses(s))
	line("ports", portsText(s))
	line("integrity", s.Integrity)
	line("weakenings", strings.Join(s.Weakenings, " "))
	line("labels", labelText(s.Labels))
	line("annotations", labelText(s.Annotations))
	if s.PID > 0 {
		line("pid", strconv.Itoa(s.PID))
	}
	line("unit", s.Unit)
	line("exited", strconv.FormatBool(s.State.Over()))
	for _, a := range s.Apps {
		line("app-"+escape.Text(a.Name), appText(a))
		line("image-"+escape.Text(a.Name), a.Image)
		line("trust-"+escape.Text(a.Name), trustText(a.Trust))
		line("error-"+escape.Text(a.Name), a.Error)
		line("labels-"+escape.Text(a.Name), labelText(a.Labels))
		line("annotations-"+escape.Text(a.Name), labelText(a.Annotations))
	}
	for _, problem := range s.Problems {
		line("problem", problem)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// addresses are those of a pod that runs.
func addresses(s *stage0.Status) string {
	var all []string
	for _, i := range s.Interfaces {
		for _, a := range i.Addresses {
			ip, _, _ := strings.Cut(a, "/")
			all = append(all, ip)
		}
	}
	return strings.Join(all, ",")
}

// portsText is HOST->PORT/PROTOCOL for each published port.
func portsText(s *stage0.Status) string {
	var all []string
	for _, p := range s.Ports {
		at := p.HostIP
		if at == "" {
			at = "localhost"
		}
		if strings.Contains(at, ":") {
			at = "[" + at + "]"
		}
		all = append(all, fmt.Sprintf("%s:%d->%d/%s", at, p.HostPort, p.PodPort, p.Protocol))
	}
	return strings.Join(all, " ")
}

// labelText is NAME=VALUE for each, sorted.
func labelText(labels map[string]string) string {
	words := make([]string, 0, len(labels))
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		words = append(words, name+"="+labels[name])
	}
	return strings.Join(words, " ")
}

// trustText tells why an image was let in.
func trustText(t *contract.Trust) string {
	if t == nil {
		return ""
	}
	text := t.Tier
	if t.Signer != "" {
		text += " by " + t.Signer
	}
	if t.Rule != "" {
		text += ", rule " + t.Rule
	}
	return text
}

// appText is the exit code of an app, or its state while there is none.
func appText(a stage0.AppStatus) string {
	if a.ExitCode != nil {
		return strconv.Itoa(*a.ExitCode)
	}
	return string(a.State)
}

func knownTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return exactTime(t)
}

// waitOption is the value of --wait[=BOOL|DURATION].
type waitOption struct {
	on    bool
	limit time.Duration // 0 = none
}

// String implements pflag.Value.
func (o *waitOption) String() string {
	if o.limit > 0 {
		return o.limit.String()
	}
	return strconv.FormatBool(o.on)
}

// Type implements pflag.Value.
func (o *waitOption) Type() string { return "duration" }

// Set implements pflag.Value.
func (o *waitOption) Set(s string) error {
	if on, err := strconv.ParseBool(s); err == nil {
		*o = waitOption{on: on}
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return fmt.Errorf("%q is neither true, false nor a duration such as 10s", s)
	}
	*o = waitOption{on: true, limit: d}
	return nil
}

// context returns a context that ends with the time that may be waited.
func (o *waitOption) context(ctx context.Context, p *pod.Pod) (context.Context, context.CancelFunc) {
	if o.limit == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, o.limit, fmt.Errorf("gave up after %s", o.limit))
}
