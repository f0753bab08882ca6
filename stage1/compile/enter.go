package compile

import (
	"fmt"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"rkt/stage1/contract"
	"rkt/stage1/program"
)

// EnterResources are what the enter entrypoint has opened.
type EnterResources struct {
	Common
	// Process is a pidfd of the app's first process.
	Process int
}

// Enter is the program that joins a running app, for a child in a cgroup of the
// app's. The new process gets exactly the app's confinement, but for the user,
// the environment, the working directory and the command of the request. The
// parent does the same as for Start.
func Enter(req *contract.EnterRequest, spec *specs.Spec, pod *contract.Pod, res *EnterResources) (*program.Program, error) {
	if err := checkSupported(spec); err != nil {
		return nil, err
	}
	if err := checkStrings(req.Args, req.Env, req.Candidates, []string{req.Cwd}); err != nil {
		return nil, err
	}
	p := &program.Program{}
	hide(p)
	setOOMScore(p, spec.Process)

	// One call joins all or none of them: an app that ends meanwhile leaves no
	// process half in and half out. A namespace that is the caller's own already
	// may be joined again, but for the user namespace.
	flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC |
		unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP)
	if pod.User == contract.Private {
		flags |= unix.CLONE_NEWUSER
	}
	p.Setns(p.FD(res.Process, "app"), flags).Because("join the namespaces of the app")
	p.Fork(unix.CLONE_PARENT | uintptr(unix.SIGCHLD)).Because("go on in the pid namespace")
	moveIntoCgroups(p, res.Tasks)
	if pod.User == contract.Private {
		becomeRoot(p)
	}
	err := confine(p, confinement{
		process: spec.Process,
		user:    specs.User{UID: req.UID, GID: req.GID, AdditionalGids: req.Groups, Umask: spec.Process.User.Umask},
		args:    req.Args,
		env:     req.Env,
		cwd:     req.Cwd,
		command: req.Candidates,
		common:  &res.Common,
	})
	if err != nil {
		return nil, fmt.Errorf("enter app: %w", err)
	}
	return p, nil
}
