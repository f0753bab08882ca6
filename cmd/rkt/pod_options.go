package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"rkt/stage0/plan"
	"rkt/stage1/contract"
)

// podOptions are the flags of a pod, which "rkt run" and "rkt prepare" share.
type podOptions struct {
	name, hostname        string
	privateUsers          string
	remove, interactive   bool
	uuidFile              string
	volumes               []string
	environment, envFiles []string
	pull, stage1          string
	notify                string
	platform              platformOption
	settings              podSettings
	net                   netOptions
}

func (o *podOptions) flags(fs *pflag.FlagSet) {
	fs.StringVar(&o.name, "name", "", "name of the pod, unique among those that are not over")
	fs.StringVar(&o.hostname, "hostname", "", "host name of the pod (default rkt- and the beginning of the UUID)")
	o.net.flags(fs)
	fs.StringVar(&o.privateUsers, "private-users", "", "\"no\" runs the pod with the host's user ids")
	fs.BoolVar(&o.remove, "rm", false, "remove the pod when it is over")
	fs.BoolVar(&o.interactive, "interactive", false, "give the app a terminal of its own, joined to this one")
	fs.StringVar(&o.uuidFile, "uuid-file-save", "", "file to write the UUID to, before anything else is done")
	fs.StringArrayVar(&o.volumes, "volume", nil, "NAME,kind=host,source=PATH[,readOnly=true][,recursive=false] or NAME,kind=empty[,mode=,uid=,gid=]")
	fs.StringArrayVarP(&o.environment, "environment", "e", nil, "NAME=VALUE for all apps, or NAME for the caller's value")
	fs.StringArrayVar(&o.envFiles, "env-file", nil, "file with lines NAME=VALUE")
	fs.StringVar(&o.pull, "pull-policy", "", "when to ask the registry: new, update or never (default new)")
	fs.Var(&o.platform, "platform", platformUsage)
	fs.StringVar(&o.stage1, "stage1-name", "", "what runs the pod: native, or fly for host agents (no isolation) (default native)")
	fs.StringVar(&o.notify, "sd-notify", string(contract.NotifyPod), "who tells systemd that the pod is ready: pod, when all apps run; app or app:NAME, when the app says so; or no")
	o.settings.flags(fs)
}

// spec makes what the plan wants of what the flags say.
func (o *podOptions) spec(env *environment) (plan.Spec, error) {
	s := plan.Spec{
		Name: o.name, Hostname: o.hostname, Remove: o.remove, Interactive: o.interactive,
		Notify: o.notify,
	}
	env.platform = o.platform
	if err := o.net.apply(&s); err != nil {
		return s, err
	}
	switch o.privateUsers {
	case "":
	case "yes", "true":
		s.User = contract.Private
	case "no", "false":
		s.User = contract.Shared
	default:
		return s, fmt.Errorf("--private-users: %q is neither yes nor no", o.privateUsers)
	}
	for _, text := range o.volumes {
		v, err := parseVolume(text)
		if err != nil {
			return s, fmt.Errorf("--volume: %w", err)
		}
		s.Volumes = append(s.Volumes, v)
	}
	for _, name := range env.insecure.list() {
		s.Weakenings = append(s.Weakenings, "--insecure-options="+name)
	}
	if err := o.settings.apply(&s); err != nil {
		return s, err
	}
	var err error
	s.Environment, err = environmentOf(o.envFiles, o.environment)
	return s, err
}

// parseVolume parses the value of the pod's --volume.
func parseVolume(text string) (plan.Volume, error) {
	name, fields, ok := strings.Cut(text, ",")
	v := plan.Volume{Name: name}
	if !ok {
		return v, fmt.Errorf("%q is not NAME,kind=host,source=PATH or NAME,kind=empty; SOURCE:TARGET must follow an image", text)
	}
	kind := ""
	for field := range strings.SplitSeq(fields, ",") {
		key, value, _ := strings.Cut(field, "=")
		var err error
		switch key {
		case "kind":
			kind = value
		case "source":
			v.Source = value
		case "readOnly":
			v.ReadOnly, err = strconv.ParseBool(value)
		case "recursive":
			var recursive bool
			recursive, err = strconv.ParseBool(value)
			v.Flat = !recursive
		case "mode":
			v.Mode, err = parseUint32(value, 8, 0o7777)
		case "uid":
			v.UID, err = parseUint32(value, 10, plan.MaxID(false))
		case "gid":
			v.GID, err = parseUint32(value, 10, plan.MaxID(false))
		default:
			return v, fmt.Errorf("unknown field %q in %q", key, text)
		}
		if err != nil {
			return v, fmt.Errorf("bad field %q in %q", field, text)
		}
	}
	switch {
	case kind == "empty" && v.Source != "":
		return v, fmt.Errorf("%q: an empty volume has no source", text)
	case kind == "empty":
	case kind != "host":
		return v, fmt.Errorf("%q needs kind=host or kind=empty", text)
	case !filepath.IsAbs(v.Source):
		return v, fmt.Errorf("%q needs source= with an absolute path", text)
	case v.Mode != 0 || v.UID != 0 || v.GID != 0:
		return v, fmt.Errorf("%q: mode, uid and gid are for empty volumes", text)
	}
	return v, nil
}

func parseUint32(s string, base int, limit uint32) (uint32, error) {
	n, err := strconv.ParseUint(s, base, 32)
	if err == nil && n > uint64(limit) {
		err = strconv.ErrRange
	}
	return uint32(n), err
}
