package quadlet

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// compiler is one run of Compile.
type compiler struct {
	host    Host
	sources map[string]*source // by name
	order   []*source          // by name
	units   map[string]string  // name of a unit or of an alias -> path of the file that has it
	links   map[string]string  // name of a link -> target
	fetches map[string]string  // what is fetched -> name of the unit
	volumes map[string]string  // volume without a file -> name of the unit
	result  Result
}

// source is a Source that is being compiled.
type source struct {
	Source
	kind    string
	service string // name of its unit, without .service
	failed  bool   // there is no unit of it
	// members are the containers of a pod.
	members []*source
}

// collect checks the names of the sources and finds out which unit each becomes.
func (c *compiler) collect(sources []Source) {
	for _, in := range sources {
		kind, ok := KindOf(in.Name)
		s := &source{Source: in, kind: kind}
		if !ok || !validUnitName(in.Name) {
			c.fail(s, &Error{Path: in.Path, Message: fmt.Sprintf("%q cannot be the name of a unit: want letters, digits and :-_.\\ with at most one @", in.Name)})
			continue
		}
		if _, twice := c.sources[in.Name]; twice {
			c.fail(s, &Error{Path: in.Path, Message: "there are two files of this name"})
			continue
		}
		if err := checkPath(in.Path); err != nil {
			c.fail(s, &Error{Path: in.Path, Message: err.Error()})
			continue
		}
		c.sources[in.Name] = s
		c.order = append(c.order, s)
	}
	slices.SortFunc(c.order, func(a, b *source) int { return strings.Compare(a.Name, b.Name) })
	for _, s := range c.order {
		if err := c.nameService(s); err != nil {
			c.fail(s, err)
		}
	}
	for _, s := range c.order {
		if e, ok := s.File.value("Container", "Pod"); ok && s.kind == kindContainer {
			pod, err := c.reference(e, e.Value, kindPod)
			if err != nil {
				c.fail(s, err)
				continue
			}
			pod.members = append(pod.members, s)
		}
	}
}

// nameService finds out the name of the unit of a source.
func (c *compiler) nameService(s *source) error {
	base := strings.TrimSuffix(s.Name, "."+s.kind)
	suffix := ""
	if s.kind != kindContainer && s.kind != kindKube {
		suffix = "-" + s.kind
	}
	prefix, instance, template := strings.Cut(base, "@")
	s.service = prefix + suffix
	if template {
		s.service += "@" + instance
	}
	e, ok := s.File.value(sectionOf(s.kind), "ServiceName")
	if !ok {
		return nil
	}
	if strings.HasSuffix(e.Value, ".service") || !validUnitName(e.Value+".service") {
		return e.fail("ServiceName=%s is not the name of a unit without .service", e.Value)
	}
	s.service = e.Value
	return nil
}

// sectionOf is the section that a kind of files has of its own.
func sectionOf(kind string) string { return strings.ToUpper(kind[:1]) + kind[1:] }

// compile makes the units of a source.
func (c *compiler) compile(s *source) {
	if s.failed {
		return
	}
	c.fail(s, errors.Join(checkSections(s), c.checkSystemd(s)))
	var err error
	switch s.kind {
	case kindContainer:
		err = c.container(s)
	case kindPod:
		err = c.pod(s)
	case kindVolume:
		err = c.volume(s)
	case kindImage:
		err = c.image(s)
	case kindNetwork:
		err = c.network(s)
	case kindKube:
		err = c.kube(s)
	default:
		err = &Error{Path: s.Path, Message: fmt.Sprintf(".%s files are not supported: rkt %s", s.kind, refusedKinds()[s.kind])}
	}
	c.fail(s, err)
}

// refusedKinds says why files of a kind are refused.
func refusedKinds() map[string]string {
	return map[string]string{
		kindBuild:    "builds no images; build it elsewhere and name it in an .image file",
		kindArtifact: "knows no artifacts",
	}
}

// fail notes mistakes, all that err is made of. nil is none.
func (c *compiler) fail(s *source, err error) {
	if err == nil {
		return
	}
	s.failed = true
	var several interface{ Unwrap() []error }
	if errors.As(err, &several) {
		for _, e := range several.Unwrap() {
			c.fail(s, e)
		}
		return
	}
	var e *Error
	if !errors.As(err, &e) {
		e = &Error{Path: s.Path, Message: err.Error()}
	}
	if !slices.ContainsFunc(c.result.Errors, func(old *Error) bool { return *old == *e }) {
		c.result.Errors = append(c.result.Errors, e)
	}
}

// checkSystemd finds the mistakes in the sections that systemd has a say in, so
// that they are told with those in the others. An app's are checked by its pod.
func (c *compiler) checkSystemd(s *source) error {
	if _, inPod := s.File.value("Container", "Pod"); inPod && s.kind == kindContainer {
		return nil
	}
	u := c.newService(s, s.service)
	return errors.Join(u.passUnit(s), u.passService(), u.install(s))
}

// checkSections refuses sections that nobody would read. Those that begin with
// X- are for others.
func checkSections(s *source) error {
	known := []string{"Unit", "Service", "Install", quadletSection, rktSection, sectionOf(s.kind)}
	var errs []error
	seen := make(map[string]bool)
	for _, e := range s.File.entries {
		if seen[e.Section] || slices.Contains(known, e.Section) || strings.HasPrefix(e.Section, "X-") {
			continue
		}
		seen[e.Section] = true
		errs = append(errs, e.fail("unknown section [%s] in a .%s file", e.Section, s.kind))
	}
	for _, e := range s.File.section(quadletSection) {
		if e.Key != "DefaultDependencies" {
			errs = append(errs, e.fail("unknown key %s= in [%s]", e.Key, quadletSection))
		}
	}
	return errors.Join(errs...)
}

// Sections that several kinds have.
const (
	quadletSection = "Quadlet"
	rktSection     = "X-Rkt"
)

// reference finds the source that an entry names, of one of the kinds.
func (c *compiler) reference(e Entry, name string, kinds ...string) (*source, error) {
	kind, ok := KindOf(name)
	if !ok || !slices.Contains(kinds, kind) {
		return nil, e.fail("%s=%s does not name a .%s file", e.Key, name, strings.Join(kinds, " or ."))
	}
	s, ok := c.sources[name]
	if !ok {
		return nil, e.fail("%s=%s: there is no file %s", e.Key, e.Value, name)
	}
	return s, nil
}

// needs is reference for a source whose unit must have been made.
func (c *compiler) needs(e Entry, name string, kinds ...string) (*source, error) {
	s, err := c.reference(e, name, kinds...)
	if err != nil {
		return nil, err
	}
	if s.failed {
		return nil, e.fail("%s=%s: %s was refused", e.Key, e.Value, s.Path)
	}
	return s, nil
}

// unitOf is the name of the unit of s for somebody who depends on it. An
// instance of the one goes with the same instance of the other.
func unitOf(s *source) string {
	if strings.HasSuffix(s.service, "@") {
		return s.service + "%i.service"
	}
	return s.service + ".service"
}

// add adds a unit with its links to the result. Their names may have been taken;
// then nothing is added.
func (c *compiler) add(u *service, text string) error {
	name := u.name + ".service"
	if owner, taken := c.units[name]; taken {
		return fmt.Errorf("the unit %s is made of %s already", name, owner)
	}
	for _, l := range u.links {
		if owner, taken := c.units[l.Name]; taken {
			return &Error{Path: l.Source, Message: fmt.Sprintf("Alias=: the unit %s is made of %s already", l.Name, owner)}
		}
		if old, taken := c.links[l.Name]; taken && old != l.Target {
			return &Error{Path: l.Source, Message: fmt.Sprintf("%s would lead to %s and to %s", l.Name, old, l.Target)}
		}
	}
	c.units[name] = u.src.Path
	c.result.Units = append(c.result.Units, Unit{Name: name, Source: u.src.Path, Text: text})
	for _, l := range u.links {
		if _, there := c.links[l.Name]; there {
			continue
		}
		c.links[l.Name] = l.Target
		c.result.Links = append(c.result.Links, l)
		if !strings.Contains(l.Name, "/") {
			c.units[l.Name] = l.Source
		}
	}
	return nil
}

// validUnitName is the grammar of systemd.unit(5) for names with an ending.
func validUnitName(name string) bool {
	const maxUnitName = 255
	if name == "" || len(name) > maxUnitName-len("rkt-image-.service") || strings.Count(name, "@") > 1 || name[0] == '@' || name[0] == '.' {
		return false
	}
	for _, c := range []byte(name) {
		if !isAlphanumeric(c) && !strings.ContainsRune(`:-_.\@`, rune(c)) {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// absolute is the path that a file at from means by p. Text that begins with a
// specifier is left to systemd.
func absolute(from, p string) (string, error) {
	switch {
	case p == "":
		return "", errors.New("the path is empty")
	case p[0] == '/':
		return path.Clean(p), nil
	case p[0] == '%':
		return p, nil
	}
	return path.Join(plain(path.Dir(from)), p), nil
}

func sortedNames(m map[string]string) []string {
	return slices.Sorted(maps.Keys(m))
}

// checkPath refuses the path of a file that no unit could name.
func checkPath(p string) error {
	if err := checkText(p); err != nil || strings.ContainsAny(p, "\t\r") {
		return errors.New("the path has a control character")
	}
	return nil
}
