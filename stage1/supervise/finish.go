package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rkt/internal/safepath"
	"rkt/stage1/contract"
)

// killDeadline bounds how long the end of a pod waits for processes to die. One
// that does not is in an uninterruptible wait of the kernel.
const killDeadline = 10 * time.Second

// clear gives back what the host lent to the pod, whose apps are over: it kills
// what is left of them, removes their cgroups and the run folder and drops the
// claims. It is idempotent; what could not be done is in the error, and nothing
// is given back while a process of the pod is alive.
func clear(pod *contract.Pod, host *contract.Host) error {
	cg := cgroups{host.Cgroup}
	// An own pid namespace ends with its pid 1: mostly the cgroups are empty.
	if err := cg.remove(); err != nil {
		if err := cg.kill(time.Now().Add(killDeadline)); err != nil {
			return err
		}
		if err := cg.remove(); err != nil {
			return err
		}
	}
	return errors.Join(removeRunDir(host.RunDir), release(pod.UUID, host.Release))
}

// removeRunDir removes the pod's folder under the run directory.
func removeRunDir(dir string) error {
	if dir == "" {
		return nil
	}
	parent, err := os.Open(filepath.Dir(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove run folder: %w", err)
	}
	defer parent.Close()
	if err := safepath.RemoveAll(parent, filepath.Base(dir)); err != nil {
		return fmt.Errorf("remove run folder %s: %w", dir, err)
	}
	return nil
}

// release drops the claims of the pod: files and empty folders whose name ends
// in its UUID, symbolic links to a name that does, and files that hold it. A
// claim that by now is another pod's stays, so that a second clean-up cannot
// take it away.
func release(uuid string, claims []string) error {
	var errs []error
	for _, path := range claims {
		own, err := isOwn(uuid, path)
		if err == nil && own {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("release %s: %w", path, err))
		}
	}
	return errors.Join(errs...)
}

func isOwn(uuid, path string) (bool, error) {
	if strings.HasSuffix(filepath.Base(path), uuid) {
		return true, nil
	}
	st, err := os.Lstat(path)
	switch {
	case err != nil:
		return false, err
	case st.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(path)
		return strings.HasSuffix(target, uuid), err
	case st.Mode().IsRegular():
		b, err := readFile(path)
		holder, _, _ := strings.Cut(string(b), "\n")
		return holder == uuid, err
	}
	return false, nil
}

// removePod removes the pod directory, the working directory: it is renamed
// into the garbage first, so that a crash leaves something that gc recognises.
func removePod(uuid string) error {
	states, err := os.Open("../..")
	if err != nil {
		return fmt.Errorf("remove pod directory: %w", err)
	}
	defer states.Close()
	garbage, err := os.Open(filepath.Join("../..", contract.GarbageDir))
	if err != nil {
		return fmt.Errorf("remove pod directory: %w", err)
	}
	defer garbage.Close()

	if err := unix.Renameat(int(states.Fd()), "run/"+uuid, int(garbage.Fd()), uuid); err != nil {
		return fmt.Errorf("rename pod directory to garbage: %w", err)
	}
	if err := safepath.RemoveAll(garbage, uuid); err != nil {
		return fmt.Errorf("remove pod directory: %w", err)
	}
	return nil
}
