package image

import (
	"cmp"
	"path"
	"slices"
	"strconv"
	"strings"
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

// rawConfig is the part of a config that is read.
type rawConfig struct {
	Created      string `json:"created"`
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant"`
	Config       struct {
		User         string              `json:"User"`
		ExposedPorts map[string]struct{} `json:"ExposedPorts"`
		Env          []string            `json:"Env"`
		Entrypoint   []string            `json:"Entrypoint"`
		Cmd          []string            `json:"Cmd"`
		Volumes      map[string]struct{} `json:"Volumes"`
		WorkingDir   string              `json:"WorkingDir"`
		Labels       map[string]string   `json:"Labels"`
		StopSignal   string              `json:"StopSignal"`
	} `json:"config"`
	RootFS struct {
		Type    string       `json:"type"`
		DiffIDs []cas.Digest `json:"diff_ids"`
	} `json:"rootfs"`
	History []struct {
		EmptyLayer bool `json:"empty_layer"`
	} `json:"history"`
}

// ParseConfig parses an image config. The error is ErrMalformed.
func ParseConfig(b []byte) (*Config, error) {
	var raw rawConfig
	if err := decode(b, &raw); err != nil {
		return nil, err
	}
	if err := raw.checkLayers(); err != nil {
		return nil, err
	}
	if raw.OS == "" || raw.Architecture == "" {
		return nil, malformed("the config names no operating system or no architecture")
	}
	c := &Config{
		Entrypoint: raw.Config.Entrypoint,
		Cmd:        raw.Config.Cmd,
		Env:        raw.Config.Env,
		User:       raw.Config.User,
		WorkingDir: raw.Config.WorkingDir,
		StopSignal: raw.Config.StopSignal,
		Labels:     raw.Config.Labels,
		Platform:   normalize(raw.OS, raw.Architecture, raw.Variant),
		DiffIDs:    raw.RootFS.DiffIDs,
	}
	if err := c.checkText(); err != nil {
		return nil, err
	}
	if raw.Created != "" {
		var err error
		if c.Created, err = time.Parse(time.RFC3339Nano, raw.Created); err != nil {
			return nil, malformed("the config was created at %.100q", raw.Created)
		}
	}
	var err error
	if c.ExposedPorts, err = parsePorts(raw.Config.ExposedPorts); err != nil {
		return nil, err
	}
	c.Volumes, err = parseVolumes(raw.Config.Volumes)
	return c, err
}

func (r *rawConfig) checkLayers() error {
	if r.RootFS.Type != "layers" {
		return malformed("rootfs is of the type %.100q, want layers", r.RootFS.Type)
	}
	n := len(r.RootFS.DiffIDs)
	if n == 0 || n > MaxLayers {
		return malformed("the config has %d diff IDs, want 1 to %d", n, MaxLayers)
	}
	for _, d := range r.RootFS.DiffIDs {
		if d.IsZero() {
			return malformed("the config has an empty diff ID")
		}
	}
	made := 0
	for _, h := range r.History {
		if !h.EmptyLayer {
			made++
		}
	}
	// Fewer are common: not every builder writes a history.
	if made > n {
		return malformed("the history of the config makes %d layers of %d", made, n)
	}
	return nil
}

// checkText refuses what no process could be given.
func (c *Config) checkText() error {
	for _, list := range [][]string{c.Entrypoint, c.Cmd, c.Env, {c.User, c.WorkingDir, c.StopSignal}} {
		for _, s := range list {
			if strings.IndexByte(s, 0) >= 0 {
				return malformed("the config has a NUL in %.100q", s)
			}
		}
	}
	return nil
}

// Port is a port or a range of ports that an image says it listens on.
type Port struct {
	First, Last uint16
	Protocol    string // "tcp", "udp" or "sctp"
}

// String returns "80/tcp" or "8000-8010/udp".
func (p Port) String() string {
	s := strconv.Itoa(int(p.First))
	if p.Last != p.First {
		s += "-" + strconv.Itoa(int(p.Last))
	}
	return s + "/" + p.Protocol
}

// parsePorts parses keys like "80", "80/tcp" and "8000-8010/udp".
func parsePorts(keys map[string]struct{}) ([]Port, error) {
	var ports []Port
	for key := range keys {
		numbers, protocol, ok := strings.Cut(key, "/")
		if !ok {
			protocol = "tcp"
		}
		first, last, ok := strings.Cut(numbers, "-")
		if !ok {
			last = first
		}
		p := Port{Protocol: strings.ToLower(protocol)}
		var okFirst, okLast bool
		p.First, okFirst = parsePort(first)
		p.Last, okLast = parsePort(last)
		if !okFirst || !okLast || p.Last < p.First || !slices.Contains([]string{"tcp", "udp", "sctp"}, p.Protocol) {
			return nil, malformed("the config exposes the port %.100q", key)
		}
		ports = append(ports, p)
	}
	slices.SortFunc(ports, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last), cmp.Compare(a.Protocol, b.Protocol))
	})
	return slices.Compact(ports), nil
}

func parsePort(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n != 0
}

func parseVolumes(keys map[string]struct{}) ([]string, error) {
	var volumes []string
	for key := range keys {
		clean := path.Clean(key)
		if !path.IsAbs(clean) || clean == "/" || strings.IndexByte(clean, 0) >= 0 {
			return nil, malformed("the config has a volume at %.100q", key)
		}
		volumes = append(volumes, clean)
	}
	slices.Sort(volumes)
	return slices.Compact(volumes), nil
}

// Stack returns the layers as overlayfs wants them: topmost first, each once. A
// layer that comes twice is left out where it is below itself: it hides all of
// itself there.
func (c *Config) Stack() []cas.Digest {
	stack := make([]cas.Digest, 0, len(c.DiffIDs))
	seen := make(map[cas.Digest]bool, len(c.DiffIDs))
	for _, d := range slices.Backward(c.DiffIDs) {
		if !seen[d] {
			seen[d] = true
			stack = append(stack, d)
		}
	}
	return stack
}
