package stage0

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rkt/cas"
	"rkt/internal/sealed"
	"rkt/stage0/plan"
	"rkt/stage0/pod"
	"rkt/stage1/contract"
)

// requestFD is where an enter entrypoint reads its request.
const requestFD = 3

// EnterOptions are what is to run in a pod.
type EnterOptions struct {
	App        string // "" = the only one
	Args       []string
	User       string // "" = the app's
	WorkingDir string // "" = the app's
	// Environment is added to the app's: NAME=VALUE.
	Environment []string
	// Terminal gives the process a terminal of its own; Term is the kind of the caller's.
	Terminal bool
	Term     string
}

// Enter runs a command in an app of a running pod, confined exactly as the app
// is. It becomes the stage1's enter entrypoint and returns only on error.
func Enter(ctx context.Context, env *Env, p *pod.Pod, o EnterOptions) error {
	state, err := p.State()
	if err != nil {
		return err
	}
	if state != pod.Running {
		return fmt.Errorf("pod %s is %s, not running", p.UUID(), state)
	}
	sandbox, err := p.Contract()
	if err != nil {
		return err
	}
	name, err := chooseApp(sandbox, o.App)
	if err != nil {
		return err
	}
	s1, err := stage1Of(p, sandbox)
	if err != nil {
		return err
	}
	defer s1.Close()
	command, err := s1.command(contract.EntryEnter, append([]string{name, "--"}, o.Args...)...)
	if err != nil {
		return err
	}
	request, err := enterRequest(ctx, env, p, sandbox, name, o)
	if err != nil {
		return fmt.Errorf("enter app %q: %w", name, err)
	}
	request.Version = s1.manifest.Contract // it may be older than this program
	return becomeEnter(p, s1.executable(contract.EntryEnter, command), command, request)
}

// AmbiguousAppError reports a pod of several apps none of which was chosen.
type AmbiguousAppError struct{ Apps []string }

func (e *AmbiguousAppError) Error() string {
	return fmt.Sprintf("the pod has %d apps: %s", len(e.Apps), strings.Join(e.Apps, ", "))
}

// Hint says what to do about it.
func (e *AmbiguousAppError) Hint() string { return "choose one with --app=" + e.Apps[0] }

func chooseApp(p *contract.Pod, name string) (string, error) {
	switch {
	case name == "" && len(p.Apps) == 1:
		return p.Apps[0], nil
	case name == "":
		return "", &AmbiguousAppError{Apps: p.Apps}
	case !slices.Contains(p.Apps, name):
		return "", fmt.Errorf("pod %s has no app %q, it has %s", p.UUID, name, strings.Join(p.Apps, ", "))
	}
	return name, nil
}

// enterRequest is what the entrypoint is to run: the app's own identity, place
// and environment where the caller names no other.
func enterRequest(ctx context.Context, env *Env, p *pod.Pod, sandbox *contract.Pod, name string, o EnterOptions) (*contract.EnterRequest, error) {
	if len(o.Args) == 0 || o.Args[0] == "" {
		return nil, plan.ErrNoCommand
	}
	spec, err := p.Spec(name)
	if err != nil {
		return nil, err
	}
	if spec.Process == nil {
		return nil, fmt.Errorf("%s has no process", contract.SpecFile)
	}
	app := spec.Process
	r := &contract.EnterRequest{
		Version: contract.Version, App: name, Args: o.Args, Terminal: o.Terminal,
		Cwd: app.Cwd, UID: app.User.UID, GID: app.User.GID, Groups: app.User.AdditionalGids,
	}
	vars := slices.Clone(app.Env)
	if o.User != "" {
		who, err := resolveIn(ctx, env, p, sandbox, name, o.User)
		if err != nil {
			return nil, err
		}
		r.UID, r.GID, r.Groups = who.UID, who.GID, nil
		if who.Home != "" {
			vars = append(vars, "HOME="+who.Home)
		}
	}
	if o.WorkingDir != "" {
		if r.Cwd, err = plan.CheckDir(o.WorkingDir); err != nil {
			return nil, err
		}
	}
	if o.Terminal && o.Term != "" {
		vars = append(vars, "TERM="+o.Term)
	}
	if r.Env, err = plan.MergeEnvironment(append(vars, o.Environment...)); err != nil {
		return nil, err
	}
	r.Candidates, err = plan.Candidates(o.Args[0], r.Env)
	return r, err
}

// resolveIn resolves a user with the accounts of the image, as at the start.
func resolveIn(ctx context.Context, env *Env, p *pod.Pod, sandbox *contract.Pod, name, user string) (plan.Who, error) {
	app, err := p.App(name)
	if err != nil {
		return plan.Who{}, err
	}
	var diffIDs []cas.Digest // bottom first
	for _, hex := range slices.Backward(app.Layers) {
		d, err := cas.FromHex(hex)
		if err != nil {
			return plan.Who{}, err
		}
		diffIDs = append(diffIDs, d)
	}
	accounts, err := env.Layers.Accounts(ctx, diffIDs)
	if err != nil {
		return plan.Who{}, fmt.Errorf("read the accounts of the image: %w", err)
	}
	return plan.Resolve(user, "", accounts, plan.MaxID(sandbox.User == contract.Private))
}

// becomeEnter replaces this process by the entrypoint. The request goes through
// memory, so that the environment in it is in no file and in no argument.
func becomeEnter(p *pod.Pod, program string, command []string, request *contract.EnterRequest) error {
	b, err := contract.Encode(request)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	fd, err := unix.MemfdCreate("rkt-enter", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	f := os.NewFile(uintptr(fd), "rkt-enter")
	if _, err := f.Write(b); err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	if err := unix.Fchdir(int(p.Folder().Fd())); err != nil {
		return fmt.Errorf("change to the pod's directory: %w", err)
	}
	if err := unix.CloseRange(requestFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("mark files close-on-exec: %w", err)
	}
	if fd == requestFD {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
	} else {
		err = unix.Dup3(fd, requestFD, 0)
	}
	if err != nil {
		return fmt.Errorf("pass request: %w", err)
	}
	if err := sealed.Exec(program, command, stage1Environment()); err != nil {
		return fmt.Errorf("execute stage1: %w", err)
	}
	return nil
}
