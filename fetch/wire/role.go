package wire

// Role is what one process of rkt-fetch is there for, and so what it may do. It
// is the first argument of the program; How and the ids follow.
type Role string

// The roles.
const (
	// AskRegistries speaks with registries. It alone has the network and the
	// credentials; it writes documents into the spool folder and layers, as they
	// come, into pipes.
	AskRegistries Role = "registry"
	// ReadImage reads a local image from SourceFD, or file by file as it is given
	// them, and else does the same without a network.
	ReadImage Role = "local"
	// ReadLayer reads one layer and nothing else: what it says about it comes from
	// a process that no other layer has ever spoken to. It has no folder.
	ReadLayer Role = "layer"
	// VerifySignatures reads signatures from SourceFD and nothing else.
	VerifySignatures Role = "verify"
	// UnpackLayer unpacks one tar into the spool folder. It makes files of any
	// owner, so it keeps the capabilities for that, and its uid.
	UnpackLayer Role = "unpack"
)

// How is how a process of rkt-fetch was started.
type How string

// The ways, strongest first.
const (
	HowUser  How = "user"  // in a user namespace of its own, with other namespaces
	HowRoot  How = "root"  // in namespaces, but for the user namespace
	HowPlain How = "plain" // in none
)

// Line is one line of confinement.
type Line uint64

// The lines. They are told by Confined and by `rkt version --verbose`.
const (
	OwnUser     Line = 1 << iota // a uid that nobody else has, no groups
	OwnUserNS                    // a user namespace
	OwnRoot                      // a mount namespace with a root of a few files
	OwnPids                      // a pid namespace
	OwnIPC                       // an ipc namespace
	OwnUTS                       // a uts namespace
	OwnCgroupNS                  // a cgroup namespace
	NoNetwork                    // an empty network namespace
	NoCaps                       // no capabilities, also none to get
	NoNewPrivs                   // no_new_privs
	Filter                       // a system call filter
	Landlock                     // no files but those that it was given
	Limits                       // resource limits
	NoDump                       // its memory can be read by root only, no core
	endOfLines
)

// AllLines are all lines.
const AllLines = endOfLines - 1

// Lines are the lines that a process of the role is to have.
func (r Role) Lines() Line {
	switch r {
	case AskRegistries:
		return AllLines &^ NoNetwork
	case UnpackLayer:
		return AllLines &^ (OwnUser | OwnUserNS | NoCaps)
	}
	return AllLines
}

var lineNames = []string{
	"own user", "user namespace", "own root", "pid namespace", "ipc namespace", "uts namespace", "cgroup namespace",
	"no network", "no capabilities", "no_new_privs", "system call filter", "landlock", "resource limits", "not dumpable",
}

// Names returns the names of the lines in l.
func (l Line) Names() []string {
	var names []string
	for i, name := range lineNames {
		if l>>i&1 == 1 {
			names = append(names, name)
		}
	}
	return names
}
