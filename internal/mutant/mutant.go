// Package mutant is how the tests prove that they can fail. A place of the
// product that a security or durability promise hangs on asks On(name) whether
// it is to break the promise. In a program that is shipped the answer is the
// constant false and the compiler leaves nothing of the question. Built with
// -tags mutant, the environment variable RKT_MUTANT chooses the one promise to
// break, and tests/mutants wants the test of that promise to fail.
//
// A mutant is one condition at the place where the decision is made:
//
//	if got != want && !mutant.On("nodigest") {
//
// It has a row in tests/mutants/pairs.txt, which names the test.
package mutant
