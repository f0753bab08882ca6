package seccomp

// Filter returns the program of the default profile for this machine, to be
// written as it is into a pod. It is made when rkt is built: `go test -update
// ./stage0/seccomp` remakes it, and the plain test fails while it differs from
// what Compile makes of Default. The caller must not change it.
func Filter() []byte { return filter }
