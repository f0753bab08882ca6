//go:build !mutant

package mutant

// Built tells whether this program has mutants.
const Built = false

// On reports whether the program is to behave as the mutant of that name.
func On(string) bool { return false }

// Environ is what a child that is started with an environment of its own needs
// besides, to be the same mutant.
func Environ() []string { return nil }

// Tags are the flags with which a test builds the programs that it runs.
func Tags() []string { return nil }
