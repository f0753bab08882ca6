package sandbox

import (
	"embed"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"rkt/fetch/wire"
)

// The filters are made when rkt is built: `go test -update ./fetch/ingest/sandbox`
// remakes them, and the plain test fails while they differ from the profiles.
//
//go:embed *.bpf
var filters embed.FS

// filterName is the file of the filter of a role.
func filterName(role wire.Role, arch string) string { return fmt.Sprintf("%s_%s.bpf", role, arch) }

// loadFilter installs the filter of the role in all threads.
func loadFilter(role wire.Role) error {
	b, err := filters.ReadFile(filterName(role, runtime.GOARCH))
	if err != nil {
		return fmt.Errorf("%w: no filter for %s", unix.ENOSYS, runtime.GOARCH)
	}
	prog := unix.SockFprog{Len: uint16(len(b) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&b[0]))}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}
