// Package compile turns the contract into programs: how a sandbox is made, how
// an app is started in it, how a further process joins an app. It is pure: it
// gets the files of the contract and the numbers of open file descriptors, and
// returns lists of system calls. The order of confinement lives here.
//
// Begin with Start, whose body is the order of a start.
package compile

import (
	"golang.org/x/sys/unix"
)

// Where the programs wait for their parent (program.Child.Until), in this order.
const (
	// WaitMaps: a sandbox with a user namespace has been cloned. The parent writes
	// uid_map and gid_map of the child.
	WaitMaps = "id maps"
	// WaitPinned: the sandbox is ready. The parent opens the child's namespaces.
	WaitPinned = "namespaces to be opened"
	// WaitExec: the process is confined and about to execute the app. The parent
	// reads back what it wants to be sure of, and takes the terminal.
	WaitExec = "go"
)

// Labels of events.
const (
	// ReportTerminal: the value is the number of the pty's master in the child,
	// to be taken with pidfd_getfd at WaitExec.
	ReportTerminal = "terminal"
	// ReportKeyring: an errno says that the process shares its session keyring
	// with its parent, as the kernel has no keyrings or forbids new ones.
	ReportKeyring = "keyring"
	// reportExec and reportExists are read by ExecFailure.
	reportExec   = "exec"
	reportExists = "exists"
)

// None stands for a file descriptor that there is none of.
const None = -1

// Namespaces are open namespaces to join, None where the caller's own is used.
type Namespaces struct {
	User, Net, IPC, UTS, PID int
}

// Bind is the source of one bind mount, opened by the host's root.
type Bind struct {
	FD  int  // a detached mount with its attributes and id map set
	Dir bool // it is a directory, and so its mount point must be
}

// Tasks is the file "tasks" of a v1 cgroup, open for writing: the kernel asks who
// opened it, not who writes.
type Tasks struct {
	FD   int
	Name string // the folder of the hierarchy
}

// Common is what a start and an enter are given alike.
type Common struct {
	// Stdio are the file descriptors for 0, 1 and 2; not used with a terminal.
	Stdio [3]int
	// Files become 3, 4 and so on of the app: sockets that were passed for it.
	Files []int
	// PIDVariables are names of environment variables whose value is the number
	// that the app has in its pid namespace.
	PIDVariables []string
	// Terminal makes a pty in the app's devpts the controlling terminal.
	Terminal bool
	// Tasks are the v1 cgroups to move into.
	Tasks []Tasks
	// Seccomp is struct sock_filter[]; empty = no filter.
	Seccomp []byte
	// KeepCapabilities lets a process whose config.json has no capabilities at all
	// keep those of the supervisor; else it has none.
	KeepCapabilities bool
	// Rlimits are the limits of the supervisor, by resource number, as read by
	// Rlimits: an app's hard limits never exceed them.
	Rlimits [rlimits]unix.Rlimit
}

// Resources are what the supervisor has opened for the start of an app.
type Resources struct {
	Common
	Namespaces Namespaces
	// Layers are detached mounts of the layers, with the pod's id map, topmost first.
	Layers []int
	// Upper is a detached mount of the folder that holds contract.UpperDir and
	// contract.WorkDir, with the pod's id map.
	Upper int
	// Binds are the sources of the bind mounts, by index into Spec.Mounts.
	Binds map[int]Bind
}
