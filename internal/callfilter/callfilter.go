// Package callfilter makes system call filters: what is allowed and what is denied
// and how, as typed data (Profile), and its compiler to classic BPF (Compile).
// Who uses a filter keeps the compiled one and a test that it is what Compile
// makes of the profile, so that no start pays for compiling.
//
// A filter answers in three ways: a call that is allowed, one that is known and
// denied (EPERM), and one that the profile has never heard of (ENOSYS, so that a
// libc falls back as on an older kernel). Calls through another ABI than the
// machine's own are of the third kind: an argument that is checked here could be
// passed unchecked there.
package callfilter

import "golang.org/x/sys/unix"

// Profile says what each system call gets.
type Profile struct {
	// Allow lists the calls that pass whatever their arguments are.
	Allow []string
	// Deny lists calls that are known and get EPERM. What is in no list gets ENOSYS.
	Deny []string
	// Rules are the calls whose arguments decide.
	Rules []Rule
}

// Rule decides about one call. All its conditions look at the low 32 bits of an
// argument, which is all that the kernel reads of an int: a test of 64 bits is
// passed by with a high bit set.
type Rule struct {
	Call string
	// When is tried in order; the first that holds gives the answer.
	When []When
	// Else is the answer when none holds.
	Else Answer
}

// When is a condition on one argument and the answer if it holds.
type When struct {
	Arg  int
	Op   Op
	Vals []uint32 // one of them must match
	Then Answer
	// And, if set, replaces Then: a further condition, with its own answer.
	And *Rule
}

// Op compares an argument.
type Op int

// The comparisons.
const (
	OneOf  Op = iota // the argument is one of Vals
	AnyBit           // the argument has a bit of one of Vals
)

// Answer is what the filter says: Allow, or an errno.
type Answer uint32

// The answers.
const (
	Allow        Answer = 0x7fff0000                                 // SECCOMP_RET_ALLOW
	NotPermitted        = answerErrno | Answer(unix.EPERM)           // known and denied
	NotThere            = answerErrno | Answer(unix.ENOSYS)          // not known here
	NotSupported        = answerErrno | Answer(unix.EPROTONOSUPPORT) // what a kernel without it says
	answerErrno  Answer = 0x00050000                                 // SECCOMP_RET_ERRNO
)
