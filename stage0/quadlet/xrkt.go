package quadlet

import (
	"errors"
	"fmt"
	"strings"
)

// rktRules are the keys of [X-Rkt] in a .container file: what Quadlet has no
// key for.
func rktRules() []rule[*app] {
	return []rule[*app]{
		{key: "CPU", do: flag("cpu")},
		{key: "CPUShares", do: number("cpu-shares", 2)},
		{key: "Restart", do: flag("restart")},
		{key: "SupplementaryGroupsOfImage", do: yes(func(a *app, b bool) error {
			if b {
				a.flags = append(a.flags, "--supplementary-groups-of-image")
			}
			return nil
		})},
		{key: "AppArgs", lists: true, do: func(a *app, e Entry) error {
			words, err := rawFlags(e)
			a.flags = append(a.flags, words...)
			return err
		}},
		{key: "Remove", shared: true, do: yes(func(a *app, b bool) error { a.run.keep = !b; return nil })},
		{key: "Stage1", shared: true, do: podFlag("stage1-name")},
		{key: "InsecureOptions", shared: true, do: func(a *app, e Entry) error {
			a.insecure = []string{"--insecure-options=" + e.Value}
			a.run.global = a.insecure
			return nil
		}},
		{key: "PodArgs", lists: true, shared: true, do: func(a *app, e Entry) error { return a.run.rawFlags(e) }},
	}
}

// rktPodRules are the keys of [X-Rkt] in a .pod file.
func rktPodRules() []rule[*podFile] {
	return []rule[*podFile]{
		{key: "Remove", do: yes(func(p *podFile, b bool) error { p.run.keep = !b; return nil })},
		{key: "Stage1", do: func(p *podFile, e Entry) error { p.run.flag("stage1-name", e.Value); return nil }},
		{key: "PodArgs", lists: true, do: func(p *podFile, e Entry) error { return p.run.rawFlags(e) }},
	}
}

// rawFlags adds flags of the pod as they are.
func (r *run) rawFlags(e Entry) error {
	words, err := rawFlags(e)
	r.flags = append(r.flags, words...)
	return err
}

// rawFlags splits flags that are passed on as they are. None can be taken for an
// image or begin the arguments of one.
func rawFlags(e Entry) ([]string, error) {
	words, err := splitWords(e.Value)
	if err != nil {
		return nil, err
	}
	for _, w := range words {
		name, value, ok := strings.Cut(w, "=")
		switch {
		case !strings.HasPrefix(w, "--") || strings.Trim(name, "-") == "":
			return nil, fmt.Errorf("%q is not of the form --FLAG=VALUE", w)
		case ok && value == "":
			return nil, errors.New(w + " has no value")
		}
	}
	return words, nil
}
