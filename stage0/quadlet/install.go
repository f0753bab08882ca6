package quadlet

import (
	"errors"
	"strings"
)

// install makes the links that [Install] asks for, as `systemctl enable` would:
// units of a generator cannot be enabled. Those of an app are about its pod.
func (u *service) install(s *source) error {
	unit := u.name + ".service"
	instance, hasInstance := s.File.value("Install", "DefaultInstance")
	wanted := unit
	if strings.HasSuffix(u.name, "@") {
		wanted = ""
		if hasInstance {
			wanted = u.name + instance.Value + ".service"
			if !validUnitName(wanted) {
				return instance.fail("DefaultInstance=%s gives no name of a unit", instance.Value)
			}
		}
	} else if hasInstance && !strings.Contains(u.name, "@") {
		return instance.fail("DefaultInstance= is for templates, whose names end in @")
	}
	var errs []error
	folders := map[string]string{"WantedBy": ".wants", "RequiredBy": ".requires", "UpheldBy": ".upholds"}
	for _, e := range s.File.section("Install") {
		folder, lists := folders[e.Key]
		if !lists && e.Key != "Alias" && e.Key != "DefaultInstance" {
			errs = append(errs, e.fail("[Install] %s= is refused: known are Alias, WantedBy, RequiredBy, UpheldBy and DefaultInstance", e.Key))
		}
		if !lists || wanted == "" {
			continue
		}
		for _, other := range current(s, e) {
			if !validUnitName(other) || !strings.Contains(other, ".") {
				errs = append(errs, e.fail("[Install] %s=%s is not the name of a unit", e.Key, other))
				continue
			}
			u.links = append(u.links, Link{Name: other + folder + "/" + wanted, Target: "../" + unit, Source: s.Path})
		}
	}
	for _, e := range s.File.values("Install", "Alias") {
		for _, alias := range strings.Fields(e.Value) {
			errs = append(errs, u.alias(s, e, alias))
		}
	}
	return errors.Join(errs...)
}

// current are the words of an entry, unless a later empty one takes them back.
func current(s *source, e Entry) []string {
	for _, valid := range s.File.values(e.Section, e.Key) {
		if valid == e {
			return strings.Fields(e.Value)
		}
	}
	return nil
}

// alias gives the unit a further name.
func (u *service) alias(s *source, e Entry, alias string) error {
	switch {
	case !validUnitName(alias) || !strings.HasSuffix(alias, ".service"):
		return e.fail("Alias=%s is not the name of a service", alias)
	case strings.Contains(alias, "@") != strings.Contains(u.name, "@"):
		return e.fail("Alias=%s: a template and what is none cannot be the same", alias)
	case alias == u.name+".service":
		return e.fail("Alias=%s is the name of the unit itself", alias)
	}
	u.nickname(s, alias)
	return nil
}

// nickname makes the link of an alias.
func (u *service) nickname(s *source, alias string) {
	u.links = append(u.links, Link{Name: alias, Target: u.name + ".service", Source: s.Path})
}

// at gives an error the place of an entry.
func at(e Entry, err error) error {
	if err == nil {
		return nil
	}
	return e.fail("%s=: %v", e.Key, err)
}
