package quadlet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// pod makes the one unit of a .pod file and the containers that name it: `rkt
// run` of all of them. The names that these would have as units of their own
// become further names of that unit.
func (c *compiler) pod(s *source) error {
	r := c.newRun(s)
	if len(s.members) == 0 {
		return fmt.Errorf("no .container file has Pod=%s, and a pod needs an app", s.Name)
	}
	p := &podFile{run: r}
	errs := []error{apply(p, s.File, "Pod", podRules()), apply(p, s.File, rktSection, rktPodRules())}
	order, err := startOrder(s.members)
	errs = append(errs, err)
	for _, m := range order {
		errs = append(errs, r.member(m, p.volumes))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	r.name = p.name
	return r.finishRun()
}

// podFile is a .pod file that is being read.
type podFile struct {
	run     *run
	name    string
	volumes []Entry
}

// member adds the app of a .container file.
func (r *run) member(m *source, volumes []Entry) error {
	if m.failed {
		return fmt.Errorf("its app %s was refused", m.Path)
	}
	var errs []error
	for _, rule := range containerRules() {
		if e, ok := m.File.value("Container", rule.key); ok && rule.shared {
			errs = append(errs, e.fail("%s= of an app of a pod: apps share it; put it into %s", e.Key, r.src.Name))
		}
	}
	if e, ok := m.File.value(quadletSection, "DefaultDependencies"); ok {
		errs = append(errs, e.fail("DefaultDependencies= of an app of a pod: put it into %s", r.src.Name))
	}
	a, err := r.readContainer(m)
	errs = append(errs, err)
	if a.name == "" {
		a.name = strings.TrimSuffix(m.Name, "."+kindContainer)
	}
	a.name = strings.ToLower(cleanName(a.name))
	a.flags = slices.Insert(a.flags, 0, "--name="+a.name)
	if a.notify {
		e, _ := m.File.value("Container", "Notify")
		if r.notify != "" {
			errs = append(errs, e.fail("Notify= of two apps of a pod: one of them says when the pod is ready"))
		}
		r.notify = "app:" + a.name
	}
	for _, e := range volumes {
		errs = append(errs, located(e, a.addVolume(e)))
	}
	errs = append(errs, a.memberService(m))
	r.nickname(m, m.service+".service")
	return errors.Join(errs...)
}

// memberService takes what [Service] of an app can say: how it is restarted,
// which rkt does. The rest is about the unit, which is the pod's.
func (a *app) memberService(m *source) error {
	var errs []error
	for _, e := range m.File.section("Service") {
		if e.Key != "Restart" {
			errs = append(errs, e.fail("[Service] %s= of an app of a pod: the unit is that of the pod; put it into %s", e.Key, a.run.src.Name))
		}
	}
	e, ok := m.File.value("Service", "Restart")
	if !ok {
		return errors.Join(errs...)
	}
	switch e.Value {
	case "no", "always", "on-failure":
		a.flag("restart", e.Value)
	default:
		errs = append(errs, e.fail("Restart=%s of an app of a pod is not supported: known are no, on-failure and always", e.Value))
	}
	return errors.Join(errs...)
}

// startOrder sorts the apps of a pod by what [Unit] says of one and another.
func startOrder(members []*source) ([]*source, error) {
	before := make(map[*source][]*source) // what must have been started
	for _, m := range members {
		for _, e := range m.File.section("Unit") {
			for _, word := range strings.Fields(e.Value) {
				at := slices.IndexFunc(members, func(o *source) bool { return o.Name == word })
				switch {
				case at < 0:
				case e.Key == "After":
					before[m] = append(before[m], members[at])
				case e.Key == "Before":
					before[members[at]] = append(before[members[at]], m)
				}
			}
		}
	}
	var order []*source
	left := slices.Clone(members)
	for len(left) > 0 {
		next := slices.IndexFunc(left, func(m *source) bool {
			return !slices.ContainsFunc(before[m], func(o *source) bool { return slices.Contains(left, o) })
		})
		if next < 0 {
			return members, fmt.Errorf("the apps of the pod wait for each other: %s and others", left[0].Name)
		}
		order = append(order, left[next])
		left = slices.Delete(left, next, next+1)
	}
	return order, nil
}

// podRules are the keys of [Pod].
func podRules() []rule[*podFile] {
	rules := []rule[*podFile]{
		{key: "PodName", do: func(p *podFile, e Entry) error {
			a := app{}
			err := a.setName(e)
			p.name = a.name
			return err
		}},
		{key: "ServiceName", do: nothing[*podFile]},
		{key: "ExitPolicy", do: only[*podFile]("a pod is over when its apps are", "stop")},
		{key: "HostName", do: func(p *podFile, e Entry) error { p.run.flag("hostname", e.Value); return nil }},
		{key: "Label", lists: true, do: eachOfPod("label")},
		{key: "UserNS", do: func(p *podFile, e Entry) error { return p.run.setUserNS(e) }},
		{key: "Volume", lists: true, do: func(p *podFile, e Entry) error { p.volumes = append(p.volumes, e); return nil }},
	}
	rules = append(rules, runRules(func(p *podFile) *run { return p.run })...)
	rules = append(rules, refused[*podFile](ownRange, "UIDMap", "GIDMap", "SubUIDMap", "SubGIDMap")...)
	rules = append(rules, refused[*podFile]("each app has a /dev/shm of its own; put it into the .container files", "ShmSize")...)
	rules = append(rules, refused[*podFile]("each app has its own; put it into the .container files", "StopTimeout")...)
	rules = append(rules, refused[*podFile](noModules, "ContainersConfModule")...)
	return append(rules, refused[*podFile](noArguments, "PodmanArgs", "GlobalArgs")...)
}

// eachOfPod passes on NAME=VALUE words.
func eachOfPod(name string) func(*podFile, Entry) error {
	return func(p *podFile, e Entry) error {
		words, err := assignments(e)
		for _, w := range words {
			p.run.flag(name, w)
		}
		return err
	}
}
