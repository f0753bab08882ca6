package quadlet

import (
	"errors"
	"slices"
)

// rule says what becomes of a key.
type rule[T any] struct {
	key string
	// lists: each assignment counts and an empty one takes back those before it;
	// else the last one counts.
	lists bool
	// shared is about what the apps of a pod share: it belongs into the .pod file.
	shared bool
	// do carries out an assignment. nil: the key is refused, for the reason why.
	do  func(T, Entry) error
	why string
}

// apply carries out a section by a table. A key that is not in it is unknown.
func apply[T any](to T, f *File, section string, rules []rule[T]) error {
	var errs []error
	for _, r := range rules {
		entries := f.values(section, r.key)
		if !r.lists {
			entries = nil
			if e, ok := f.value(section, r.key); ok {
				entries = []Entry{e}
			}
		}
		for _, e := range entries {
			if err := checkSpecifiers(e.Value); err != nil {
				errs = append(errs, at(e, err))
				continue
			}
			if r.do == nil {
				errs = append(errs, e.fail("%s= is not supported: %s", e.Key, r.why))
				continue
			}
			errs = append(errs, located(e, r.do(to, e)))
		}
	}
	for _, e := range f.section(section) {
		if !slices.ContainsFunc(rules, func(r rule[T]) bool { return r.key == e.Key }) {
			errs = append(errs, e.fail("unknown key %s= in [%s]", e.Key, section))
		}
	}
	return errors.Join(errs...)
}

// located gives an error the place of an entry, unless it has one.
func located(e Entry, err error) error {
	var placed *Error
	if err == nil || errors.As(err, &placed) {
		return err
	}
	return at(e, err)
}

// yes is a rule for a truth value.
func yes[T any](do func(T, bool) error) func(T, Entry) error {
	return func(to T, e Entry) error {
		b, err := parseBool(e.Value)
		if err != nil {
			return err
		}
		return do(to, b)
	}
}

// only accepts one of the values, for which nothing has to be done.
func only[T any](why string, values ...string) func(T, Entry) error {
	return func(_ T, e Entry) error {
		if slices.Contains(values, e.Value) {
			return nil
		}
		return e.fail("%s=%s is not supported: %s", e.Key, e.Value, why)
	}
}

// refused makes rules for keys that are refused for the same reason.
func refused[T any](why string, keys ...string) []rule[T] {
	rules := make([]rule[T], 0, len(keys))
	for _, k := range keys {
		rules = append(rules, rule[T]{key: k, lists: true, why: why})
	}
	return rules
}
