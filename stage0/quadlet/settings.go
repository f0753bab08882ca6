package quadlet

import (
	"path"
	"strings"
)

// ParseSettings reads the file of settings, which has the form of a unit file:
//
//	[Quadlet]
//	Directory=/etc/containers/systemd
//
// Each Directory= is a further folder to look for files in.
func ParseSettings(from string, text []byte) (dirs []string, errs []*Error) {
	f, err := Parse(from, text)
	if err != nil {
		return nil, []*Error{err.(*Error)}
	}
	for _, e := range f.entries {
		if e.Section != quadletSection || e.Key != "Directory" {
			errs = append(errs, e.fail("unknown key %s= in [%s]", e.Key, e.Section))
		}
	}
	for _, e := range f.values(quadletSection, "Directory") {
		if !path.IsAbs(e.Value) {
			errs = append(errs, e.fail("Directory=%s is not an absolute path", e.Value))
			continue
		}
		dirs = append(dirs, path.Clean(e.Value))
	}
	return dirs, errs
}

// DropInFolders are the names of the folders with drop-ins of a file, those that
// are about most files first: container.d, then for web-front@1.container
// web-.container.d, web-front@.container.d and web-front@1.container.d.
func DropInFolders(name string) []string {
	kind, ok := KindOf(name)
	if !ok {
		return nil
	}
	base := strings.TrimSuffix(name, "."+kind)
	prefix, instance, template := strings.Cut(base, "@")
	folders := []string{kind + ".d"}
	for i := range len(prefix) {
		if prefix[i] == '-' && i+1 < len(base) {
			folders = append(folders, prefix[:i+1]+"."+kind+".d")
		}
	}
	if template && instance != "" {
		folders = append(folders, prefix+"@."+kind+".d")
	}
	return append(folders, name+".d")
}
