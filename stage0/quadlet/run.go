package quadlet

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// run is a unit that runs a pod, under construction.
type run struct {
	service
	// global are flags of rkt, flags those of the pod.
	global, flags []string
	apps          []*app
	// named: the pod has a name of its author's.
	name string
	keep bool // the pod stays when it is over
	// nets are the names of its networks, ports what it publishes.
	nets  []string
	ports []port
	// published and resolver are where the author asked for ports and for name
	// servers.
	published, resolver []Entry
	// notify is --sd-notify.
	notify string
	// stopping is the longest that an app may take to stop.
	stopping time.Duration
}

// app is an image with its flags.
type app struct {
	run   *run
	src   *source
	file  *File
	name  string
	image string // a reference
	pull  string // pull policy, "" = no fetch
	flags []string
	// exec replaces the entrypoint; nil leaves the image's.
	exec []string
	args []string

	addCaps, dropCaps []string
	user, group       Entry
	readOnly, noTmpfs bool
	targets           map[string]bool // where something is mounted
	reload            Entry
	stopSignal        string
	notify            bool // it says itself when it is ready
	insecure          []string
}

// newRun begins a unit that runs the pod of s.
func (c *compiler) newRun(s *source) *run {
	return &run{service: *c.newService(s, s.service), stopping: defaultGrace}
}

// defaultGrace is how long rkt gives an app to stop by itself.
const defaultGrace = 10 * time.Second

func (r *run) newApp(s *source) *app {
	a := &app{run: r, src: s, file: s.File, pull: "new", targets: make(map[string]bool)}
	r.apps = append(r.apps, a)
	return a
}

// flag adds a flag of the pod.
func (r *run) flag(name, value string) { r.flags = append(r.flags, "--"+name+"="+value) }

// has says whether the pod has the flag.
func (r *run) has(name string) bool {
	return slices.ContainsFunc(r.flags, func(f string) bool { return strings.HasPrefix(f, "--"+name+"=") })
}

// flag adds a flag of the app.
func (a *app) flag(name, value string) { a.flags = append(a.flags, "--"+name+"="+value) }

// podName is the name of the pod in rkt list: the author's or that of the unit.
func (r *run) podName() string {
	if r.name != "" {
		return r.name
	}
	prefix, instance, template := strings.Cut(r.service.name, "@")
	switch {
	case !template:
		return cleanName(prefix)
	case instance == "":
		return cleanName(prefix) + "-%i"
	}
	return cleanName(prefix + "-" + instance)
}

// cleanName makes the name of a pod or an app of the name of a unit.
func cleanName(s string) string {
	const room = 48 // of 63; an instance may follow
	s = strings.Map(func(r rune) rune {
		if r < 0x80 && isAlphanumeric(byte(r)) || strings.ContainsRune("._-", r) {
			return r
		}
		return '-'
	}, s)
	s = strings.TrimLeft(s, "._-")
	if s = s[:min(len(s), room)]; s == "" {
		return "pod"
	}
	return s
}

// finishRun makes the unit of what is known by now.
func (r *run) finishRun() error {
	if err := errors.Join(r.network(), r.finishNetwork()); err != nil {
		return err
	}
	for _, a := range r.apps {
		if err := r.c.fetchFor(a); err != nil {
			return err
		}
	}
	kind := r.serviceType()
	if kind == "oneshot" && r.notify != "" {
		e, _ := r.src.File.value("Container", "Notify")
		return e.fail("Notify= is for Type=notify: a oneshot unit is started when its app has ended")
	}
	r.set("Type", kind)
	if kind == "notify" {
		r.set("NotifyAccess", "main")
	}
	r.set("Delegate", "yes")
	r.set("KillMode", "mixed")
	r.set("SyslogIdentifier", "%N")
	if r.stopping > defaultGrace && !r.said("TimeoutStopSec") && !r.said("TimeoutSec") {
		r.set("TimeoutStopSec", strconv.Itoa(int((r.stopping+30*time.Second)/time.Second)))
	}
	if r.src.kind == kindPod && !r.said("Restart") {
		r.set("Restart", "on-failure")
	}
	if err := r.reloadCommand(); err != nil {
		return err
	}
	if !r.said("SuccessExitStatus") {
		r.set("SuccessExitStatus", r.stopped())
	}
	r.exec("ExecStart", r.global, r.command()...)
	return r.finish()
}

// stopped are the exit codes of apps that the stop signal has ended: they did
// what was asked for.
func (r *run) stopped() string {
	codes := []string{"143"} // 128 and SIGTERM
	for _, a := range r.apps {
		name := strings.TrimPrefix(strings.ToUpper(a.stopSignal), "SIG")
		n, err := strconv.Atoi(name)
		if err != nil {
			n = int(unix.SignalNum("SIG" + name))
		}
		if code := strconv.Itoa(128 + n); n > 0 && n <= 64 && !slices.Contains(codes, code) {
			codes = append(codes, code)
		}
	}
	return strings.Join(codes, " ")
}

// command is the line of rkt run.
func (r *run) command() []string {
	words := []string{"run", "--name=" + r.podName()}
	if !r.keep {
		words = append(words, "--rm")
	}
	if r.notify != "" {
		words = append(words, "--sd-notify="+r.notify)
	}
	words = append(words, "--pull-policy=never") // the image has a unit of its own
	words = append(words, r.flags...)
	for i, a := range r.apps {
		if i > 0 {
			words = append(words, "---")
		}
		words = append(words, a.image)
		words = append(words, a.flags...)
		args := a.args
		if a.exec != nil {
			words = append(words, "--exec="+a.exec[0])
			args = slices.Concat(a.exec[1:], args)
		}
		if len(args) > 0 {
			words = append(append(words, "--"), args...)
		}
	}
	return words
}

// reloadCommand is what systemctl reload does.
func (r *run) reloadCommand() error {
	for _, a := range r.apps {
		e := a.reload
		switch {
		case e.Key == "":
			continue
		case len(r.apps) > 1:
			return e.fail("%s= of an app of a pod is not supported: the unit is that of the pod", e.Key)
		case e.Key == "ReloadSignal":
			sig := strings.TrimPrefix(strings.ToUpper(e.Value), "SIG")
			if !slices.Contains([]string{"HUP", "QUIT", "USR1", "USR2", "ALRM"}, sig) {
				return e.fail("ReloadSignal=%s is not supported: rkt passes on HUP, QUIT, USR1, USR2 and ALRM", e.Value)
			}
			r.set("ExecReload", "kill -"+sig+" $MAINPID")
			continue
		}
		words, err := splitWords(e.Value)
		if err != nil || len(words) == 0 {
			return at(e, errors.Join(err, errEmpty(words)))
		}
		r.exec("ExecReload", nil, append([]string{"enter", r.podName(), "--"}, words...)...)
	}
	return nil
}

func errEmpty(words []string) error {
	if len(words) > 0 {
		return nil
	}
	return errors.New("the command is empty")
}

// finishApp settles what several keys of an app decide together.
func (a *app) finishApp() error {
	var errs []error
	for _, caps := range []struct {
		flag  string
		names []string
	}{{"cap-drop", a.dropCaps}, {"cap-add", a.addCaps}} {
		if len(caps.names) > 0 {
			a.flag(caps.flag, strings.Join(caps.names, ","))
		}
	}
	switch {
	case a.user.Value != "":
		a.flag("user", a.user.Value)
		if a.group.Value != "" {
			a.flag("group", a.group.Value)
		}
	case a.group.Value != "":
		errs = append(errs, a.group.fail("Group= needs User="))
	}
	if a.readOnly {
		a.flags = append(a.flags, "--readonly-rootfs")
		for _, dir := range []string{"/run", "/tmp", "/var/tmp"} {
			if !a.noTmpfs && !a.targets[dir] {
				a.flag("tmpfs", dir)
			}
		}
	}
	a.startExec()
	return errors.Join(errs...)
}

// startExec settles the command: an empty entrypoint makes the first argument
// what is executed.
func (a *app) startExec() {
	if a.exec != nil && len(a.exec) == 0 {
		if len(a.args) == 0 {
			a.exec = nil
			return
		}
		a.exec, a.args = a.args[:1], a.args[1:]
	}
}
