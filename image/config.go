package image

import (
	"time"

	"rkt/cas"
)

// Config is what of an image config may reach a pod.
type Config struct {
	Entrypoint []string
	Cmd        []string
	Env        []string
	User       string
	WorkingDir string
	StopSignal string
	// ExposedPorts are sorted.
	ExposedPorts []Port
	// Volumes are clean absolute paths, sorted.
	Volumes []string
	// Labels are for display.
	Labels   map[string]string
	Platform Platform
	Created  time.Time
	// DiffIDs are the layers, bottom first. A layer may come twice.
	DiffIDs []cas.Digest
}

// Port is a port or a range of ports that an image says it listens on.
type Port struct {
	First, Last uint16
	Protocol    string // "tcp", "udp" or "sctp"
}

// String returns "80/tcp" or "8000-8010/udp".
func (p Port) String() string { return "" }

// ParseConfig parses an image config.
func ParseConfig(b []byte) (*Config, error) { return nil, nil }

// Stack returns the layers as overlayfs wants them: topmost first, each once. A
// layer that comes twice is left out where it is below itself: it hides all of
// itself there.
func (c *Config) Stack() []cas.Digest { return nil }
