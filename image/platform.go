package image

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/cpu"
	"golang.org/x/sys/unix"

	"rkt/internal/escape"
)

// ErrPlatform reports an image that has nothing for the platform.
var ErrPlatform = errors.New("no image for the platform")

// Platform is an operating system, a processor architecture (Go's names) and a
// variant of it.
type Platform struct {
	OS           string `json:"os"`
	Architecture string `json:"architecture"`
	Variant      string `json:"variant,omitempty"`
}

// String returns "linux/arm64" or "linux/arm/v7", made safe to show.
func (p Platform) String() string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return escape.Text(s)
}

// ParsePlatform parses OS/ARCHITECTURE[/VARIANT], with the names of Go and those
// of uname(1): linux/arm64, linux/x86_64, linux/arm/v7.
func ParsePlatform(s string) (Platform, error) {
	const limit = 32 // bytes of a part
	parts := strings.Split(s, "/")
	for _, part := range parts {
		if part == "" || len(part) > limit || strings.Trim(strings.ToLower(part), "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
			return Platform{}, fmt.Errorf("%.100q is not OS/ARCHITECTURE[/VARIANT], such as linux/arm64", s)
		}
	}
	switch len(parts) {
	case 2:
		return normalize(parts[0], parts[1], ""), nil
	case 3:
		return normalize(parts[0], parts[1], parts[2]), nil
	}
	return Platform{}, fmt.Errorf("%.100q is not OS/ARCHITECTURE[/VARIANT], such as linux/arm64", s)
}

// Variants of amd64, best first.
var amd64Variants = [...]string{"v4", "v3", "v2"}

// Host returns the platform of this machine.
func Host() Platform {
	p := Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH}
	switch p.Architecture {
	case "amd64":
		p.Variant = amd64Variant()
	case "arm":
		p.Variant = armVariant()
	}
	return p
}

// amd64Variant returns the level of the psABI; "" is the first. Of its features
// those are looked at that came last.
func amd64Variant() string {
	x := &cpu.X86
	switch v2 := x.HasSSE42 && x.HasSSSE3 && x.HasPOPCNT && x.HasCX16; {
	case v2 && x.HasAVX2 && x.HasBMI2 && x.HasFMA && x.HasAVX512F && x.HasAVX512BW && x.HasAVX512CD && x.HasAVX512DQ && x.HasAVX512VL:
		return "v4"
	case v2 && x.HasAVX2 && x.HasBMI2 && x.HasFMA:
		return "v3"
	case v2:
		return "v2"
	}
	return ""
}

// armVariant reads the level from the machine name: "armv7l", or "aarch64" when
// the processor is a 64-bit one.
func armVariant() string {
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		machine := unix.ByteSliceToString(uts.Machine[:])
		for _, v := range []string{"v5", "v6", "v7"} {
			if strings.HasPrefix(machine, "arm"+v) {
				return v
			}
		}
	}
	return "v7"
}

// normalize brings names of other conventions into Go's.
func normalize(os, architecture, variant string) Platform {
	p := Platform{OS: strings.ToLower(os), Architecture: strings.ToLower(architecture), Variant: strings.ToLower(variant)}
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "i386", "i686":
		p.Architecture = "386"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	if p.Variant != "" && p.Variant[0] >= '0' && p.Variant[0] <= '9' {
		p.Variant = "v" + p.Variant
	}
	switch {
	case p.Architecture == "amd64" && p.Variant == "v1", p.Architecture == "arm64" && p.Variant == "v8":
		p.Variant = ""
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	}
	return p
}

// variants returns the variants that a machine of platform p executes, best first.
func (p Platform) variants() []string {
	var all []string
	switch p.Architecture {
	case "amd64":
		all = amd64Variants[:]
	case "arm":
		all = []string{"v7", "v6", "v5"}
	}
	if i := slices.Index(all, p.Variant); i >= 0 {
		return append(slices.Clone(all[i:]), "")
	}
	if p.Variant == "" {
		return []string{""}
	}
	return []string{p.Variant, ""}
}

// rank returns how well images of platform q suit a machine of platform p: 0 is
// best, -1 not at all.
func (p Platform) rank(q Platform) int {
	if p.OS != q.OS || p.Architecture != q.Architecture {
		return -1
	}
	return slices.Index(p.variants(), q.Variant)
}

// Runs reports whether a machine of platform p executes images of platform q.
func (p Platform) Runs(q Platform) bool { return p.rank(q) >= 0 }

// Choose returns the descriptor of the image in the index that suits p best; the
// first one among equals. An index of a single image without a platform is
// chosen as it is. The result may be an index again. The error is ErrPlatform
// and lists what there is.
func Choose(index *Index, p Platform) (Descriptor, error) {
	var best, bare Descriptor
	bestRank, bares := -1, 0
	var there []string
	for _, d := range index.Manifests {
		if d.Artifact || !d.IsManifest() && !d.IsIndex() {
			continue
		}
		if d.Platform == nil {
			bare = d
			bares++
			continue
		}
		if rank := p.rank(*d.Platform); rank >= 0 && (bestRank < 0 || rank < bestRank) {
			best, bestRank = d, rank
		}
		if s := d.Platform.String(); !slices.Contains(there, s) {
			there = append(there, s)
		}
	}
	switch {
	case bestRank >= 0:
		return best, nil
	case bares == 1 && len(there) == 0:
		return bare, nil
	case bares > 0:
		there = append(there, fmt.Sprintf("%d without a platform", bares))
	}
	if len(there) == 0 {
		return Descriptor{}, fmt.Errorf("%w %s: the index has none at all", ErrPlatform, p)
	}
	const shown = 20
	if n := len(there); n > shown {
		there = append(there[:shown], fmt.Sprintf("%d others", n-shown))
	}
	return Descriptor{}, fmt.Errorf("%w %s: there are %s", ErrPlatform, p, strings.Join(there, ", "))
}
