// Package seccomp holds the system call filter that apps run under: what is
// allowed, what is denied and how (Default). A run uses Filter, the compiled
// default that is part of the program; a test proves that it is what package
// callfilter makes of Default. The package knows nothing of pods.
package seccomp

import (
	"golang.org/x/sys/unix"

	"rkt/internal/callfilter"
)

// newNamespaces are the flags of clone and unshare that make a namespace. New
// user namespaces are how an app would get at the kernel's privileged half.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// Default is the profile of every app that is not run unconfined.
func Default() callfilter.Profile {
	return callfilter.Profile{Allow: allowed(), Deny: denied(), Rules: rules()}
}

// rules are the calls of which some uses are allowed.
func rules() []callfilter.Rule {
	socket := func(call string) callfilter.Rule {
		return callfilter.Rule{Call: call, Else: callfilter.NotPermitted, When: []callfilter.When{
			{Arg: 0, Op: callfilter.OneOf, Vals: []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6}, Then: callfilter.Allow},
			{Arg: 0, Op: callfilter.OneOf, Vals: []uint32{unix.AF_NETLINK}, And: &callfilter.Rule{
				// Netlink beyond these is configuration of firewalls, IPsec, audit. The
				// answer is what libaudit and libnl take as "this kernel has none".
				Else: callfilter.NotSupported,
				When: []callfilter.When{{Arg: 2, Op: callfilter.OneOf, Vals: []uint32{
					unix.NETLINK_ROUTE, unix.NETLINK_SOCK_DIAG, unix.NETLINK_KOBJECT_UEVENT,
				}, Then: callfilter.Allow}},
			}},
		}}
	}
	return []callfilter.Rule{
		socket("socket"),
		socket("socketpair"),
		{Call: "clone", Else: callfilter.Allow, When: []callfilter.When{
			{Arg: 0, Op: callfilter.AnyBit, Vals: []uint32{newNamespaces}, Then: callfilter.NotPermitted},
		}},
		// The flags of clone3 lie in memory, where a filter cannot look. libcs take
		// ENOSYS as a request to use clone.
		{Call: "clone3", Else: callfilter.NotThere},
		{Call: "unshare", Else: callfilter.Allow, When: []callfilter.When{
			{Arg: 0, Op: callfilter.AnyBit, Vals: []uint32{newNamespaces | unix.CLONE_NEWTIME}, Then: callfilter.NotPermitted},
		}},
		// Execution domains: plain Linux, 32-bit Linux, their UNAME26 forms, and the query.
		{Call: "personality", Else: callfilter.NotPermitted, When: []callfilter.When{
			{Arg: 0, Op: callfilter.OneOf, Vals: []uint32{0x0, 0x8, 0x20000, 0x20008, 0xffffffff}, Then: callfilter.Allow},
		}},
		// Both put characters into the input of a terminal, to be read by whoever
		// reads from it next.
		{Call: "ioctl", Else: callfilter.Allow, When: []callfilter.When{
			{Arg: 1, Op: callfilter.OneOf, Vals: []uint32{unix.TIOCSTI, tiocLinux}, Then: callfilter.NotPermitted},
		}},
	}
}

const tiocLinux = 0x541c // TIOCLINUX
