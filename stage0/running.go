package stage0

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"rkt/stage0/pod"
	"rkt/stage1/contract"
)

// A pod keeps the stage1 that it was started with, and an upgrade puts another
// one into the same folder. Nothing is copied for that: the kernel keeps the
// program of a supervisor as long as the supervisor lives, and whoever needs it
// executes it from there (docs/decisions/0007). host.json says which file it was
// and how its entrypoints are called.

// describeProgram is what host.json says about the stage1 that is about to run.
func describeProgram(s *stage1, path string) (*contract.Program, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return nil, fmt.Errorf("look at stage1: %w", &os.PathError{Op: "stat", Path: path, Err: err})
	}
	return &contract.Program{Device: uint64(st.Dev), Inode: st.Ino, Entrypoints: s.manifest.Entrypoints}, nil
}

// stage1Of returns the stage1 of a pod: the one that runs it, while it runs,
// else the one that its folder holds now. The caller closes it.
func stage1Of(p *pod.Pod, c *contract.Pod) (*stage1, error) {
	if s, err := runningStage1(p, c); s != nil || err != nil {
		return s, err
	}
	return openStage1(c.Stage1)
}

// runningStage1 returns the stage1 that runs the pod, or nil when nothing runs
// it or when its program is not to be had in this way: the supervisor is still
// rkt, or an interpreter that runs a script.
func runningStage1(p *pod.Pod, c *contract.Pod) (*stage1, error) {
	h, err := p.Host()
	if err != nil || h.Program == nil {
		return nil, nil // not there, or damaged: what is installed may do
	}
	program, err := p.SupervisorProgram()
	if program == nil || err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(program.Fd()), &st); err != nil || uint64(st.Dev) != h.Program.Device || st.Ino != h.Program.Inode {
		program.Close()
		return nil, nil
	}
	m := &contract.Manifest{Name: c.Stage1.Name, Contract: h.Version, Entrypoints: h.Program.Entrypoints}
	return &stage1{Stage1: c.Stage1, manifest: m, running: program}, nil
}

// executable is what to execute for a command of that entrypoint: the file
// itself or, of a stage1 that runs a pod, the program of the supervisor.
func (s *stage1) executable(entry string, command []string) string {
	entrypoints := s.manifest.Entrypoints
	if s.running == nil || entrypoints[entry][0] != entrypoints[contract.EntryRun][0] {
		return command[0]
	}
	return "/proc/self/fd/" + strconv.Itoa(int(s.running.Fd()))
}

// Close lets go of the program of a supervisor.
func (s *stage1) Close() error {
	if s.running == nil {
		return nil
	}
	return s.running.Close()
}
