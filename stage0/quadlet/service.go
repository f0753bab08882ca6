package quadlet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// service is a unit under construction.
type service struct {
	c       *compiler
	src     *source
	name    string // without .service
	unit    []string
	service []string
	links   []Link
}

// newService begins the unit name of a source.
func (c *compiler) newService(s *source, name string) *service {
	return &service{c: c, src: s, name: name}
}

// network adds Quadlet's own dependencies, unless the file does without them.
func (u *service) network() error {
	e, ok := u.src.File.value(quadletSection, "DefaultDependencies")
	if ok {
		wanted, err := parseBool(e.Value)
		if err != nil {
			return e.fail("DefaultDependencies=: %v", err)
		}
		if !wanted {
			return nil
		}
	}
	u.want("Wants", "network-online.target")
	return nil
}

// want makes the unit start other after what it depends on. key is Wants or Requires.
func (u *service) want(key, other string) {
	for _, line := range []string{key + "=" + other, "After=" + other} {
		if !slices.Contains(u.unit, line) {
			u.unit = append(u.unit, line)
		}
	}
}

// mountsFor makes the unit start after path is there. A path with a variable is
// known too late for that.
func (u *service) mountsFor(path string) {
	if path = strings.ReplaceAll(path, "$$", "\x00"); strings.Contains(path, "$") {
		return
	}
	path = strings.ReplaceAll(path, "\x00", "$")
	line := "RequiresMountsFor=" + quoteWord(path)
	if !slices.Contains(u.unit, line) {
		u.unit = append(u.unit, line)
	}
}

// set adds a line to [Service].
func (u *service) set(key, value string) { u.service = append(u.service, key+"="+value) }

// exec adds a command line of rkt; global flags go before the verb.
func (u *service) exec(key string, global []string, words ...string) {
	all := slices.Concat([]string{plain(u.c.host.Program)}, literals(u.c.host.Flags), global, words)
	for i, w := range all {
		all[i] = quoteWord(w)
	}
	u.set(key, strings.Join(all, " "))
}

func literals(words []string) []string {
	out := make([]string, 0, len(words))
	for _, w := range words {
		out = append(out, literal(w))
	}
	return out
}

// finish adds what the file says in [Unit] and [Service], the links that
// [Install] asks for, and the unit itself.
func (u *service) finish() error {
	errs := []error{u.passUnit(u.src), u.passService(), u.install(u.src)}
	for _, m := range u.src.members {
		errs = append(errs, u.passUnit(m), u.install(m))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Made by rkt of the file below. Change that one, then: systemctl daemon-reload\n")
	fmt.Fprintf(&b, "[Unit]\nSourcePath=%s\n", plain(u.src.Path))
	for _, l := range u.unit {
		b.WriteString(l + "\n")
	}
	b.WriteString("\n[Service]\n")
	for _, l := range u.service {
		b.WriteString(l + "\n")
	}
	return u.c.add(u, b.String())
}

// dependencies are the keys of [Unit] that name units; names of files in them
// become those of their units.
var dependencies = []string{"Wants", "Requires", "Requisite", "BindsTo", "PartOf", "Upholds", "Conflicts", "Before", "After"}

// passUnit copies [Unit]. What an app of a pod says about another of the same
// pod is done by the order of the apps.
func (u *service) passUnit(s *source) error {
	var errs []error
	for _, e := range s.File.section("Unit") {
		if err := checkPassed(e); err != nil {
			errs = append(errs, err)
			continue
		}
		switch {
		case s != u.src && (e.Key == "Description" || e.Key == "Documentation"):
			u.unit = append(u.unit, "# "+s.Name+": "+e.Key+"="+e.Value)
			continue
		case !slices.Contains(dependencies, e.Key):
			if s != u.src && e.Value != "" {
				errs = append(errs, e.fail("[Unit] %s= of an app of a pod: the unit is that of the pod; put it there", e.Key))
				continue
			}
			u.unit = append(u.unit, e.Key+"="+e.Value)
			continue
		}
		line, err := u.translate(s, e)
		if err != nil {
			errs = append(errs, err)
		} else if line != "" || e.Value == "" {
			u.unit = append(u.unit, e.Key+"="+line)
		}
	}
	return errors.Join(errs...)
}

// translate makes names of units of the names of files in a dependency.
func (u *service) translate(s *source, e Entry) (string, error) {
	var words []string
	for _, word := range strings.Fields(e.Value) {
		kind, ok := KindOf(word)
		if !ok {
			words = append(words, word)
			continue
		}
		other, err := u.c.reference(e, word, kind)
		if err != nil {
			return "", err
		}
		if slices.Contains(u.src.members, other) {
			if s == u.src || !slices.Contains([]string{"Wants", "Requires", "After", "Before", "BindsTo", "PartOf"}, e.Key) {
				return "", e.fail("%s=%s: they are apps of one pod", e.Key, word)
			}
			continue
		}
		if other.kind == kindContainer {
			if p, inPod := other.File.value("Container", "Pod"); inPod {
				if pod := u.c.sources[p.Value]; pod != nil {
					other = pod
				}
			}
		}
		words = append(words, unitOf(other))
	}
	return strings.Join(words, " "), nil
}

// owned are the keys of [Service] whose value rkt decides on, with the reason.
func owned() map[string]string {
	return map[string]string{
		"ExecStart":       "the command is rkt's; use Exec= in [Container]",
		"ExecStop":        "rkt stops the pod; use StopSignal= in [Container]",
		"User":            "rkt runs as root; the user of the app is User= in [Container]",
		"Group":           "rkt runs as root; the group of the app is Group= in [Container]",
		"DynamicUser":     "rkt runs as root; the user of the app is User= in [Container]",
		"PAMName":         "rkt runs as root",
		"RootDirectory":   "rkt needs the host's files",
		"RootImage":       "rkt needs the host's files",
		"BusName":         "the unit is no service of D-Bus",
		"PIDFile":         "rkt does not fork",
		"GuessMainPID":    "rkt does not fork",
		"RemoveIPC":       "it needs a user that rkt does not have",
		"NoNewPrivileges": "it would keep rkt from starting the pod; apps have none anyway",
	}
}

// passService copies [Service] behind what rkt has set, so that it wins.
func (u *service) passService() error {
	var errs []error
	for _, e := range u.src.File.section("Service") {
		if err := checkPassed(e); err != nil {
			errs = append(errs, err)
			continue
		}
		if why, ours := owned()[e.Key]; ours {
			errs = append(errs, e.fail("[Service] %s= is refused: %s", e.Key, why))
			continue
		}
		switch {
		case e.Key == "Type" && !slices.Contains(u.types(), e.Value):
			errs = append(errs, e.fail("Type=%s is refused: known are %s", e.Value, strings.Join(u.types(), " and ")))
		case e.Key == "KillMode" && e.Value != "mixed" && e.Value != "control-group":
			errs = append(errs, e.fail("KillMode=%s is refused: it would leave the pod without its supervisor; known are mixed and control-group", e.Value))
		case e.Key == "Type": // set already
		default:
			u.set(e.Key, e.Value)
		}
	}
	return errors.Join(errs...)
}

// types are the values that Type= can have.
func (u *service) types() []string {
	switch u.src.kind {
	case kindContainer, kindKube:
		return []string{"notify", "oneshot"}
	case kindPod:
		return []string{"notify"}
	}
	return []string{"oneshot"}
}

// serviceType is what Type= says, or the first of the known values.
func (u *service) serviceType() string {
	if e, ok := u.src.File.value("Service", "Type"); ok {
		return e.Value
	}
	return u.types()[0]
}

// said says whether [Service] sets a key.
func (u *service) said(key string) bool {
	_, ok := u.src.File.value("Service", key)
	return ok
}

// checkPassed refuses what systemd would not read back as one assignment.
func checkPassed(e Entry) error {
	for _, c := range []byte(e.Key) {
		if !isAlphanumeric(c) && c != '-' {
			return e.fail("%q is not the name of a key", e.Key)
		}
	}
	if strings.HasSuffix(e.Value, `\`) && endsInBackslash(e.Value) {
		return e.fail("%s=: the value ends in a backslash", e.Key)
	}
	return nil
}
