package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"rkt/stage0/plan"
)

// appSettings are flags of an app under the names that they have elsewhere.
type appSettings struct {
	capAdd, capDrop     []string
	shmSize, umask      string
	ulimits             []string
	labels, annotations []string
}

func (o *appSettings) flags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&o.capAdd, "cap-add", nil, "capabilities to add to the default set; \"all\" is every one")
	fs.StringSliceVar(&o.capDrop, "cap-drop", nil, "capabilities to take from the default set, before those of --cap-add are added; \"all\" is every one")
	fs.StringVar(&o.shmSize, "shm-size", "", "size of /dev/shm: 128M, 1Gi (default 64M)")
	fs.StringArrayVar(&o.ulimits, "ulimit", nil, "NAME=SOFT[:HARD] as of ulimit: nofile=1024:4096, memlock=-1")
	fs.StringVar(&o.umask, "umask", "", "mask of the modes of new files, in octal (default 0022)")
	fs.StringArrayVar(&o.labels, "label", nil, "NAME=VALUE, shown by \"rkt status\"")
	fs.StringArrayVar(&o.annotations, "annotation", nil, "NAME=VALUE, shown by \"rkt status\"")
}

// apply makes what the plan wants of what the flags say.
func (o *appSettings) apply(a *plan.App, set *pflag.FlagSet) (err error) {
	if set.Changed("cap-add") {
		a.CapsAdd = append([]string{}, o.capAdd...)
	}
	if set.Changed("cap-drop") {
		a.CapsDrop = append([]string{}, o.capDrop...)
	}
	if a.ShmBytes, err = parseBytes(o.shmSize); err != nil {
		return fmt.Errorf("--shm-size: %w", err)
	}
	if o.umask != "" {
		mask, err := parseUint32(o.umask, 8, 0o777)
		if err != nil {
			return fmt.Errorf("--umask: %q is not a mask in octal", o.umask)
		}
		a.Umask = &mask
	}
	for _, text := range o.ulimits {
		u, err := parseUlimit(text)
		if err != nil {
			return err
		}
		a.Ulimits = append(a.Ulimits, u)
	}
	if a.Labels, err = parseLabels("--label", o.labels); err != nil {
		return err
	}
	a.Annotations, err = parseLabels("--annotation", o.annotations)
	return err
}

// parseUlimit parses NAME=SOFT[:HARD]; -1 and "unlimited" are no limit.
func parseUlimit(text string) (u plan.Ulimit, err error) {
	name, values, ok := strings.Cut(text, "=")
	soft, hard, both := strings.Cut(values, ":")
	if !both {
		hard = soft
	}
	u.Name = strings.TrimPrefix(strings.ToLower(name), "rlimit_")
	for _, v := range []struct {
		text string
		to   *uint64
	}{{soft, &u.Soft}, {hard, &u.Hard}} {
		if v.text == "-1" || v.text == "unlimited" {
			*v.to = plan.Unlimited
			continue
		}
		n, err := strconv.ParseUint(v.text, 10, 63)
		if err != nil || !ok {
			return u, fmt.Errorf("--ulimit: %q is not NAME=SOFT[:HARD]", text)
		}
		*v.to = n
	}
	return u, nil
}

// podSettings are flags of a pod under the names that they have elsewhere.
type podSettings struct {
	sysctls             []string
	labels, annotations []string
}

func (o *podSettings) flags(fs *pflag.FlagSet) {
	fs.StringArrayVar(&o.sysctls, "sysctl", nil, "NAME=VALUE of a kernel parameter that pods have of their own: net.*, fs.mqueue.*, kernel.shm*, ...")
	fs.StringArrayVar(&o.labels, "label", nil, "NAME=VALUE, shown by \"rkt status\"")
	fs.StringArrayVar(&o.annotations, "annotation", nil, "NAME=VALUE, shown by \"rkt status\"")
}

// apply makes what the plan wants of what the flags say.
func (o *podSettings) apply(s *plan.Spec) (err error) {
	for _, text := range o.sysctls {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" || value == "" {
			return fmt.Errorf("--sysctl: %q is not NAME=VALUE", text)
		}
		s.Sysctls = append(s.Sysctls, plan.Sysctl{Name: name, Value: value})
	}
	if s.Labels, err = parseLabels("--label", o.labels); err != nil {
		return err
	}
	s.Annotations, err = parseLabels("--annotation", o.annotations)
	return err
}
