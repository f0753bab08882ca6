package quadlet

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// container makes the unit of a .container file, unless that is an app of a
// pod: then the .pod file does.
func (c *compiler) container(s *source) error {
	r := c.newRun(s)
	a, err := r.readContainer(s)
	if err != nil {
		return err
	}
	if _, inPod := s.File.value("Container", "Pod"); inPod {
		if _, own := s.File.value("Container", "ServiceName"); own && strings.Contains(s.service, "@") || strings.Contains(s.Name, "@") {
			return errors.New("a template cannot be an app of a pod")
		}
		return nil // read again, for the pod
	}
	r.name = a.name
	if a.notify {
		r.notify = "app"
	}
	return r.finishRun()
}

// readContainer makes an app of a .container file.
func (r *run) readContainer(s *source) (*app, error) {
	a := r.newApp(s)
	err := errors.Join(
		apply(a, s.File, "Container", containerRules()),
		apply(a, s.File, rktSection, rktRules()),
	)
	if err == nil {
		err = a.finishApp()
	}
	if err == nil && a.image == "" {
		err = errors.New("[Container] has no Image=")
	}
	return a, err
}

// containerRules are the keys of [Container].
func containerRules() []rule[*app] {
	rules := []rule[*app]{
		{key: "Image", do: (*app).setImage},
		{key: "Pod", do: nothing[*app]},
		{key: "ServiceName", do: nothing[*app]},
		{key: "ContainerName", do: (*app).setName},
		{key: "Pull", do: (*app).setPull},
		{key: "Entrypoint", do: (*app).setEntrypoint},
		{key: "Exec", do: (*app).setExec},
		{key: "Environment", lists: true, do: each("environment")},
		{key: "EnvironmentFile", lists: true, do: (*app).addEnvironmentFile},
		{key: "EnvironmentHost", do: only[*app]("the environment of a unit is not that of its app", "false", "no", "0")},
		{key: "HttpProxy", do: only[*app]("the environment of a unit is not that of its app", "false", "no", "0")},
		{key: "User", do: func(a *app, e Entry) error { a.user = e; return nil }},
		{key: "Group", do: func(a *app, e Entry) error { a.group = e; return nil }},
		{key: "GroupAdd", lists: true, do: (*app).addGroup},
		{key: "WorkingDir", do: flag("working-dir")},
		{key: "HostName", shared: true, do: podFlag("hostname")},
		{key: "UserNS", shared: true, do: func(a *app, e Entry) error { return a.run.setUserNS(e) }},
		{key: "Notify", do: (*app).setNotify},
		{key: "Volume", lists: true, do: (*app).addVolume},
		{key: "Mount", lists: true, do: (*app).addMount},
		{key: "Tmpfs", lists: true, do: (*app).addTmpfs},
		{key: "ReadOnly", do: yes(func(a *app, b bool) error { a.readOnly = b; return nil })},
		{key: "ReadOnlyTmpfs", do: yes(func(a *app, b bool) error { a.noTmpfs = !b; return nil })},
		{key: "ImageVolume", do: only[*app]("volumes of the image are empty volumes", "anonymous", "bind")},
		{key: "ShmSize", do: bytes("shm-size")},
		{key: "Memory", do: bytes("memory")},
		{key: "PidsLimit", do: number("pids", 1)},
		{key: "Ulimit", lists: true, do: flag("ulimit")},
		{key: "Sysctl", lists: true, shared: true, do: func(a *app, e Entry) error { return a.run.eachWord("sysctl", e) }},
		{key: "AddCapability", lists: true, do: func(a *app, e Entry) error { a.addCaps = append(a.addCaps, strings.Fields(e.Value)...); return nil }},
		{key: "DropCapability", lists: true, do: func(a *app, e Entry) error { a.dropCaps = append(a.dropCaps, strings.Fields(e.Value)...); return nil }},
		{key: "NoNewPrivileges", do: yes((*app).setNoNewPrivileges)},
		{key: "SeccompProfile", do: (*app).setSeccomp},
		{key: "SecurityLabelDisable", do: only[*app](noSELinux, "true", "yes", "1")},
		{key: "RunInit", do: yes((*app).setInit)},
		{key: "StopSignal", do: (*app).setStopSignal},
		{key: "StopTimeout", do: (*app).setStopTimeout},
		{key: "Umask", do: flag("umask")},
		{key: "Timezone", do: (*app).setTimezone},
		{key: "Label", lists: true, do: each("label")},
		{key: "Annotation", lists: true, do: each("annotation")},
		{key: "LogDriver", do: (*app).setLogDriver},
		{key: "CgroupsMode", do: only[*app]("the apps' cgroups are below that of the unit", "split")},
		{key: "StartWithPod", do: only[*app]("the apps of a pod start together", "true", "yes", "1")},
		{key: "HealthCmd", do: only[*app](noHealth, "none")},
		{key: "ReloadCmd", do: (*app).setReload},
		{key: "ReloadSignal", do: (*app).setReload},
	}
	rules = append(rules, runRules(func(a *app) *run { return a.run })...)
	return append(rules, refusedContainerKeys()...)
}

// nothing is for keys that are read elsewhere.
func nothing[T any](T, Entry) error { return nil }

// flag passes a value on.
func flag(name string) func(*app, Entry) error {
	return func(a *app, e Entry) error { a.flag(name, e.Value); return nil }
}

// podFlag passes a value on to the pod.
func podFlag(name string) func(*app, Entry) error {
	return func(a *app, e Entry) error { a.run.flag(name, e.Value); return nil }
}

// each passes on NAME=VALUE words.
func each(name string) func(*app, Entry) error {
	return func(a *app, e Entry) error {
		words, err := assignments(e)
		for _, w := range words {
			a.replaceFlag(name, w)
		}
		return err
	}
}

// replaceFlag adds the flag --name=KEY=VALUE; one with the same key gives way.
func (a *app) replaceFlag(name, word string) {
	key, _, _ := strings.Cut(word, "=")
	prefix := "--" + name + "=" + key + "="
	for i, f := range a.flags {
		if strings.HasPrefix(f, prefix) {
			a.flags = append(a.flags[:i], a.flags[i+1:]...)
			break
		}
	}
	a.flag(name, word)
}

// assignments splits a value into words NAME=VALUE.
func assignments(e Entry) ([]string, error) {
	words, err := splitWords(e.Value)
	if err != nil {
		return nil, err
	}
	for _, w := range words {
		if name, _, ok := strings.Cut(w, "="); !ok || name == "" {
			return nil, fmt.Errorf("%q is not NAME=VALUE", w)
		}
	}
	return words, nil
}

// eachWord passes words on as flags of the pod.
func (r *run) eachWord(name string, e Entry) error {
	words, err := splitWords(e.Value)
	for _, w := range words {
		r.flag(name, w)
	}
	return err
}

// number passes on a number that is at least low.
func number(name string, low int64) func(*app, Entry) error {
	return func(a *app, e Entry) error {
		n, err := strconv.ParseInt(e.Value, 10, 64)
		if !hasSpecifier(e.Value) && (err != nil || n < low) {
			return e.fail("%s=%s is not supported: want a number of at least %d", e.Key, e.Value, low)
		}
		a.flag(name, e.Value)
		return nil
	}
}

// bytes passes on a size in podman's units, where 1m is 1 MiB and b a byte.
func bytes(name string) func(*app, Entry) error {
	return func(a *app, e Entry) error {
		size, err := parseSize(e.Value)
		if err != nil {
			return err
		}
		a.flag(name, size)
		return nil
	}
}

// parseSize makes a size for rkt of one for podman.
func parseSize(s string) (string, error) {
	if hasSpecifier(s) {
		return s, nil
	}
	lower := strings.ToLower(s)
	number := strings.TrimRight(lower, "bkmgti")
	unit := strings.TrimSuffix(strings.TrimSuffix(lower[len(number):], "b"), "i")
	if n, err := strconv.ParseUint(number, 10, 63); err != nil || n == 0 || len(unit) > 1 {
		return "", fmt.Errorf("%q is not a size; write 128m or 1g", s)
	}
	return number + strings.ToUpper(unit), nil
}

func (a *app) setName(e Entry) error {
	if strings.HasPrefix(e.Value, "-") || strings.ContainsAny(e.Value, " \t/") {
		return fmt.Errorf("%q is not the name of a pod", e.Value)
	}
	a.name = e.Value
	return nil
}

// setEntrypoint reads a command, or several words as JSON.
func (a *app) setEntrypoint(e Entry) error {
	if !strings.HasPrefix(e.Value, "[") {
		a.exec = []string{e.Value}
		return nil
	}
	a.exec = []string{}
	if err := json.Unmarshal([]byte(e.Value), &a.exec); err != nil {
		return fmt.Errorf("%q is not a JSON list of words", e.Value)
	}
	return nil
}

func (a *app) setExec(e Entry) error {
	words, err := splitWords(e.Value)
	a.args = words
	return err
}

func (a *app) addEnvironmentFile(e Entry) error {
	if strings.HasPrefix(e.Value, "-") {
		return fmt.Errorf("%q: a file that may be missing is not supported", e.Value)
	}
	path, err := absolute(e.Path, e.Value)
	if err != nil {
		return err
	}
	a.run.mountsFor(path)
	a.flag("env-file", path)
	return nil
}

func (a *app) addGroup(e Entry) error {
	if _, err := strconv.ParseUint(e.Value, 10, 32); err != nil {
		return e.fail("GroupAdd=%s is not supported: want the number of a group; SupplementaryGroupsOfImage=yes in [X-Rkt] adds those of the image", e.Value)
	}
	a.flag("supplementary-gids", e.Value)
	return nil
}

func (a *app) setNotify(e Entry) error {
	if e.Value == "healthy" {
		return e.fail("Notify=healthy is not supported: %s", noHealth)
	}
	b, err := parseBool(e.Value)
	a.notify = b
	return err
}

// setNoNewPrivileges: rkt's default is yes, so only the author's no changes
// anything.
func (a *app) setNoNewPrivileges(b bool) error {
	if !b {
		a.flags = append(a.flags, "--allow-privilege-escalation")
	}
	return nil
}

func (a *app) setSeccomp(e Entry) error {
	if e.Value != "unconfined" && e.Value != "default" {
		return e.fail("SeccompProfile=%s is not supported: known are default and unconfined", e.Value)
	}
	a.flag("seccomp", e.Value)
	return nil
}

func (a *app) setInit(b bool) error {
	if b {
		a.flags = append(a.flags, "--init")
	}
	return nil
}

func (a *app) setStopSignal(e Entry) error {
	a.flag("stop-signal", e.Value)
	a.stopSignal = e.Value
	return nil
}

// setStopTimeout makes systemd wait longer than rkt does.
func (a *app) setStopTimeout(e Entry) error {
	n, err := strconv.ParseUint(e.Value, 10, 31)
	if err != nil {
		return fmt.Errorf("%q is not a number of seconds", e.Value)
	}
	a.run.stopping = max(a.run.stopping, time.Duration(n)*time.Second)
	a.flag("stop-timeout", e.Value+"s")
	return nil
}

// setTimezone gives the app the host's description of a time zone.
func (a *app) setTimezone(e Entry) error {
	source := "/etc/localtime"
	if e.Value != "local" {
		if strings.Trim(e.Value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-/") != "" || strings.HasPrefix(e.Value, "/") {
			return fmt.Errorf("%q is not the name of a time zone", e.Value)
		}
		source = "/usr/share/zoneinfo/" + e.Value
	}
	return a.bind(source, "/etc/localtime", true)
}

func (a *app) setLogDriver(e Entry) error {
	switch e.Value {
	case "journald", "passthrough": // the unit's output is the journal's
	case "none":
		a.flag("stdout", "null")
		a.flag("stderr", "null")
	default:
		return e.fail("LogDriver=%s is not supported: known are journald, passthrough and none", e.Value)
	}
	return nil
}

func (a *app) setReload(e Entry) error {
	if a.reload.Key != "" {
		return e.fail("%s= and %s= exclude each other", a.reload.Key, e.Key)
	}
	a.reload = e
	return nil
}
