package pod

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// SupervisorProgram opens the program that the supervisor of the pod runs, for
// executing it again (O_PATH): it is there as long as the supervisor lives,
// whatever has become of the file. nil without an error when there is no
// supervisor, or none that is known. The caller closes it.
func (p *Pod) SupervisorProgram() (*os.File, error) {
	o, ok := p.Owner()
	if !ok || o.BootID != p.dir.boot {
		return nil, nil
	}
	q, alive, err := openProcess(o.PID, o.StartTicks)
	if err != nil || !alive {
		return nil, err
	}
	defer q.close()
	path := "/proc/" + strconv.Itoa(o.PID) + "/exe"
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if q.exited() {
		// The number may be another's by now.
		if err == nil {
			unix.Close(fd)
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open the supervisor's program: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	return os.NewFile(uintptr(fd), path), nil
}
