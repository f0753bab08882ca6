package callfilter

import (
	_ "embed" // for the table of numbers
	"fmt"
	"strconv"
	"strings"
)

// Arch is a machine that filters are made for, by Go's name.
type Arch string

// The machines.
const (
	AMD64 Arch = "amd64"
	ARM64 Arch = "arm64"
)

// Audit is the machine in seccomp_data.arch (AUDIT_ARCH_*).
func (a Arch) Audit() (uint32, error) {
	switch a {
	case AMD64:
		return 0xc000003e, nil
	case ARM64:
		return 0xc00000b7, nil
	}
	return 0, fmt.Errorf("no system call table for %q", string(a))
}

//go:embed syscalls.txt
var syscallTable string

// Numbers maps the names of all known system calls to their numbers on a. A
// call that a does not have maps to -1.
func (a Arch) Numbers() (map[string]int, error) {
	column := map[Arch]int{AMD64: 1, ARM64: 2}[a]
	if column == 0 {
		return nil, fmt.Errorf("no system call table for %q", string(a))
	}
	nrs := make(map[string]int, 400)
	for line := range strings.Lines(syscallTable) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		if len(f) != 3 {
			return nil, fmt.Errorf("internal error: system call table: line %q", line)
		}
		if f[column] == "-" {
			nrs[f[0]] = -1
			continue
		}
		nr, err := strconv.Atoi(f[column])
		if err != nil {
			return nil, fmt.Errorf("internal error: system call table: %w", err)
		}
		nrs[f[0]] = nr
	}
	return nrs, nil
}
