package compile

import (
	"fmt"

	"golang.org/x/sys/unix"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// BindOptions is what a bind mount of config.json asks of the supervisor, which
// opens the source, clones it as a detached mount and sets its attributes.
type BindOptions struct {
	Recursive bool   // clone the mounts below the source, and set them too
	IDMap     bool   // with the id map of the pod
	Attrs     uint64 // MOUNT_ATTR_*
}

// IsBind says whether the mount is a bind mount, whose source the supervisor opens.
func IsBind(m specs.Mount) bool { return m.Type == "bind" || m.Type == "" && m.Source != "" }

// ParseBind reads the options of a bind mount. An option that is not known is
// an error. No bind mount has setuid programs or device nodes.
func ParseBind(m specs.Mount) (BindOptions, error) {
	b := BindOptions{Attrs: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
	for _, o := range m.Options {
		switch o {
		case "bind":
		case "rbind":
			b.Recursive = true
		case "idmap", "ridmap":
			b.IDMap = true
			b.Recursive = b.Recursive || o == "ridmap"
		case "ro", "rro":
			b.Attrs |= unix.MOUNT_ATTR_RDONLY
		case "noexec":
			b.Attrs |= unix.MOUNT_ATTR_NOEXEC
		case "rw", "exec", "nosuid", "nodev", "private", "rprivate":
		default:
			return b, fmt.Errorf("mount %q: option %q of a bind mount is not supported", m.Destination, o)
		}
	}
	return b, nil
}
