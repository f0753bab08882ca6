package pod

import (
	"errors"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Walk visits every pod once, in the order of the places and of the UUIDs. The
// Pod is closed when visit returns, so visit must not keep it. What is not a pod
// directory (a foreign file, a symbolic link) is passed to note, which may be
// nil, and skipped; so is a pod that is removed meanwhile. Walk stops at the
// first error of visit and returns it.
func (d *Dir) Walk(note func(path string, err error), visit func(*Pod) error) error {
	return d.walk(note, func(p *Pod) error {
		defer p.Close()
		return visit(p)
	})
}

// WalkParallel is Walk with several visits at the same time, as many as there
// are processors. visit is told the number of the pod in the order of Walk; its
// Pod is closed when it returns.
func (d *Dir) WalkParallel(note func(path string, err error), visit func(i int, p *Pod)) error {
	type turn struct {
		i int
		p *Pod
	}
	turns := make(chan turn, 64) // so that nobody is woken for each
	var visitors sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		visitors.Go(func() {
			for t := range turns {
				visit(t.i, t.p)
				t.p.Close()
			}
		})
	}
	n := 0
	err := d.walk(note, func(p *Pod) error {
		turns <- turn{n, p}
		n++
		return nil
	})
	close(turns)
	visitors.Wait()
	return err
}

// walk is Walk with a visit that closes the Pod.
func (d *Dir) walk(note func(path string, err error), visit func(*Pod) error) error {
	if d.root == nil {
		return nil
	}
	seen := map[UUID]bool{}
	for place := range places {
		// The order of the places is that of the moves: a pod on its way forward
		// is met at least once, and seen removes the second meeting.
		names, err := d.names(place.String())
		if err != nil {
			return err
		}
		for _, name := range names {
			p, err := d.entry(place, name, seen)
			if err != nil && note != nil {
				note(filepath.Join(d.path, place.String(), name), err)
			}
			if p == nil {
				continue
			}
			if err := visit(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// entry opens the pod that is called name at a place. It is nil when there is
// none to visit: with an error that says why, or because it has moved on.
func (d *Dir) entry(place Place, name string, seen map[UUID]bool) (*Pod, error) {
	id, err := ParseUUID(name)
	if err != nil {
		return nil, errors.New("not a pod: the name is not a UUID")
	}
	if seen[id] {
		return nil, nil
	}
	p, err := d.openPod(place, id)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, nil
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return nil, errors.New("not a pod: not a directory")
	case errors.Is(err, unix.EXDEV):
		return nil, errors.New("not a pod: something is mounted on it")
	case err != nil:
		return nil, err
	}
	seen[id] = true
	return p, nil
}
