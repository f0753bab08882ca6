package image

import (
	"rkt/cas"
)

// Transport is where the bytes of an image come from.
type Transport string

// The transports.
const (
	Registry      Transport = "docker"         // docker://HOST/REPOSITORY or bare
	Layout        Transport = "oci"            // oci:DIR[:TAG]
	OCIArchive    Transport = "oci-archive"    // oci-archive:FILE[:TAG]
	DockerArchive Transport = "docker-archive" // docker-archive:FILE[:TAG]
	Path          Transport = "path"           // a path: an archive, or the folder of a layout
	Stdin         Transport = "stdin"          // "-": an archive
)

// Ref is a parsed reference. Only ParseRef makes one.
type Ref struct {
	Transport Transport
	// Host ("docker.io", "localhost:5000") and Repository are for Registry.
	Host       string
	Repository string
	// Tag is set for Registry unless there is a Digest; with both, Digest wins.
	Tag    string
	Digest cas.Digest
	// Path is absolute, for the local transports but Stdin.
	Path string
}

// ParseRef parses what a user calls an image. Text that begins with "/", "./"
// or "../" is a path; names without a host are docker.io's. Relative paths are
// taken from the working directory.
func ParseRef(s string) (Ref, error) { return Ref{}, nil }

// String returns the canonical text, which names records: host/repository:tag
// or @digest for a registry, transport:path:tag for local ones.
func (r Ref) String() string { return "" }

// Name returns "host/repository", by which trust rules are found; "" if local.
func (r Ref) Name() string { return "" }

// IsLocal reports whether the image comes from this machine.
func (r Ref) IsLocal() bool { return r.Transport != Registry }
