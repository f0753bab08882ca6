package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"rkt/stage0"
	"rkt/stage0/pod"
)

// listOptions are the flags of "rkt list".
type listOptions struct{ tableOptions }

func newListCommand(env *environment) *cobra.Command {
	var o listOptions
	c := &cobra.Command{
		Use:        "list",
		Short:      "List the pods and their apps",
		SuggestFor: []string{"ps"},
		Long: `List the pods and their apps, one app a line, in the order of the pods' lives.

STATE is that of the pod: embryo, preparing, aborted, prepared, running,
orphaned (its supervisor was killed, its apps are alive), exited, exited-garbage
(marked by gc), garbage, deleting. EXIT is the exit code of an app that has ended.`,
		Example: `  rkt list
  rkt list --full --no-legend
  rkt list --format=json | jq -r '.[] | select(.state=="running").uuid'`,
		Args: exactArgs(0, "no arguments"),
		RunE: func(*cobra.Command, []string) error { return list(env, o) },
	}
	o.flags(c.Flags())
	return c
}

func list(env *environment, o listOptions) error {
	if err := o.check("rkt list --help"); err != nil {
		return err
	}
	if err := requireRoot("list"); err != nil {
		return err
	}
	pods, err := env.pods()
	if err != nil {
		return err
	}
	statuses, listErr := listPods(pods, func(path string, err error) {
		env.log.WithField("path", path).WithError(err).Debug("skip foreign entry among the pods")
	})
	header := []string{"UUID", "NAME", "APP", "IMAGE", "STATE", "EXIT", "CREATED", "STARTED"}
	if o.full {
		header = append(header, "UNIT", "ADDRESSES")
	}
	var cells [][]string
	now := time.Now()
	for _, s := range statuses {
		cells = append(cells, listCells(s, o.full, now)...)
	}
	if err := o.write(env.stdout, statuses, header, cells); err != nil {
		return err
	}
	return listErr
}

// listPods returns the status of all pods. What cannot be read of one is in its
// status and in the error, and hides no other.
func listPods(pods *pod.Dir, note func(string, error)) ([]*stage0.Status, error) {
	type result struct {
		i      int
		status *stage0.Status
		err    error
	}
	var mu sync.Mutex
	var results []result
	walkErr := pods.WalkParallel(note, func(i int, p *pod.Pod) {
		s, err := stage0.StatusOf(p)
		if errors.Is(err, pod.ErrNotFound) {
			return // removed meanwhile
		}
		mu.Lock()
		defer mu.Unlock()
		results = append(results, result{i, s, err})
	})
	slices.SortFunc(results, func(a, b result) int { return a.i - b.i })

	statuses := []*stage0.Status{}
	errs := []error{walkErr}
	for _, r := range results {
		errs = append(errs, r.err)
		if r.status == nil {
			continue
		}
		statuses = append(statuses, r.status)
		for _, problem := range r.status.Problems {
			errs = append(errs, fmt.Errorf("pod %s: %s", r.status.UUID, problem))
		}
	}
	return statuses, errors.Join(errs...)
}

// listCells are the lines of a pod: one per app, or one without.
func listCells(s *stage0.Status, full bool, now time.Time) [][]string {
	id, created, started := s.UUID.Short(), age(s.Created, now), age(s.Started, now)
	if full {
		id, created, started = s.UUID.String(), exactTime(s.Created), exactTime(s.Started)
	}
	name := orDash(s.Name)
	last := []string{created, started}
	if full {
		last = append(last, orDash(s.Unit), orDash(addresses(s)))
	}
	if len(s.Apps) == 0 {
		return [][]string{append([]string{id, name, "-", "-", string(s.State), "-"}, last...)}
	}
	var lines [][]string
	for _, a := range s.Apps {
		img := orDash(a.Image)
		if full && a.ImageID != "" {
			img += "@" + a.ImageID
		}
		lines = append(lines, append([]string{id, name, a.Name, img, string(s.State), exitText(a)}, last...))
	}
	return lines
}

// exitText is the exit code of an app that has ended and left one.
func exitText(a stage0.AppStatus) string {
	if a.ExitCode == nil {
		return "-"
	}
	return strconv.Itoa(*a.ExitCode)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
