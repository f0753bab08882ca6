package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"rkt/fetch"
	"rkt/internal/atomicfile"
	"rkt/internal/escape"
	"rkt/stage0"
	"rkt/stage0/plan"
	"rkt/stage0/pod"
)

// runOptions are the flags of "rkt run" that stand before the first image.
type runOptions struct {
	podOptions
	unitOptions
	explain bool
	detach  bool
}

func (o *runOptions) flags(fs *pflag.FlagSet) {
	o.podOptions.flags(fs)
	o.unitOptions.flags(fs)
	fs.BoolVarP(&o.detach, "detach", "d", false, "print the UUID once the pod is ready, and leave it to itself")
	fs.BoolVar(&o.explain, "explain", false, "print the system calls that would start the apps, and run nothing")
}

func newRunCommand(env *environment) *cobra.Command {
	var o runOptions
	return lineCommand(env, &cobra.Command{
		Use:   "run [pod flags] IMAGE [app flags] [-- args...] [--- IMAGE ...]",
		Short: "Run a pod of one or several images",
		Long: `Run a pod of one or several images, and become its supervisor.

Flags before the first image are the pod's, flags after an image are that app's.
"--" begins the arguments of the image's command, "---" ends them.

A pod has user ids, a network, processes and a root of its own, a few
capabilities and system calls, and no way to gain more. Each option that changes
that is recorded and shown by "rkt status".

From a shell, the pod gets a scope of its own from systemd; in a unit it stays in
that. With --detach it becomes a service rkt-UUID.service, or where systemd is not
the init, a session of its own; "rkt logs" shows what its apps write.`,
		Example: `  rkt run docker://docker.io/library/busybox -- echo hello
  rkt run --name=web --net=default -p 8080:80 oci:./nginx --user=www-data --memory=256M
  rkt run --detach --name=db --property=MemoryMax=1G docker://docker.io/library/redis
  rkt run --volume=data,kind=empty A --mount=volume=data,target=/out --- B --mount=volume=data,target=/in`,
	}, o.flags, func(ctx context.Context, apps []*appOptions) error { return run(ctx, env, &o, apps) })
}

// lineCommand makes c a command with the grammar of parseCommandLine.
func lineCommand(env *environment, c *cobra.Command, podFlags func(*pflag.FlagSet), do func(context.Context, []*appOptions) error) *cobra.Command {
	// The flags are defined when they are needed: a start pays for no other verb's.
	c.DisableFlagParsing = true
	c.Annotations = map[string]string{becomesStage1: "yes"}
	c.RunE = func(c *cobra.Command, args []string) error {
		flags := pflag.NewFlagSet(c.Name(), pflag.ContinueOnError)
		podFlags(flags)
		env.flags(flags)
		apps, err := parseCommandLine(c.Name(), flags, args)
		if errors.Is(err, pflag.ErrHelp) {
			return c.Help()
		}
		if err != nil {
			return err
		}
		return do(c.Context(), apps)
	}
	c.ValidArgsFunction = func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		flags := pflag.NewFlagSet(c.Name(), pflag.ContinueOnError)
		podFlags(flags)
		env.flags(flags)
		flags.SetInterspersed(false)
		flags.Usage = func() {}
		if err := flags.Parse(args); err == nil && flags.NArg() > 0 { // behind an image
			flags = pflag.NewFlagSet(c.Name(), pflag.ContinueOnError)
			(&appOptions{}).flags(flags)
		}
		return completeFlags(word, flags)
	}
	c.SetHelpFunc(func(c *cobra.Command, _ []string) { lineHelp(env, c, podFlags) })
	env.lines[c] = podFlags
	return c
}

// lineHelp prints the help text with both kinds of flags.
func lineHelp(env *environment, c *cobra.Command, podFlags func(*pflag.FlagSet)) {
	pods, apps, global := pflag.NewFlagSet("", 0), pflag.NewFlagSet("", 0), pflag.NewFlagSet("", 0)
	podFlags(pods)
	(&appOptions{}).flags(apps)
	env.flags(global)
	fmt.Fprintf(env.stdout, "%s\n\nUsage:\n  rkt %s\n\nExamples:\n%s\n\nPod flags:\n%s\nApp flags:\n%s\nGlobal flags:\n%s",
		c.Long, c.Use, c.Example, pods.FlagUsages(), apps.FlagUsages(), global.FlagUsages())
}

func run(ctx context.Context, env *environment, o *runOptions, apps []*appOptions) error {
	if err := requireRoot("run"); err != nil {
		return err
	}
	terminal := isTerminal(env.stdin)
	if o.interactive && !terminal {
		return withHint(errors.New("--interactive needs a terminal on stdin"), "run without --interactive")
	}
	if o.interactive && o.detach {
		return errors.New("--interactive and --detach exclude each other")
	}
	host, err := env.fullEnv()
	if err != nil {
		return err
	}
	unit, err := o.find(ctx, env, o.detach)
	if err != nil {
		return err
	}
	defer unit.close()
	prepared, err := prepareApps(ctx, env, host, &o.podOptions, apps, stage0.PrepareOptions{
		Durable: o.detach, Delegated: unit.manager != nil, LogFiles: o.detach && unit.manager == nil,
	})
	if err != nil {
		return err
	}
	if o.explain {
		return errors.Join(stage0.Explain(ctx, host, prepared, env.stdout), prepared.Discard())
	}
	if o.detach {
		return detach(ctx, env, prepared, unit)
	}
	if err := stage0.Run(ctx, host, prepared, unit.runOptions(prepared, terminal)); err != nil {
		return discarded(prepared, err)
	}
	return nil
}

// prepareApps fetches the images and prepares the pod. how says what is special
// about it.
func prepareApps(ctx context.Context, env *environment, host *stage0.Env, o *podOptions, apps []*appOptions, how stage0.PrepareOptions) (*stage0.Prepared, error) {
	if len(o.net.nets) == 0 && env.config.Net.Text != "" {
		o.net.nets = []string{env.config.Net.Text}
	}
	spec, err := o.spec(env)
	if err != nil {
		return nil, err
	}
	for _, a := range apps {
		app, err := a.app()
		if err != nil {
			return nil, err
		}
		spec.Apps = append(spec.Apps, app)
	}
	if err := fetchApps(ctx, env, o.pull, apps, spec.Apps); err != nil {
		return nil, err
	}
	how.Stage1 = env.stage1Name(o.stage1)
	how.Created = func(id pod.UUID) error { return saveUUID(o.uuidFile, id) }
	how.Note = func(text string) { fmt.Fprintf(env.stderr, "rkt: %s\n", escape.Text(text)) }
	return stage0.Prepare(ctx, host, spec, how)
}

// fetchApps finds the image of each app, in the store or by fetching it.
func fetchApps(ctx context.Context, env *environment, policy string, apps []*appOptions, into []plan.App) error {
	pull, err := env.pullPolicy(policy)
	if err != nil {
		return fmt.Errorf("--pull-policy: %w", err)
	}
	show := &patientProgress{&toldProgress{progress: newProgress(env.stderr), handover: env.handover}, env.catchSignals}
	fetcher, err := env.fetcher(ctx, show)
	if err != nil {
		return err
	}
	for i, a := range apps {
		img, err := fetcher.Image(ctx, a.image, pull)
		show.settle()
		if err != nil && i > 0 && apps[i-1].args == nil && !strings.ContainsAny(a.image, ":@") {
			return withHint(err, "arguments for the command of an image follow --: %s -- %s", apps[i-1].image, a.image)
		}
		if err != nil {
			return err
		}
		into[i].Image, into[i].Reference = img, img.Reference
	}
	return nil
}

// patientProgress lets signals cancel the context once there is work that wants
// to be cleaned up.
type patientProgress struct {
	progress
	catchSignals func()
}

func (p *patientProgress) show(e fetch.Event) {
	if _, ok := e.(fetch.Started); ok {
		p.catchSignals()
	}
	p.progress.show(e)
}

// saveUUID writes the UUID for scripts that must be able to clean up whatever
// happens next.
func saveUUID(file string, id pod.UUID) error {
	if file == "" {
		return nil
	}
	dir, name := filepath.Split(file)
	if dir == "" {
		dir = "."
	}
	if err := atomicfile.Write(dir, name, []byte(id.String()+"\n"), os.FileMode(0o644), false); err != nil {
		return fmt.Errorf("save UUID: %w", err)
	}
	return nil
}
