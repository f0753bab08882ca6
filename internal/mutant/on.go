//go:build mutant

package mutant

import "os"

// Built tells whether this program has mutants.
const Built = true

// variable chooses the mutant.
const variable = "RKT_MUTANT"

// On reports whether the program is to behave as the mutant of that name.
func On(name string) bool { return os.Getenv(variable) == name }

// Environ is what a child that is started with an environment of its own needs
// besides, to be the same mutant.
func Environ() []string { return []string{variable + "=" + os.Getenv(variable)} }

// Tags are the flags with which a test builds the programs that it runs.
func Tags() []string { return []string{"-tags=mutant"} }
