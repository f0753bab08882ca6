// Package quadlet turns declarative files of pods into systemd units. The
// formats are those of podman's Quadlet: .container, .pod, .volume, .network,
// .image and .kube, with drop-ins, templates and an [Install] section; what only
// rkt has stands in a section [X-Rkt].
//
// Each key has a line in a table that says what becomes of it: flags of
// `rkt run`, or a refusal by name. Nothing is ignored: a pod that starts
// without a setting that its author counted on is worse than one that does not
// start. A file with a mistake gives no unit and an Error per mistake; the other
// files are not affected.
//
// The package is pure: files come in parsed, units go out as text. Start with
// Compile. The folder generator reads and writes them.
package quadlet

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Host is what units depend on of the host that they are made for.
type Host struct {
	// Program is the absolute path of rkt.
	Program string
	// DataDir is rkt's data folder, which holds the volumes.
	DataDir string
	// Flags are given to every call of rkt, before the verb.
	Flags []string
}

// Source is one file, drop-ins merged.
type Source struct {
	// Name is the file's name: "web.container". Names are unique.
	Name string
	// Path is where it was found.
	Path string
	File *File
	// Attached are the files that Attachments named, by path.
	Attached map[string]Attached
}

// Attached is a file that a Source speaks of, or why it cannot be read.
type Attached struct {
	Text []byte
	Err  error
}

// Result is what files became.
type Result struct {
	Units []Unit
	Links []Link
	// Errors are all mistakes, sorted by path and line.
	Errors []*Error
}

// Unit is a file for systemd.
type Unit struct {
	Name   string `json:"name"`
	Source string `json:"source"` // path of the file that it was made of
	Text   string `json:"text"`
}

// Link is a symbolic link in the folder of the units.
type Link struct {
	Name   string `json:"name"`   // relative to the folder
	Target string `json:"target"` // relative to the folder of the link
	Source string `json:"source"`
}

// Error is a mistake in a file.
type Error struct {
	Path    string `json:"path"`
	Line    int    `json:"line"` // 0 = the file as a whole
	Message string `json:"message"`
}

// Error is PATH:LINE: MESSAGE.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Path + ": " + e.Message
	}
	return fmt.Sprintf("%s:%d: %s", e.Path, e.Line, e.Message)
}

// The kinds of files, which are the endings of their names.
const (
	kindContainer = "container"
	kindPod       = "pod"
	kindVolume    = "volume"
	kindNetwork   = "network"
	kindImage     = "image"
	kindKube      = "kube"
	kindBuild     = "build"    // known, to be refused
	kindArtifact  = "artifact" // known, to be refused
)

// kinds are all of them, in the order in which they are compiled: what others
// stand on comes first.
func kinds() []string {
	return []string{kindBuild, kindArtifact, kindNetwork, kindImage, kindVolume, kindContainer, kindKube, kindPod}
}

// KindOf returns the kind of a file by its name, and whether it is one.
func KindOf(name string) (string, bool) {
	at := strings.LastIndexByte(name, '.')
	if at <= 0 || !slices.Contains(kinds(), name[at+1:]) {
		return "", false
	}
	return name[at+1:], true
}

// Compile makes units of files. The result depends on nothing else than the
// arguments. Sources with a mistake, and those that need one of them, have no
// units; their mistakes are in Errors.
func Compile(sources []Source, host Host) Result {
	c := &compiler{
		host: host, sources: make(map[string]*source), units: make(map[string]string),
		links: make(map[string]string), fetches: make(map[string]string), volumes: make(map[string]string),
	}
	c.collect(sources)
	for _, kind := range kinds() {
		for _, s := range c.order {
			if s.kind == kind {
				c.compile(s)
			}
		}
	}
	slices.SortFunc(c.result.Units, func(a, b Unit) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(c.result.Links, func(a, b Link) int { return strings.Compare(a.Name, b.Name) })
	slices.SortStableFunc(c.result.Errors, func(a, b *Error) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line))
	})
	return c.result
}

// Attachments are the paths of the files that a source speaks of and whose
// content Compile wants in Source.Attached: the YAML of a .kube file. Relative
// ones are taken from the source's folder.
func Attachments(s Source) []string {
	if kind, _ := KindOf(s.Name); kind != kindKube {
		return nil
	}
	var paths []string
	for _, key := range []string{"Yaml", "ConfigMap"} {
		for _, e := range s.File.values("Kube", key) {
			if path, err := absolute(s.Path, e.Value); err == nil {
				paths = append(paths, path)
			}
		}
	}
	return paths
}
