package compile

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// rlimits is the number of resources that have limits.
const rlimits = unix.RLIMIT_RTTIME + 1

// Rlimits reads the limits of this process.
func Rlimits() (limits [rlimits]unix.Rlimit, err error) {
	for i := range limits {
		if err := unix.Prlimit(0, i, nil, &limits[i]); err != nil {
			return limits, fmt.Errorf("read resource limit %d: %w", i, err)
		}
	}
	return limits, nil
}
