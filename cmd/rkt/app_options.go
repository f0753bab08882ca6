package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"rkt/stage0/plan"
	"rkt/stage1/contract"
)

// appOptions are an image of a command line with its flags and arguments.
type appOptions struct {
	image string
	args  []string

	name, exec, user, group, workingDir string
	groups                              []uint
	mergeGroups                         bool
	environment, envFiles               []string
	readOnly                            bool
	tmpfs, mounts, binds                []string
	memory, cpu                         string
	cpuShares, pids                     int64
	capsRetain, capsRemove              []string
	seccomp                             string
	escalate, init                      bool
	restart, stopSignal                 string
	stopTimeout                         time.Duration
	stdin, stdout, stderr               string
	settings                            appSettings
	handover                            handoverOptions

	set *pflag.FlagSet
}

func (o *appOptions) flags(fs *pflag.FlagSet) {
	o.set = fs
	fs.StringVar(&o.name, "name", "", "name of the app; default is made from the image's")
	fs.StringVar(&o.exec, "exec", "", "command instead of the image's entrypoint")
	fs.StringVar(&o.user, "user", "", "user[:group] by name or number")
	fs.StringVar(&o.group, "group", "", "group by name or number")
	fs.UintSliceVar(&o.groups, "supplementary-gids", nil, "further groups, by number")
	fs.BoolVar(&o.mergeGroups, "supplementary-groups-of-image", false, "add the groups that the image's /etc/group gives the user")
	fs.StringVar(&o.workingDir, "working-dir", "", "folder to start in")
	fs.StringArrayVarP(&o.environment, "environment", "e", nil, "NAME=VALUE for the app, or NAME for the caller's value")
	fs.StringArrayVar(&o.envFiles, "env-file", nil, "file with lines NAME=VALUE")
	fs.BoolVar(&o.readOnly, "readonly-rootfs", false, "let the app write to volumes only")
	fs.StringArrayVar(&o.tmpfs, "tmpfs", nil, "PATH[:size=64m,mode=1777,uid=,gid=,ro,exec]")
	fs.StringArrayVar(&o.mounts, "mount", nil, "volume=NAME,target=PATH[,readOnly=true]")
	fs.StringArrayVarP(&o.binds, "volume", "v", nil, "SOURCE:TARGET[:ro] from the host")
	fs.StringVar(&o.memory, "memory", "", "limit of memory: 128m, 1G")
	fs.StringVar(&o.cpu, "cpu", "", "limit of processors: 2, 0.5, 500m")
	fs.Int64Var(&o.cpuShares, "cpu-shares", 0, "weight among others, 2 to 262144")
	fs.Int64Var(&o.pids, "pids", 0, "limit of processes and threads (default 4096)")
	fs.StringSliceVar(&o.capsRetain, "caps-retain", nil, "the whole set of capabilities; \"default\" is the default set")
	fs.StringSliceVar(&o.capsRemove, "caps-remove", nil, "capabilities to take from the default set")
	fs.StringVar(&o.seccomp, "seccomp", "", "default, or unconfined")
	fs.BoolVar(&o.escalate, "allow-privilege-escalation", false, "let setuid programs gain privileges")
	fs.BoolVar(&o.init, "init", false, "run a reaper of zombies as process 1")
	fs.StringVar(&o.restart, "restart", "no", "no, on-failure[:MAX] or always[:MAX]")
	fs.StringVar(&o.stopSignal, "stop-signal", "", "signal that asks the app to end; default is the image's or SIGTERM")
	fs.DurationVar(&o.stopTimeout, "stop-timeout", 10*time.Second, "time between the stop signal and SIGKILL")
	fs.StringVar(&o.stdin, "stdin", "", "inherit or null")
	fs.StringVar(&o.stdout, "stdout", "", "inherit, null or file:PATH[,raw|cri[,MAXBYTES]]")
	fs.StringVar(&o.stderr, "stderr", "", "as stdout")
	o.settings.flags(fs)
	o.handover.flags(fs)
}

// app makes what the plan wants of what the flags say.
func (o *appOptions) app() (plan.App, error) {
	a := plan.App{
		Name: o.name, Exec: o.exec, Args: o.args, User: o.user, Group: o.group, MergeGroups: o.mergeGroups,
		WorkingDir: o.workingDir, ReadOnlyRoot: o.readOnly,
		Limits:  contract.Limits{CPUShares: o.cpuShares, Pids: o.pids},
		Seccomp: o.seccomp, AllowPrivilegeEscalation: o.escalate, Init: o.init, StopSignal: o.stopSignal,
	}
	if o.set.Changed("caps-retain") {
		a.CapsRetain = append([]string{}, o.capsRetain...)
	}
	if o.set.Changed("caps-remove") {
		a.CapsRemove = append([]string{}, o.capsRemove...)
	}
	if o.set.Changed("stop-timeout") {
		a.StopTimeout = &o.stopTimeout
	}
	o.handover.apply(&a, o.set)
	if err := o.settings.apply(&a, o.set); err != nil {
		return a, fmt.Errorf("image %q: %w", o.image, err)
	}
	var err error
	if a.Environment, err = environmentOf(o.envFiles, o.environment); err != nil {
		return a, fmt.Errorf("image %q: %w", o.image, err)
	}
	for _, step := range []struct {
		flag string
		do   func() error
	}{
		{"supplementary-gids", func() error { return o.addGroups(&a) }},
		{"memory", func() (err error) { a.Limits.MemoryBytes, err = parseBytes(o.memory); return }},
		{"cpu", func() (err error) { a.Limits.CPUMillis, err = parseMillis(o.cpu); return }},
		{"restart", func() (err error) { a.Restart, err = parseRestart(o.restart); return }},
		{"stdin", func() (err error) { a.Stdin, err = parseStream(o.stdin); return }},
		{"stdout", func() (err error) { a.Stdout, err = parseStream(o.stdout); return }},
		{"stderr", func() (err error) { a.Stderr, err = parseStream(o.stderr); return }},
		{"tmpfs", func() error { return o.addTmpfs(&a) }},
		{"mount", func() error { return o.addMounts(&a) }},
		{"volume", func() error { return o.addBinds(&a) }},
	} {
		if err := step.do(); err != nil {
			return a, fmt.Errorf("--%s of image %q: %w", step.flag, o.image, err)
		}
	}
	return a, nil
}

func (o *appOptions) addGroups(a *plan.App) error {
	for _, g := range o.groups {
		if uint64(g) > uint64(plan.MaxID(false)) {
			return fmt.Errorf("%d is out of range", g)
		}
		a.Groups = append(a.Groups, uint32(g))
	}
	return nil
}

func (o *appOptions) addTmpfs(a *plan.App) error {
	for _, s := range o.tmpfs {
		target, options, _ := strings.Cut(s, ":")
		t := plan.Tmpfs{Target: target}
		if options != "" {
			t.Options = strings.Split(options, ",")
		}
		a.Tmpfs = append(a.Tmpfs, t)
	}
	return nil
}

func (o *appOptions) addMounts(a *plan.App) error {
	for _, s := range o.mounts {
		var m plan.Mount
		for field := range strings.SplitSeq(s, ",") {
			key, value, _ := strings.Cut(field, "=")
			switch key {
			case "volume":
				m.Volume = value
			case "target":
				m.Target = value
			case "readOnly":
				ro, err := strconv.ParseBool(value)
				if err != nil {
					return fmt.Errorf("%q is not true or false", field)
				}
				m.ReadOnly = ro
			default:
				return fmt.Errorf("unknown field %q in %q, known are volume, target, readOnly", key, s)
			}
		}
		if m.Volume == "" || m.Target == "" {
			return fmt.Errorf("%q needs volume=NAME and target=PATH", s)
		}
		a.Mounts = append(a.Mounts, m)
	}
	return nil
}

func (o *appOptions) addBinds(a *plan.App) error {
	for _, s := range o.binds {
		f := strings.Split(s, ":")
		if len(f) < 2 || len(f) > 3 || f[0] == "" {
			return fmt.Errorf("%q is not SOURCE:TARGET[:ro]", s)
		}
		if !strings.ContainsRune(f[0], '/') && f[0] != "." {
			return fmt.Errorf("source %q is not a path; a path in this folder is ./%s", f[0], f[0])
		}
		source, err := filepath.Abs(f[0])
		if err != nil {
			return err
		}
		m := plan.Mount{Source: source, Target: f[1]}
		if len(f) == 3 {
			switch f[2] {
			case "ro":
				m.ReadOnly = true
			case "rw":
			default:
				return fmt.Errorf("unknown option %q in %q, known are ro and rw", f[2], s)
			}
		}
		a.Mounts = append(a.Mounts, m)
	}
	return nil
}

// parseRestart parses the value of --restart.
func parseRestart(s string) (contract.Restart, error) {
	policy, limit, limited := strings.Cut(s, ":")
	r := contract.Restart{Policy: contract.RestartPolicy(policy)}
	switch r.Policy {
	case contract.RestartNo, contract.RestartOnFailure, contract.RestartAlways:
	default:
		return r, fmt.Errorf("unknown policy %q, known are no, on-failure, always", policy)
	}
	if !limited {
		return r, nil
	}
	n, err := strconv.Atoi(limit)
	if err != nil || n < 1 || r.Policy == contract.RestartNo {
		return r, fmt.Errorf("%q does not end in a number of restarts", s)
	}
	r.Max = n
	return r, nil
}

// parseStream parses the value of --stdin, --stdout or --stderr; "" leaves the
// choice to the plan.
func parseStream(s string) (contract.Stream, error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch k := contract.StreamKind(kind); k {
	case "", contract.StreamInherit, contract.StreamNull:
		if rest == "" {
			return contract.Stream{Kind: k}, nil
		}
	case contract.StreamFile:
		f := strings.Split(rest, ",")
		st := contract.Stream{Kind: k, Path: f[0], Format: "raw"}
		if len(f) > 3 || f[0] == "" {
			return st, fmt.Errorf("%q is not file:PATH[,FORMAT[,MAXBYTES]]", s)
		}
		if len(f) > 1 {
			if st.Format = f[1]; st.Format != "raw" && st.Format != "cri" {
				return st, fmt.Errorf("unknown format %q, known are raw and cri", st.Format)
			}
		}
		if len(f) > 2 {
			n, err := parseBytes(f[2])
			if err != nil {
				return st, err
			}
			st.Max = n
		}
		return st, nil
	}
	return contract.Stream{}, fmt.Errorf("%q is none of inherit, null, file:PATH", s)
}
