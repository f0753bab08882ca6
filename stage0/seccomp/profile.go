// Package seccomp holds the system call filter that apps run under: what is
// allowed, what is denied and how, as typed data (Default), and its compiler to
// classic BPF (Compile). A run uses Filter, the compiled default that is part of
// the program; a test proves that it is what Compile makes of Default.
//
// The package knows nothing of pods. It answers in three ways: a call that is
// allowed, one that is known and denied (EPERM), and one that the profile has
// never heard of (ENOSYS, so that a libc falls back as on an older kernel).
// Calls through another ABI than the machine's own are of the third kind: an
// argument that is checked here could be passed unchecked there.
package seccomp

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

// newNamespaces are the flags of clone and unshare that make a namespace. New
// user namespaces are how an app would get at the kernel's privileged half.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Default is the profile of every app that is not run unconfined.
func Default() Profile {
	return Profile{Allow: allowed(), Deny: denied(), Rules: rules()}
}

// rules are the calls of which some uses are allowed.
func rules() []Rule {
	socket := func(call string) Rule {
		return Rule{Call: call, Else: NotPermitted, When: []When{
			{Arg: 0, Op: OneOf, Vals: []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6}, Then: Allow},
			{Arg: 0, Op: OneOf, Vals: []uint32{unix.AF_NETLINK}, And: &Rule{
				// Netlink beyond these is configuration of firewalls, IPsec, audit. The
				// answer is what libaudit and libnl take as "this kernel has none".
				Else: NotSupported,
				When: []When{{Arg: 2, Op: OneOf, Vals: []uint32{
					unix.NETLINK_ROUTE, unix.NETLINK_SOCK_DIAG, unix.NETLINK_KOBJECT_UEVENT,
				}, Then: Allow}},
			}},
		}}
	}
	return []Rule{
		socket("socket"),
		socket("socketpair"),
		{Call: "clone", Else: Allow, When: []When{
			{Arg: 0, Op: AnyBit, Vals: []uint32{newNamespaces}, Then: NotPermitted},
		}},
		// The flags of clone3 lie in memory, where a filter cannot look. libcs take
		// ENOSYS as a request to use clone.
		{Call: "clone3", Else: NotThere},
		{Call: "unshare", Else: Allow, When: []When{
			{Arg: 0, Op: AnyBit, Vals: []uint32{newNamespaces | unix.CLONE_NEWTIME}, Then: NotPermitted},
		}},
		// Execution domains: plain Linux, 32-bit Linux, their UNAME26 forms, and the query.
		{Call: "personality", Else: NotPermitted, When: []When{
			{Arg: 0, Op: OneOf, Vals: []uint32{0x0, 0x8, 0x20000, 0x20008, 0xffffffff}, Then: Allow},
		}},
		// Both put characters into the input of a terminal, to be read by whoever
		// reads from it next.
		{Call: "ioctl", Else: Allow, When: []When{
			{Arg: 1, Op: OneOf, Vals: []uint32{unix.TIOCSTI, tiocLinux}, Then: NotPermitted},
		}},
	}
}

const tiocLinux = 0x541c // TIOCLINUX
