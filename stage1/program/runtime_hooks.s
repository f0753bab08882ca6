// Empty: it lets the package declare functions without bodies, which
// go:linkname binds to those of the runtime (loop.go).
