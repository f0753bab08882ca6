package stage0

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/internal/safepath"
	"rkt/stage0/cgroup"
	"rkt/stage0/pod"
	"rkt/stage1/contract"
)

// InUseError reports a pod that cannot be removed because it is running or
// being prepared.
type InUseError struct {
	UUID  pod.UUID
	State pod.State
}

func (e *InUseError) Error() string { return fmt.Sprintf("pod %s is %s", e.UUID, e.State) }

// Hint implements the interface of errors that know what to do.
func (e *InUseError) Hint() string {
	if e.State == pod.Running {
		return "rkt stop " + e.UUID.String()
	}
	return ""
}

// Remove removes a pod that is not running or being prepared (*InUseError),
// with everything it holds on this host. What is alive without a supervisor is
// killed first. A nil error means that the pod is not there now; when another
// process is removing it, Remove waits for that.
func Remove(ctx context.Context, env *Env, p *pod.Pod) error {
	for {
		state, err := p.State()
		if errors.Is(err, pod.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		switch state {
		case pod.Running, pod.Preparing:
			return &InUseError{UUID: p.UUID(), State: state}
		case pod.Embryo:
			if gone, err := p.DeleteEmbryo(); gone || err != nil {
				return err
			}
			return &InUseError{UUID: p.UUID(), State: pod.Preparing}
		}
		err = p.LockToCollect()
		switch {
		case errors.Is(err, pod.ErrNotFound):
			return nil
		case err == nil:
			defer p.Unlock()
			return collect(ctx, env, p)
		case !errors.Is(err, pod.ErrLocked):
			return err
		}
		if err := awaitCollector(ctx, p, state); err != nil {
			return err
		}
	}
}

// awaitCollector waits for another one that removes the pod. When the lock is
// that of somebody who is about to run it, the error says so.
func awaitCollector(ctx context.Context, p *pod.Pod, state pod.State) error {
	holder, err := p.Holder()
	if err != nil {
		return err
	}
	if holder == pod.Runner && state == pod.Prepared {
		return &InUseError{UUID: p.UUID(), State: pod.Running}
	}
	return p.AwaitUnlock(ctx)
}

// collect removes a locked pod: it kills what is alive, gives back what the pod
// holds on this host, and deletes its directory. Each step finds what it needs
// in the directory and may be repeated, so that after a kill anywhere the next
// gc goes on.
func collect(ctx context.Context, env *Env, p *pod.Pod) error {
	if err := mustBeDead(ctx, p); err != nil {
		return err
	}
	if err := release(ctx, env, p); err != nil {
		return err
	}
	// Again: the release ran another program, and nothing alive may lose its files.
	alive, err := p.Alive()
	if err != nil {
		return err
	}
	if alive {
		return fmt.Errorf("remove pod %s: something of it is alive", p.UUID())
	}
	return p.Delete()
}

// mustBeDead kills what is alive of a locked pod. A pod that is being run is an
// error: its supervisor owned the lock.
func mustBeDead(ctx context.Context, p *pod.Pod) error {
	alive, err := p.Alive()
	if err != nil || !alive {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, killLimit, &StubbornError{UUID: p.UUID(), Waited: killLimit})
	defer cancel()
	return p.Kill(ctx)
}

// release gives back what a dead pod holds on this host outside of its
// directory. What a damaged contract does not tell is found by the pod's UUID.
func release(ctx context.Context, env *Env, p *pod.Pod) error {
	h, err := p.Host()
	if err != nil {
		env.noteDamage(p, err)
		return releaseUnrecorded(ctx, env, p)
	}
	if err := errors.Join(runGCEntrypoint(ctx, env, p), env.detach(ctx, p)); err != nil {
		return fmt.Errorf("release what pod %s holds: %w", p.UUID(), err)
	}
	return errors.Join(
		cgroup.Remove(h.Cgroup),
		dropClaims(env, p.UUID(), h.Release),
		removeRunDir(env, p.UUID()),
	)
}

// runGCEntrypoint lets the pod's stage1 give back what only it knows of. A
// stage1 that is gone, or that has no such entrypoint, knows of nothing.
func runGCEntrypoint(ctx context.Context, env *Env, p *pod.Pod) error {
	c, err := p.Contract()
	if err != nil {
		env.noteDamage(p, err)
		return nil
	}
	err = entrypoint(ctx, p, c, contract.EntryGC)
	if errors.Is(err, errNoEntrypoint) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// noteDamage tells that a file of the contract of a pod cannot be read. One that
// was not written yet is not damaged.
func (e *Env) noteDamage(p *pod.Pod, err error) {
	if e.Log != nil && !errors.Is(err, fs.ErrNotExist) {
		e.Log.WithField("pod", p.UUID().String()).WithError(err).
			Warn("contract is damaged, releasing what bears the pod's UUID")
	}
}

// releaseUnrecorded gives back what bears the UUID of a pod without host.json:
// it was killed while it took it, or the file is damaged.
func releaseUnrecorded(ctx context.Context, env *Env, p *pod.Pod) error {
	if err := env.detach(ctx, p); err != nil {
		return fmt.Errorf("release what pod %s holds: %w", p.UUID(), err)
	}
	cg, err := cgroup.Find(p.UUID().String())
	if err != nil {
		return err
	}
	dir := filepath.Join(env.RunDir, idsDir)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for claims of pod %s: %w", p.UUID(), err)
	}
	var claims []string
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if own, err := isClaim(p.UUID(), path); err == nil && own {
			claims = append(claims, path)
		}
	}
	return errors.Join(
		cgroup.Remove(cg),
		dropClaims(env, p.UUID(), claims),
		removeRunDir(env, p.UUID()),
	)
}

// dropClaims removes the files and empty folders that a pod lists as its
// claims. What has become another pod's since stays; anything outside of the
// folders that claims are in is refused.
func dropClaims(env *Env, id pod.UUID, paths []string) error {
	var errs []error
	for _, path := range paths {
		if !within(env.RunDir, path) && !within(env.Pods.Path(), path) {
			errs = append(errs, fmt.Errorf("release %q: outside of the folders of rkt", path))
			continue
		}
		own, err := isClaim(id, path)
		if err == nil && own {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("release %q: %w", path, err))
		}
	}
	return errors.Join(errs...)
}

// isClaim reports whether a file is a claim of the pod: its name ends in the
// UUID, or its first line is the UUID.
func isClaim(id pod.UUID, path string) (bool, error) {
	uuid := id.String()
	if strings.HasSuffix(filepath.Base(path), uuid) {
		return true, nil
	}
	f, err := os.OpenFile(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	b := make([]byte, len(uuid)+1)
	n, err := io.ReadFull(f, b)
	if err != nil && n < len(uuid) {
		return false, nil
	}
	return strings.TrimSuffix(string(b[:n]), "\n") == uuid, nil
}

// within reports whether path is a clean path below dir.
func within(dir, path string) bool {
	return dir != "" && filepath.Clean(path) == path && strings.HasPrefix(path, filepath.Clean(dir)+"/")
}

// removeRunDir removes the folder of a pod below the run directory.
func removeRunDir(env *Env, id pod.UUID) error {
	parent, err := os.Open(filepath.Join(env.RunDir, podsRunDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	return safepath.RemoveAll(parent, id.String())
}
