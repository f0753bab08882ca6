package pod

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"rkt/stage1/contract"
)

// Contract reads pod.json. The error of a missing one is fs.ErrNotExist, here
// and in the other functions that read a file of the contract.
func (p *Pod) Contract() (*contract.Pod, error) {
	if p.contract != nil {
		return p.contract, nil // written whole, never changed
	}
	b, err := p.Read(contract.PodFile)
	if err != nil {
		return nil, err
	}
	c, err := contract.ParsePod(b)
	if err != nil {
		return nil, err
	}
	if c.UUID != p.id.String() {
		return nil, fmt.Errorf("%s is that of the pod %q", contract.PodFile, clip(c.UUID))
	}
	p.contract = c
	return c, nil
}

// Host reads host.json.
func (p *Pod) Host() (*contract.Host, error) {
	if p.host != nil {
		return p.host, nil
	}
	b, err := p.Read(contract.HostFile)
	if err != nil {
		return nil, err
	}
	h, err := contract.ParseHost(b)
	if err == nil && p.place >= InRun { // before, another attempt may write it again
		p.host = h
	}
	return h, err
}

// App reads the app.json of an app.
func (p *Pod) App(name string) (*contract.App, error) {
	b, err := p.readApp(name, contract.AppFile)
	if err != nil {
		return nil, err
	}
	return contract.ParseApp(b)
}

// Spec reads the config.json of an app.
func (p *Pod) Spec(name string) (*specs.Spec, error) {
	s := &specs.Spec{}
	return s, p.decodeApp(name, contract.SpecFile, s)
}

// Started reads the start record of an app.
func (p *Pod) Started(name string) (*contract.Started, error) {
	s := &contract.Started{}
	return s, p.decodeApp(name, contract.StartedFile, s)
}

// Exit reads the exit record of an app.
func (p *Pod) Exit(name string) (*contract.Exit, error) {
	e := &contract.Exit{}
	return e, p.decodeApp(name, contract.ExitFile, e)
}

// Limits reads the limits of an app.
func (p *Pod) Limits(name string) (*contract.Limits, error) {
	l := &contract.Limits{}
	return l, p.decodeApp(name, contract.LimitsFile, l)
}

// Ready reads the record that all apps have been started.
func (p *Pod) Ready() (*contract.Ready, error) {
	b, err := p.Read(contract.ReadyFile)
	if err != nil {
		return nil, err
	}
	r := &contract.Ready{}
	return r, contract.Decode(b, r)
}

// AppNames returns the names of the apps: those of pod.json in the order of
// their start, then any other folder of an app, sorted. It needs no pod.json.
func (p *Pod) AppNames() ([]string, error) {
	var names []string
	if c, err := p.Contract(); err == nil {
		names = slices.Clone(c.Apps)
	}
	found, err := p.appFolders()
	if err != nil {
		return names, err
	}
	for _, name := range found {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// appFolders returns the names of the folders of apps, sorted.
func (p *Pod) appFolders() ([]string, error) {
	fd, err := openBeneath(p.fd, contract.AppsDir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open apps of pod %s: %w", p.id, err)
	}
	f := os.NewFile(uintptr(fd), contract.AppsDir)
	defer f.Close()
	entries, err := readDir(f)
	if err != nil {
		return nil, fmt.Errorf("list apps of pod %s: %w", p.id, err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

func (p *Pod) decodeApp(app, file string, v any) error {
	b, err := p.readApp(app, file)
	if err != nil {
		return err
	}
	if err := contract.Decode(b, v); err != nil {
		return fmt.Errorf("parse %s of app %q: %w", file, clip(app), err)
	}
	return nil
}

func (p *Pod) readApp(app, file string) ([]byte, error) {
	return p.Read(contract.AppsDir + "/" + app + "/" + file)
}

// Read reads a file of the contract by its path in the pod directory.
func (p *Pod) Read(name string) ([]byte, error) {
	fd, err := openBeneath(p.fd, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: p.id.String() + "/" + name, Err: err}
	}
	defer unix.Close(fd)
	b := make([]byte, 0, 2048)
	for {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, &fs.PathError{Op: "read", Path: p.id.String() + "/" + name, Err: err}
		case n < cap(b)-len(b):
			return b[:len(b)+n], nil // a file is read short at its end only
		}
		b = b[:len(b)+n]
		if len(b) > contract.MaxFile {
			return nil, fmt.Errorf("read %s: larger than %d bytes", name, contract.MaxFile)
		}
		if len(b) == cap(b) {
			b = slices.Grow(b, len(b))
		}
	}
}

// Times are when a pod came and went. A zero time is not known or not yet.
type Times struct {
	Created, Started time.Time
}

// Times reads the times of a pod. c is its contract, nil when there is none.
func (p *Pod) Times(c *contract.Pod) Times {
	var t Times
	if c != nil {
		t.Created = time.Unix(0, c.CreatedNanos)
	} else if st, err := statTime(p.fd); err == nil {
		t.Created = st
	}
	if p.place < InRun {
		return t
	}
	if o, ok := p.Owner(); ok {
		t.Started = time.Unix(0, o.Nanos)
	}
	return t
}

// statTime returns when the open file fd was last modified.
func statTime(fd int) (time.Time, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return time.Unix(st.Mtim.Unix()), err
}

// Ended returns when a pod that is over has ended: the last exit of an app, or,
// when something of it was killed and left no record, the time it was found to
// be over, which is that of its last move.
func (p *Pod) Ended() (time.Time, error) {
	names, err := p.AppNames()
	if err != nil {
		names = nil // a damaged pod has the time of its move
	}
	var last time.Time
	for _, name := range names {
		run, err := p.AppRun(name, Exited)
		if err != nil || run.Started != nil && run.Exit == nil {
			last = time.Time{}
			break
		}
		if run.Exit != nil {
			if t := time.Unix(0, run.Exit.Nanos); t.After(last) {
				last = t
			}
		}
	}
	if !last.IsZero() {
		return last, nil
	}
	var st unix.Stat_t
	if err := unix.Fstat(p.fd, &st); err != nil {
		return last, fmt.Errorf("stat pod %s: %w", p.id, err)
	}
	return time.Unix(st.Ctim.Unix()), nil
}
