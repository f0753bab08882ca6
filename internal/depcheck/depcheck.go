// Package depcheck holds the tests of what each program links and of the
// direction of imports. It has no code.
//
// `go test ./internal/depcheck -update` writes the lists anew: a new dependency
// of a program is then a line of a diff, and belongs into the commit that adds it.
package depcheck
