package image

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"rkt/cas"
	"rkt/image/name"
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

// ErrReference reports a text that is no reference.
var ErrReference = errors.New("malformed image reference")

const (
	registryPrefix = "docker://"
	stdinText      = "-"
	maxReference   = 8 << 10 // bytes; a path may have 4096, a name far fewer
	maxLocalTag    = 256     // bytes of the tag in a layout or an archive

	knownTransports = "docker://, oci:, oci-archive: and docker-archive:"
)

// foreign are transports of other programs, which would else be repositories of
// docker.io with a tag.
var foreign = []string{"dir", "docker-daemon", "containers-storage", "ostree", "sif", "tarball"}

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
// taken from the working directory. The error is ErrReference.
func ParseRef(s string) (Ref, error) {
	ref, err := parseRef(s)
	if err != nil {
		return Ref{}, fmt.Errorf("%w %.300q: %w", ErrReference, s, err)
	}
	return ref, nil
}

func parseRef(s string) (Ref, error) {
	if len(s) > maxReference {
		return Ref{}, fmt.Errorf("longer than %d bytes", maxReference)
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return Ref{}, errors.New("it has control characters")
		}
	}
	if s == stdinText {
		return Ref{Transport: Stdin}, nil
	}
	if s == "." || s == ".." || strings.HasPrefix(s, "/") || strings.HasPrefix(s, "./") || strings.HasPrefix(s, "../") {
		path, err := filepath.Abs(s)
		return Ref{Transport: Path, Path: path}, err
	}
	if rest, ok := strings.CutPrefix(s, registryPrefix); ok {
		return parseRegistry(rest)
	}
	if scheme, rest, ok := strings.Cut(s, ":"); ok {
		switch t := Transport(scheme); t {
		case Layout, OCIArchive, DockerArchive:
			return parseLocal(t, rest)
		}
		if slices.Contains(foreign, scheme) {
			return Ref{}, fmt.Errorf("the transport %q is not supported, known are %s; a repository of that name is docker://%s", scheme+":", knownTransports, s)
		}
		if strings.HasPrefix(rest, "//") {
			return Ref{}, fmt.Errorf("unknown transport %q, known are %s", scheme, knownTransports)
		}
	}
	return parseRegistry(s)
}

// parseLocal parses PATH[:TAG][@DIGEST].
func parseLocal(t Transport, s string) (Ref, error) {
	ref := Ref{Transport: t}
	if at := strings.LastIndex(s, "@sha256:"); at >= 0 {
		d, err := cas.ParseDigest(s[at+1:])
		if err != nil {
			return Ref{}, err
		}
		ref.Digest, s = d, s[:at]
	}
	path, tag, tagged := strings.Cut(s, ":")
	switch {
	case path == "":
		return Ref{}, fmt.Errorf("no path after %q", string(t)+":")
	case tagged && !validLocalTag(tag):
		return Ref{}, fmt.Errorf("%.300q is not a tag (a path with a colon can be given as a path, from / or ./ on)", tag)
	}
	ref.Tag = tag
	var err error
	ref.Path, err = filepath.Abs(path)
	return ref, err
}

// validLocalTag: layouts and archives name images by tags or by whole names.
func validLocalTag(tag string) bool {
	const rest = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	return tag != "" && len(tag) <= maxLocalTag && strings.Trim(tag, rest+"._-/:+") == "" && strings.Trim(tag[:1], rest+"_") == ""
}

// parseRegistry parses [HOST/]REPOSITORY[:TAG][@DIGEST].
func parseRegistry(s string) (Ref, error) {
	// The host is not case-sensitive, and rules for it must match any spelling.
	// A name with capitals that is not clearly a host stays as it is: an error.
	if host, rest, ok := strings.Cut(s, "/"); ok && (strings.ContainsAny(host, ".:") || strings.EqualFold(host, "localhost")) {
		s = strings.ToLower(host) + "/" + rest
	}
	n, err := name.Parse(s)
	if err != nil {
		return Ref{}, err
	}
	if err := checkHost(n.Host); err != nil {
		return Ref{}, err
	}
	ref := Ref{Transport: Registry, Host: n.Host, Repository: n.Path, Tag: n.Tag}
	switch {
	case n.Digest != "":
		if ref.Digest, err = cas.ParseDigest(n.Digest); err != nil {
			return Ref{}, err
		}
	case ref.Tag == "":
		ref.Tag = "latest"
	}
	return ref, nil
}

// checkHost refuses what the grammar of names allows and no host has.
func checkHost(host string) error {
	if host != strings.ToLower(host) {
		return fmt.Errorf("%q is neither a host nor a repository: capitals", host)
	}
	port := ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		port = host[i+1:]
	} else {
		return nil
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
		return fmt.Errorf("host %q has the port %q", host, port)
	}
	return nil
}

// String returns the canonical text, which names records: host/repository:tag
// or @digest for a registry, transport:path:tag for local ones. ParseRef of it
// gives the same Ref.
func (r Ref) String() string {
	var s string
	switch r.Transport {
	case Stdin:
		return stdinText
	case Path:
		return r.Path
	case Registry:
		s = r.Name()
	default:
		s = string(r.Transport) + ":" + r.Path
	}
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if !r.Digest.IsZero() {
		s += "@" + r.Digest.String()
	}
	return s
}

// Name returns "host/repository", by which trust rules are found; "" if local.
func (r Ref) Name() string {
	if r.Transport != Registry {
		return ""
	}
	return r.Host + "/" + r.Repository
}

// IsLocal reports whether the image comes from this machine.
func (r Ref) IsLocal() bool { return r.Transport != Registry }
